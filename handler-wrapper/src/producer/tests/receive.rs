//! Receiving and settling.

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use serde_json::json;

use super::fake::*;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_receive_span_links_to_every_message_and_asks_for_what_it_reads() {
    let answer = Answer::Ok(json!({ "Messages": [
        { "MessageId": "m-1", "Body": "x", "MessageAttributes": { "traceparent": { "DataType": "String", "StringValue": TRACEPARENT } } },
        { "MessageId": "m-2", "Body": "x", "Attributes": { "AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1" } },
        { "MessageId": "m-3", "Body": "x" },
    ] }));
    let bench = Bench::new(Fake::answering([answer]), |interceptor| interceptor);
    let parent = Context::new().with_span(bench.provider.tracer("test").start("poll"));
    let parent_id = parent.span().span_context().span_id();
    let received = bench
        .client
        .receive_message()
        .queue_url(QUEUE)
        .send()
        .with_context(parent)
        .await
        .unwrap();
    assert_eq!(received.messages().len(), 3);

    let span = bench.span("receive orders");
    assert_eq!(kind(&span), SpanKind::Client);
    assert_eq!(span.parent_span_id, parent_id);
    assert_eq!(
        attribute(&span, "messaging.operation.type").as_deref(),
        Some("receive")
    );
    assert_eq!(
        attribute(&span, "messaging.batch.message_count").as_deref(),
        Some("3")
    );
    assert_eq!(attribute(&span, "server.port").as_deref(), Some("1"));
    assert_eq!(
        attribute(&span, "aws.request_id").as_deref(),
        Some("request-1")
    );
    assert!(span.start_time <= span.end_time);
    let links: Vec<_> = span
        .links
        .links
        .iter()
        .map(|link| {
            (
                link.span_context.span_id().to_string(),
                link.attributes.clone(),
            )
        })
        .collect();
    let id = |id| vec![KeyValue::new("messaging.message.id", id)];
    assert_eq!(
        links,
        [
            ("b7ad6b7169203331".into(), id("m-1")),
            ("53995c3f42cd8ad8".into(), id("m-2"))
        ]
    );
    let request = bench.fake.request(0);
    assert_eq!(
        request["MessageAttributeNames"],
        json!([
            "traceparent",
            "tracestate",
            "baggage",
            "X-Amzn-Trace-Id",
            "x-amzn-trace-id"
        ])
    );
    assert_eq!(
        request["MessageSystemAttributeNames"],
        json!(["AWSTraceHeader"])
    );
}

#[tokio::test]
async fn an_empty_answer_is_no_span_and_a_failed_call_is_one() {
    let bench = Bench::new(Fake::answering([Answer::Ok(json!({}))]), |interceptor| {
        interceptor
    });
    bench
        .client
        .receive_message()
        .queue_url(QUEUE)
        .send()
        .await
        .unwrap();
    assert!(bench.spans().is_empty());

    let bench = Bench::new(
        Fake::answering([Answer::Error(400, "OverLimit")]),
        |interceptor| interceptor,
    );
    bench
        .client
        .receive_message()
        .queue_url(QUEUE)
        .send()
        .await
        .unwrap_err();
    assert!(is_error(&bench.span("receive orders"), "OverLimit"));
}

#[tokio::test]
async fn a_poll_that_is_dropped_is_no_span() {
    let bench = Bench::new(Fake::answering([Answer::Hang]), |interceptor| interceptor);
    let mut poll = Box::pin(bench.client.receive_message().queue_url(QUEUE).send());
    while bench.fake.requests() == 0 {
        assert!(futures_util::poll!(&mut poll).is_pending());
        tokio::task::yield_now().await;
    }
    drop(poll);
    assert!(bench.spans().is_empty());
}

#[tokio::test]
async fn settling_is_a_span_when_asked_for() {
    let bench = Bench::plain();
    bench
        .client
        .delete_message()
        .queue_url(QUEUE)
        .receipt_handle("secret")
        .send()
        .await
        .unwrap();
    assert!(bench.spans().is_empty());

    let bench = Bench::new(Fake::default(), |interceptor| {
        interceptor.settle_spans(true)
    });
    bench
        .client
        .delete_message()
        .queue_url(QUEUE)
        .receipt_handle("secret")
        .send()
        .await
        .unwrap();
    let change = bench
        .client
        .change_message_visibility()
        .queue_url(QUEUE)
        .receipt_handle("secret");
    change.visibility_timeout(0).send().await.unwrap();
    for name in ["delete orders", "change_visibility orders"] {
        let span = bench.span(name);
        assert_eq!(kind(&span), SpanKind::Client);
        assert_eq!(span.status, Status::Unset);
        assert_eq!(
            attribute(&span, "messaging.operation.type").as_deref(),
            Some("settle")
        );
        // A receipt handle authorises deletion.
        assert!(!format!("{:?}", span.attributes).contains("secret"));
    }
}

#[tokio::test]
async fn a_batch_of_deletes_fails_with_the_code_of_its_entries() {
    let answer = Answer::Ok(json!({
        "Successful": [{ "Id": "a" }],
        "Failed": [{ "Id": "b", "Code": "ReceiptHandleIsInvalid", "SenderFault": true }],
    }));
    let bench = Bench::new(Fake::answering([answer]), |interceptor| {
        interceptor.settle_spans(true)
    });
    let entry = |id: &str| {
        DeleteMessageBatchRequestEntry::builder()
            .id(id)
            .receipt_handle("r")
            .build()
            .unwrap()
    };
    let delete = bench
        .client
        .delete_message_batch()
        .queue_url(QUEUE)
        .entries(entry("a"))
        .entries(entry("b"));
    delete.send().await.unwrap();
    let span = bench.span("delete orders");
    assert!(is_error(&span, "ReceiptHandleIsInvalid"));
    assert_eq!(
        attribute(&span, "messaging.batch.message_count").as_deref(),
        Some("2")
    );
}

#[tokio::test]
async fn a_panic_of_ours_is_not_the_callers() {
    let options = crate::parent::ContextOptions::default()
        .with_carrier(|_| panic!("a carrier of the user's"));
    let answer = Answer::Ok(json!({ "Messages": [{ "MessageId": "m-1", "Body": "x" }] }));
    let bench = Bench::new(Fake::answering([answer]), |interceptor| {
        interceptor.context(options)
    });
    let received = bench
        .client
        .receive_message()
        .queue_url(QUEUE)
        .send()
        .await
        .unwrap();
    assert_eq!(received.messages().len(), 1);
}

#[tokio::test]
async fn a_panicking_sampler_costs_the_context_and_not_the_message() {
    #[derive(Clone, Debug)]
    struct Panics;
    impl opentelemetry_sdk::trace::ShouldSample for Panics {
        fn should_sample(
            &self,
            _: Option<&Context>,
            _: opentelemetry::TraceId,
            _: &str,
            _: &SpanKind,
            _: &[KeyValue],
            _: &[opentelemetry::trace::Link],
        ) -> opentelemetry_sdk::trace::SamplingResult {
            panic!("a sampler of the user's")
        }
    }
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_sampler(Panics)
        .build();
    let fake = Fake::default();
    let client = client(
        &fake,
        crate::producer::Interceptor::new().with_tracer_provider(&provider),
    );
    client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .await
        .unwrap();
    assert!(fake.request(0).get("MessageAttributes").is_none());
}
