//! The sink's OTLP/gRPC side. Here a library writes the answer, so the timeline has it a moment before it is on the
//! wire, which keeps the order of causes.

use super::{
    ReceivedRequest, Shared, Signal,
    answer::{Reply, Written},
    decode::{self, Decoded},
};
use crate::{clock::Moment, timeline::Event};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    codec::CompressionEncoding::Gzip,
    metadata::KeyAndValueRef,
    transport::{Server, ServerTlsConfig},
};

/// Largest message taken.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Serves until dropped.
pub(super) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<ServerTlsConfig>,
) -> io::Result<()> {
    let service = Service(shared);
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).map_err(io::Error::other)?;
    }
    let traces = TraceServiceServer::new(service.clone());
    let metrics = MetricsServiceServer::new(service.clone());
    let logs = LogsServiceServer::new(service);
    server
        .add_service(
            traces
                .accept_compressed(Gzip)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            metrics
                .accept_compressed(Gzip)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            logs.accept_compressed(Gzip)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .map_err(io::Error::other)
}

#[derive(Clone)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(Signal::Traces, request).await
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.take(Signal::Metrics, request).await
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.take(Signal::Logs, request).await
    }
}

impl Service {
    async fn take<Q: Message, A: Message + Default>(
        &self,
        signal: Signal,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let shared = &self.0;
        let answer = shared.next_answer();
        let headers = headers(&request);
        let body = request.into_inner().encode_to_vec();
        let decoded = decode::decode(signal, &body).unwrap_or_default();
        let reply = answer.resolve(body.len(), &decoded);
        let number = arrived(shared, signal, headers, body, decoded);
        let Reply { wait, written, .. } = reply;
        tokio::time::sleep(wait).await;
        let Some(written) = written else {
            return std::future::pending().await;
        };
        let code = code(&written);
        let status = if code == Code::Ok {
            200
        } else {
            written.status.max(400)
        };
        shared.decided(number, status, written.rejected);
        let told = u16::try_from(i32::from(code)).unwrap_or(u16::MAX);
        let at = shared.timeline.record(
            &shared.source,
            Event::SinkRequestAnswered {
                number,
                status: told,
            },
        );
        shared.acknowledged(number, at);
        if code != Code::Ok {
            return Err(Status::with_details(
                code,
                written.message.clone(),
                details(code, &written),
            ));
        }
        let said = if written.rejected > 0 {
            written.message.as_str()
        } else {
            ""
        };
        let body = decode::response(signal, written.rejected, said);
        Ok(Response::new(
            A::decode(body.as_slice()).expect("it was encoded as this type"),
        ))
    }
}

fn headers<T>(request: &Request<T>) -> Vec<(String, String)> {
    let pairs = request.metadata().iter().map(|pair| match pair {
        KeyAndValueRef::Ascii(key, value) => (
            key.to_string(),
            value.to_str().unwrap_or_default().to_owned(),
        ),
        KeyAndValueRef::Binary(key, value) => (key.to_string(), format!("{value:?}")),
    });
    pairs.collect()
}

fn arrived(
    shared: &Shared,
    signal: Signal,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    decoded: Decoded,
) -> usize {
    let request = ReceivedRequest {
        number: 0,
        signal: Some(signal),
        path: format!("grpc:{}", signal.as_str()),
        headers,
        wire_bytes: body.len(),
        body: Bytes::from(body),
        items: decoded.items,
        decode_error: None,
        connection: usize::MAX,
        arrived: Moment::now(),
        taken: false,
        rejected: 0,
        status: None,
        acknowledged: None,
    };
    shared.arrived(request, decoded)
}

/// The gRPC code of a scripted answer: its own, or the usual one for an HTTP status.
fn code(written: &Written) -> Code {
    match (written.grpc, written.status) {
        (Some(code), _) => Code::from(code),
        (None, 200..300) => Code::Ok,
        (None, 400) => Code::InvalidArgument,
        (None, 401) => Code::Unauthenticated,
        (None, 403) => Code::PermissionDenied,
        (None, 404) => Code::Unimplemented,
        (None, 413 | 429) => Code::ResourceExhausted,
        (None, 502 | 503) => Code::Unavailable,
        (None, 504) => Code::DeadlineExceeded,
        (None, 500) => Code::Internal,
        (None, _) => Code::Unknown,
    }
}

/// `google.rpc.Status` with a `google.rpc.RetryInfo`, which is how gRPC says `Retry-After`; else nothing.
fn details(code: Code, written: &Written) -> Bytes {
    let Some(after) = written
        .retry_after
        .as_deref()
        .and_then(|text| text.parse::<f64>().ok())
    else {
        return Bytes::new();
    };
    let after = Duration::from_secs_f64(after.max(0.0));
    let delay = Delay {
        seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(after.subsec_nanos()).unwrap_or(0),
    };
    let info = AnyMessage {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
        value: RetryInfo {
            retry_delay: Some(delay),
        }
        .encode_to_vec(),
    };
    let status = RpcStatus {
        code: i32::from(code),
        message: written.message.clone(),
        details: vec![info],
    };
    status.encode_to_vec().into()
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
