//! The gRPC receiver against tonic's client and against hand-made frames.

use std::sync::Mutex;

use http_body_util::Full;
use hyper::client::conn::http2 as client;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::mpsc;
use tonic::codec::CompressionEncoding;

use super::*;
use crate::buffer::Buffer;
use crate::receiver;

/// A receiver on a free port, and its buffer.
struct Receiver {
    address: std::net::SocketAddr,
    buffer: Arc<Mutex<Buffer>>,
    intake: Intake,
}

impl Receiver {
    async fn start() -> Self {
        let buffer = Arc::new(Mutex::new(Buffer::new(8 << 20, 8 << 20)));
        let intake = Intake::new(buffer.clone(), mpsc::channel(1).0);
        let listener = receiver::bind(0).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = intake.clone();
        tokio::spawn(receiver::accept(listener, move |stream, slot| {
            serve(stream, slot, serving.clone())
        }));
        Self {
            address,
            buffer,
            intake,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything of a signal that is waiting in the buffer.
    fn took(&self, signal: Signal) -> Vec<u8> {
        let mut buffer = self.buffer.lock().unwrap();
        let mark = buffer.mark();
        buffer
            .take(signal, mark)
            .map(|batch| batch.chunks().concat())
            .unwrap_or_default()
    }

    /// Makes one call with a body of our own and returns `grpc-status` and `grpc-message`.
    async fn call(&self, path: &str, encoding: Option<&str>, body: Vec<u8>) -> (u16, String) {
        let response = self.request("application/grpc", path, encoding, body).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        let trailers = response
            .into_body()
            .collect()
            .await
            .unwrap()
            .trailers()
            .cloned();
        let status = trailers.unwrap_or(headers);
        let text = |name| {
            status
                .get(name)
                .map_or("", |value: &HeaderValue| value.to_str().unwrap())
        };
        (
            text("grpc-status").parse().unwrap(),
            text("grpc-message").to_owned(),
        )
    }

    async fn request(
        &self,
        content_type: &str,
        path: &str,
        encoding: Option<&str>,
        body: Vec<u8>,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, connection) = client::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let mut request =
            Request::post(format!("{}{path}", self.url())).header(CONTENT_TYPE, content_type);
        if let Some(encoding) = encoding {
            request = request.header(GRPC_ENCODING, encoding);
        }
        sender
            .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap()
    }
}

fn traces(names: impl IntoIterator<Item = String>) -> ExportTraceServiceRequest {
    let spans = names
        .into_iter()
        .map(|name| Span {
            name,
            ..Default::default()
        })
        .collect();
    let scope_spans = vec![ScopeSpans {
        spans,
        ..Default::default()
    }];
    let resource_spans = vec![ResourceSpans {
        scope_spans,
        ..Default::default()
    }];
    ExportTraceServiceRequest { resource_spans }
}

fn logs() -> ExportLogsServiceRequest {
    let log_records = vec![LogRecord {
        time_unix_nano: 1,
        ..Default::default()
    }];
    let scope_logs = vec![ScopeLogs {
        log_records,
        ..Default::default()
    }];
    let resource_logs = vec![ResourceLogs {
        scope_logs,
        ..Default::default()
    }];
    ExportLogsServiceRequest { resource_logs }
}

fn metrics() -> ExportMetricsServiceRequest {
    let data_points = vec![NumberDataPoint {
        time_unix_nano: 1,
        ..Default::default()
    }];
    let data = Some(Data::Gauge(Gauge { data_points }));
    let metrics = vec![Metric {
        data,
        ..Default::default()
    }];
    let scope_metrics = vec![ScopeMetrics {
        metrics,
        ..Default::default()
    }];
    let resource_metrics = vec![ResourceMetrics {
        scope_metrics,
        ..Default::default()
    }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    [&[flag], (length as u32).to_be_bytes().as_slice(), message].concat()
}

#[tokio::test]
async fn tonics_client_exports_every_signal() {
    let receiver = Receiver::start().await;
    for gzip in [false, true] {
        let mut traces_client = TraceServiceClient::connect(receiver.url()).await.unwrap();
        let mut metrics_client = MetricsServiceClient::connect(receiver.url()).await.unwrap();
        let mut logs_client = LogsServiceClient::connect(receiver.url()).await.unwrap();
        if gzip {
            traces_client = traces_client.send_compressed(CompressionEncoding::Gzip);
            metrics_client = metrics_client.send_compressed(CompressionEncoding::Gzip);
            logs_client = logs_client.send_compressed(CompressionEncoding::Gzip);
        }
        let sent = traces((0..100).map(|at| format!("span {at}")));
        let answer = traces_client.export(sent.clone()).await.unwrap();
        assert_eq!(answer.into_inner().partial_success, None);
        metrics_client.export(metrics()).await.unwrap();
        logs_client.export(logs()).await.unwrap();
        assert_eq!(receiver.took(Signal::Traces), sent.encode_to_vec());
        assert_eq!(receiver.took(Signal::Metrics), metrics().encode_to_vec());
        assert_eq!(receiver.took(Signal::Logs), logs().encode_to_vec());
    }
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let receiver = Receiver::start().await;
    let client = TraceServiceClient::connect(receiver.url()).await.unwrap();
    let calls = (0..50).map(|at| {
        let mut client = client.clone();
        async move { client.export(traces([format!("{at}")])).await.unwrap() }
    });
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(
        otlp::count(Signal::Traces, &receiver.took(Signal::Traces)),
        Ok(50)
    );
}

// Pairs at the bound: a message of 4 MiB just works, one byte more does not.
#[tokio::test]
async fn the_largest_message() {
    let receiver = Receiver::start().await;
    let of = |bytes: usize| {
        let around = traces([String::new()]).encoded_len();
        let guess = traces(["x".repeat(bytes - around - 16)]).encoded_len();
        let request = traces(["x".repeat(bytes - around - 16 + bytes - guess)]);
        assert_eq!(request.encoded_len(), bytes);
        request
    };
    let mut client = TraceServiceClient::connect(receiver.url()).await.unwrap();
    client.export(of(BODY_BYTES_MAX)).await.unwrap();
    let error = client.export(of(BODY_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("4194304"), "{error}");
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    let error = client.export(of(BODY_BYTES_MAX + 1)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    client.export(of(BODY_BYTES_MAX)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_export_is_answered_with_its_code() {
    let receiver = Receiver::start().await;
    let path = Signal::Traces.grpc_path();
    let good = traces(["a".to_owned()]).encode_to_vec();
    let packed = otlp::gzip([good.as_slice()]);
    let table = [
        (path, None, framed(0, good.len(), &good), 0, ""),
        (path, None, framed(0, 0, b""), 0, ""),
        (path, Some("gzip"), framed(1, packed.len(), &packed), 0, ""),
        (path, Some("gzip"), framed(0, good.len(), &good), 0, ""),
        (path, None, framed(1, packed.len(), &packed), 12, "gzip"),
        (path, Some("zstd"), framed(1, good.len(), &good), 12, "gzip"),
        (path, Some("gzip"), framed(1, good.len(), &good), 3, "gzip"),
        (path, None, framed(2, good.len(), &good), 3, "flag"),
        (path, None, framed(0, good.len() + 1, &good), 3, "says"),
        (path, None, framed(0, good.len() - 1, &good), 3, "says"),
        (path, None, framed(0, u32::MAX as usize, &good), 8, "larger"),
        (path, None, framed(0, 3, b"\x0a\x09x"), 3, "protobuf"),
        (path, None, b"\0\0".to_vec(), 3, "no message"),
        (path, None, vec![], 3, "no message"),
        (
            "/grpc.health.v1.Health/Check",
            None,
            framed(0, 0, b""),
            12,
            "no method /grpc.health",
        ),
        (
            "/x%C3%A4/%25",
            None,
            framed(0, 0, b""),
            12,
            "no method /x%25C3%25A4/%2525",
        ),
    ];
    for (path, encoding, body, code, message) in table {
        let shown = format!("{path} {encoding:?} {body:x?}");
        let (status, said) = receiver.call(path, encoding, body).await;
        assert_eq!(status, code, "{shown}: {said}");
        assert!(said.contains(message), "{shown}: {said}");
    }
    let taken = receiver.took(Signal::Traces);
    assert_eq!(otlp::count(Signal::Traces, &taken), Ok(3));
}

#[tokio::test]
async fn other_content_types_are_not_grpc() {
    let receiver = Receiver::start().await;
    let path = Signal::Traces.grpc_path();
    for (content_type, status) in [
        ("application/grpc", 200),
        ("application/grpc+proto", 200),
        ("application/grpc; charset=utf-8", 200),
        ("application/grpc-web", 415),
        ("application/json", 415),
    ] {
        let response = receiver
            .request(content_type, path, None, framed(0, 0, b""))
            .await;
        assert_eq!(response.status(), status, "{content_type}");
    }
}

#[tokio::test]
async fn a_full_receiver_says_come_again() {
    let receiver = Receiver::start().await;
    let mut held = receiver.intake.reserve(0).unwrap();
    while held.grow(1 << 20) {}
    let good = traces(["x".repeat(1 << 20)]).encode_to_vec();
    let path = Signal::Traces.grpc_path();
    let busy = receiver
        .call(path, None, framed(0, good.len(), &good))
        .await;
    assert_eq!(busy.0, 14, "{busy:?}");
    drop(held);
    assert_eq!(
        receiver
            .call(path, None, framed(0, good.len(), &good))
            .await
            .0,
        0
    );
}
