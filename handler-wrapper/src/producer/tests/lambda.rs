//! Sending from inside a handler: its record is the parent, and Lambda's lineage goes on.

use std::sync::Arc;

use lambda_runtime::LambdaEvent;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use serde_json::json;
use tower::Service as _;

use super::fake::*;
use crate::producer::{Interceptor, XrayHeader};
use crate::{SqsMessage, Telemetry, traced_sqs_handler};

#[tokio::test]
async fn a_handler_that_sends_is_the_parent_and_keeps_the_lineage() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let fake = Fake::default();
    let interceptor = Interceptor::new()
        .with_tracer_provider(&provider)
        .xray_header(XrayHeader::Always);
    let client = Arc::new(client(&fake, interceptor));
    let mut handler = traced_sqs_handler(move |_: SqsMessage| {
        let client = client.clone();
        async move {
            client
                .send_message()
                .queue_url(QUEUE)
                .message_body("x")
                .send()
                .await
                .map(drop)
        }
    })
    .telemetry(&Telemetry::from_provider(provider));

    let record = json!({
        "messageId": "m-0", "body": "x", "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:incoming",
    });
    let mut context = lambda_runtime::Context::default();
    context.request_id = "r-1".into();
    context.xray_trace_id =
        Some("Root=1-66ca4895-3f6cef844dab67fb6f6461a4;Sampled=0;Lineage=1:d4d48d4d:3".into());
    let batch = serde_json::from_value(json!({ "Records": [record] })).unwrap();
    handler
        .call(LambdaEvent::new(batch, context))
        .await
        .unwrap();

    let spans = exporter.get_finished_spans().unwrap();
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (record, send) = (named("process incoming"), named("send orders"));
    assert_eq!(send.parent_span_id, record.span_context.span_id());
    let message = fake.request(0);
    assert_eq!(sent(&message, "traceparent"), Some(traceparent_of(send)));
    let header = message["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"]
        .as_str()
        .unwrap();
    assert!(
        header.ends_with(";Sampled=1;Lineage=1:d4d48d4d:3;Tl=1"),
        "{header}"
    );
}
