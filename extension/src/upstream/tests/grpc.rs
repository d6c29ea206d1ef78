//! Upstream against tonic's server, which decodes for itself.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::*;

type Result = std::result::Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status>;

/// A collector that answers as it is told and reports what it decoded.
pub(super) struct Collector {
    pub(super) answer: fn() -> Result,
    pub(super) seen:
        mpsc::UnboundedSender<(ExportTraceServiceRequest, tonic::metadata::MetadataMap)>,
}

pub(super) type Requests =
    mpsc::UnboundedReceiver<(ExportTraceServiceRequest, tonic::metadata::MetadataMap)>;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: tonic::Request<ExportTraceServiceRequest>) -> Result {
        let (metadata, _, request) = request.into_parts();
        let _ = self.seen.send((request, metadata));
        (self.answer)()
    }
}

pub(super) fn accepted_by_tonic() -> Result {
    Ok(tonic::Response::new(ExportTraceServiceResponse {
        partial_success: None,
    }))
}

/// Starts a collector; `server` decides about TLS.
pub(super) async fn collect(mut server: Server, answer: fn() -> Result) -> (SocketAddr, Requests) {
    let (seen, requests) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector { answer, seen })
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(64 * 1024);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(server.add_service(service).serve_with_incoming(incoming));
    (address, requests)
}

pub(super) fn grpc_to(url: &str) -> Destination {
    Destination {
        protocol: Protocol::Grpc,
        ..destination(url)
    }
}

pub(super) fn spans(names: &[&str]) -> ExportTraceServiceRequest {
    let span = |name: &&str| Span {
        name: (*name).to_owned(),
        ..Default::default()
    };
    let scope_spans = ScopeSpans {
        spans: names.iter().map(span).collect(),
        ..Default::default()
    };
    let one = ResourceSpans {
        scope_spans: vec![scope_spans],
        ..Default::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![one],
    }
}

async fn send_to(answer: fn() -> Result, request: &ExportTraceServiceRequest) -> Outcome {
    let (address, _requests) = collect(Server::builder(), answer).await;
    let upstream = traces_to(grpc_to(&format!("http://{address}")));
    upstream
        .send(Signal::Traces, vec![request.encode_to_vec().into()])
        .await
}

#[tokio::test]
async fn tonics_server_decodes_what_was_sent() {
    for compression in [Compression::None, Compression::Gzip] {
        let (address, mut requests) = collect(Server::builder(), accepted_by_tonic).await;
        let grpc = Destination {
            compression,
            ..grpc_to(&format!("http://{address}"))
        };
        let upstream = traces_to(grpc);
        upstream.warm(Signal::Traces).await;
        for _ in 0..3 {
            // Two requests after one another are one.
            let chunks = [spans(&["a", "b"]), spans(&["c"])];
            let chunks = chunks
                .iter()
                .map(|chunk| chunk.encode_to_vec().into())
                .collect();
            assert_eq!(upstream.send(Signal::Traces, chunks).await, accepted());
            let (request, metadata) = requests.recv().await.unwrap();
            let names = request
                .resource_spans
                .iter()
                .flat_map(|one| &one.scope_spans);
            let names: Vec<_> = names
                .flat_map(|two| &two.spans)
                .map(|span| &span.name)
                .collect();
            assert_eq!(names, ["a", "b", "c"]);
            assert_eq!(metadata.get("x-api-key").unwrap(), "k 1");
            assert_eq!(metadata.get("grpc-timeout").unwrap(), "30000m");
        }
    }
}

#[tokio::test]
async fn codes_become_outcomes() {
    let request = spans(&["a"]);
    let retryable = |status: &str| Outcome::Retryable {
        status: status.into(),
        after: None,
    };
    let partial = || {
        let error_message = "old".to_owned();
        let partial = ExportTracePartialSuccess {
            rejected_spans: 1,
            error_message,
        };
        Ok(tonic::Response::new(ExportTraceServiceResponse {
            partial_success: Some(partial),
        }))
    };
    let rejected = Outcome::Accepted {
        rejected: 1,
        message: "old".into(),
    };
    assert_eq!(send_to(partial, &request).await, rejected);
    let unavailable: fn() -> Result = || Err(tonic::Status::unavailable("later"));
    assert_eq!(
        send_to(unavailable, &request).await,
        retryable("UNAVAILABLE")
    );
    let outcome = send_to(|| Err(tonic::Status::invalid_argument("100% ä")), &request).await;
    let refused = |status: &str, message: &str| Outcome::Refused {
        status: status.into(),
        message: message.into(),
    };
    assert_eq!(outcome, refused("INVALID_ARGUMENT", "100% ä"));
    let outcome = send_to(|| Err(tonic::Status::unauthenticated("who")), &request).await;
    assert_eq!(
        outcome,
        Outcome::Unauthorized {
            status: "UNAUTHENTICATED".into()
        }
    );
    let large = spans(&[&"x".repeat(65 * 1024)]);
    assert_eq!(send_to(accepted_by_tonic, &large).await, Outcome::TooLarge);
}

#[tokio::test]
async fn a_delay_in_the_status_details_is_read() {
    // google.rpc.Status { code: 8, details: [RetryInfo { retry_delay: 2 s }] }
    let outcome = send_to(
        || {
            let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x02";
            let details = [b"\x08\x08\x1a", [any.len() as u8].as_slice(), any].concat();
            Err(tonic::Status::with_details(
                tonic::Code::ResourceExhausted,
                "slow",
                details.into(),
            ))
        },
        &spans(&["a"]),
    )
    .await;
    let after = Some(Duration::from_secs(2));
    assert_eq!(
        outcome,
        Outcome::Retryable {
            status: "RESOURCE_EXHAUSTED".into(),
            after
        }
    );
}

#[tokio::test]
async fn a_service_that_is_not_there_is_refused() {
    let (address, _requests) = collect(Server::builder(), accepted_by_tonic).await;
    let upstream = Upstream::new(UpstreamSettings {
        destinations: [None, None, Some(grpc_to(&format!("http://{address}")))],
        ..UpstreamSettings::default()
    });
    let outcome = upstream.send(Signal::Logs, vec![]).await;
    let Outcome::Refused { status, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(status, "UNIMPLEMENTED");
}

#[tokio::test]
async fn a_dropped_call_takes_its_connection_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = traces_to(grpc_to(&format!(
        "http://{}",
        listener.local_addr().unwrap()
    )));
    let (mut stream, mut bytes) = tokio::select! {
        outcome = upstream.send(Signal::Traces, chunks()) => panic!("{outcome:?}"),
        read = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_buf(&mut bytes).await.unwrap();
            (stream, bytes)
        } => read,
    };
    assert!(bytes.starts_with(b"PRI * HTTP/2.0"));
    // The socket is closed with the future; nothing else runs that could hold it.
    let _ = stream.read_to_end(&mut bytes).await;
}

// A server that is no gRPC one: HTTP/1.1 bytes in place of HTTP/2 frames.
#[tokio::test]
async fn an_http_1_server_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = traces_to(grpc_to(&format!(
        "http://{}",
        listener.local_addr().unwrap()
    )));
    let (outcome, ()) = tokio::join!(upstream.send(Signal::Traces, chunks()), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await;
    });
    assert!(matches!(outcome, Outcome::Lost { .. }), "{outcome:?}");
}
