//! The example of a worker, as a process of its own, from its first poll to SIGTERM.

use std::time::Duration;

use it::binary;
use lambda_emulator::OtlpSink;
use opentelemetry::TraceFlags;
use opentelemetry::trace::FutureExt;
use tokio::process::Command;

use super::bench::{Bench, PATIENCE, Server};
use super::caller;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_continues_the_trace_and_ends_when_told() {
    let server = Server::ours().await;
    let sink = OtlpSink::start().await.unwrap();
    let bench = Bench::new(&server, |interceptor| interceptor);
    let queue = bench.queue("orders", &[]).await;
    let send = bench
        .client
        .send_message()
        .queue_url(&queue)
        .message_body(r#"{"id":"o-1","amount":3}"#)
        .send();
    send.with_context(caller(TraceFlags::SAMPLED))
        .await
        .unwrap();
    let producer = bench.span("send orders").span_context;

    let mut worker = Command::new(binary("example-worker"))
        .env_remove("AWS_LAMBDA_FUNCTION_NAME")
        .env("ORDERS_QUEUE_URL", &queue)
        .env("AWS_ENDPOINT_URL_SQS", server.url())
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .env("OTEL_SERVICE_NAME", "worker")
        // Nobody listens there: a worker has no extension.
        .env("THROUGHLINE_HTTP_PORT", "9")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // The record of the message, the span inside it, its deletion, and the poll it came with.
    let came = sink
        .wait_for_spans(4, PATIENCE)
        .await
        .expect("four spans come");
    let pid = worker.id().unwrap().to_string();
    let told = Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .unwrap();
    assert!(told.success());
    let ended = tokio::time::timeout(Duration::from_secs(30), worker.wait()).await;
    assert!(ended.expect("the worker ends").unwrap().success());

    let spans = sink.spans();
    let named = |name: &str| {
        let span = spans.iter().find(|span| span.name == name);
        span.unwrap_or_else(|| panic!("no span {name:?} among {came:?}"))
    };
    let process = named("process orders");
    assert_eq!(process.trace_id, producer.trace_id().to_string());
    assert_eq!(process.parent_span_id, producer.span_id().to_string());
    assert_eq!(named("charge").parent_span_id, process.span_id);
    assert_eq!(named("delete orders").parent_span_id, process.span_id);
    let receive = named("receive orders");
    assert_eq!(receive.links.len(), 1);
    assert_eq!(receive.links[0].span_id, producer.span_id().to_string());
}
