//! Which spans a call makes, what they say, and what the messages carry.

use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use serde_json::json;

use super::fake::*;

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .unwrap()
}

fn entry(id: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder()
        .id(id)
        .message_body("hello")
        .build()
        .unwrap()
}

pub(super) const CUSTOM: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_message_carries_the_context_of_its_send_span() {
    let bench = Bench::plain();
    let parent = Context::new().with_span(bench.provider.tracer("test").start("parent"));
    let parent_id = parent.span().span_context().span_id();
    let send = bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("hello")
        .send();
    send.with_context(parent).await.unwrap();

    let span = bench.span("send orders");
    assert_eq!(kind(&span), SpanKind::Producer);
    assert_eq!(span.parent_span_id, parent_id);
    assert_eq!(span.status, Status::Unset);
    for (key, value) in [
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "orders"),
        ("messaging.message.id", "m-1"),
        ("aws.sqs.queue.url", QUEUE),
        ("aws.request_id", "request-1"),
        ("server.address", "127.0.0.1"),
        ("server.port", "1"),
    ] {
        assert_eq!(attribute(&span, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(attribute(&span, "error.type"), None);
    assert_eq!(attribute(&span, "messaging.batch.message_count"), None);
    let message = bench.fake.request(0);
    assert_eq!(sent(&message, "traceparent"), Some(traceparent_of(&span)));
    // An empty value would make SQS refuse the message.
    assert_eq!(message["MessageAttributes"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn tracestate_and_baggage_go_along_when_there_are_any() {
    use opentelemetry::baggage::BaggageExt;
    use opentelemetry::trace::{SpanContext, TraceState};
    let bench = Bench::plain();
    let (of_custom, _) = crate::parent::w3c::Traceparent::parse(CUSTOM)
        .unwrap()
        .into_span_context(None);
    let state = TraceState::from_key_value([("vendor", "1")]).unwrap();
    let remote = SpanContext::new(
        of_custom.trace_id(),
        of_custom.span_id(),
        of_custom.trace_flags(),
        true,
        state,
    );
    let parent = Context::new()
        .with_remote_span_context(remote)
        .with_baggage([KeyValue::new("tenant", "a b%")]);
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .with_context(parent)
        .await
        .unwrap();
    let message = bench.fake.request(0);
    assert_eq!(sent(&message, "tracestate").as_deref(), Some("vendor=1"));
    assert_eq!(
        sent(&message, "baggage").as_deref(),
        Some("tenant=a%20b%25")
    );
}

#[tokio::test]
async fn each_entry_of_a_batch_carries_the_context_of_its_own_create_span() {
    let bench = Bench::plain();
    let batch = bench
        .client
        .send_message_batch()
        .queue_url(QUEUE)
        .entries(entry("a"))
        .entries(entry("b"));
    batch.send().await.unwrap();
    let creates: Vec<_> = bench
        .spans()
        .into_iter()
        .filter(|span| span.name == "create orders")
        .collect();
    assert_eq!(creates.len(), 2);
    let send = bench.span("send orders");
    assert_eq!(kind(&send), SpanKind::Client);
    assert_eq!(
        attribute(&send, "messaging.batch.message_count").as_deref(),
        Some("2")
    );
    assert_eq!(attribute(&send, "messaging.message.id"), None);
    let request = bench.fake.request(0);
    for (number, id) in ["a", "b"].into_iter().enumerate() {
        let create = &creates[number];
        assert_eq!(kind(create), SpanKind::Producer);
        assert_eq!(
            attribute(create, "messaging.operation.type").as_deref(),
            Some("create")
        );
        assert_eq!(
            attribute(create, "messaging.message.id"),
            Some(format!("m-{id}"))
        );
        assert_eq!(
            sent(&request["Entries"][number], "traceparent"),
            Some(traceparent_of(create))
        );
        let link = &send.links.links[number];
        assert_eq!(link.span_context.span_id(), create.span_context.span_id());
        assert_eq!(
            link.attributes,
            [KeyValue::new("messaging.message.id", format!("m-{id}"))]
        );
    }
}

#[tokio::test]
async fn without_create_spans_every_entry_carries_the_send_span() {
    let bench = Bench::new(Fake::default(), |interceptor| {
        interceptor.create_spans(false)
    });
    let batch = bench
        .client
        .send_message_batch()
        .queue_url(QUEUE)
        .entries(entry("a"))
        .entries(entry("b"));
    batch.send().await.unwrap();
    assert_eq!(bench.spans().len(), 1);
    let send = bench.span("send orders");
    assert_eq!(kind(&send), SpanKind::Producer);
    assert!(send.links.links.is_empty());
    let request = bench.fake.request(0);
    for number in 0..2 {
        assert_eq!(
            sent(&request["Entries"][number], "traceparent"),
            Some(traceparent_of(&send))
        );
    }
}

#[tokio::test]
async fn a_traceparent_of_the_callers_is_kept_and_linked() {
    for name in ["traceparent", "TraceParent"] {
        let bench = Bench::plain();
        let send = bench
            .client
            .send_message()
            .queue_url(QUEUE)
            .message_body("x")
            .message_attributes(name, text(CUSTOM));
        send.send().await.unwrap();
        let span = bench.span("send orders");
        assert_eq!(kind(&span), SpanKind::Client);
        assert_eq!(span.links.links.len(), 1);
        assert_eq!(
            span.links.links[0].span_context.span_id().to_string(),
            "b7ad6b7169203331"
        );
        let message = bench.fake.request(0);
        assert_eq!(sent(&message, name).as_deref(), Some(CUSTOM));
        assert_eq!(message["MessageAttributes"].as_object().unwrap().len(), 1);
        assert!(message.get("MessageSystemAttributes").is_none());
    }
}

#[tokio::test]
async fn in_a_batch_only_the_entry_with_its_own_context_is_left_alone() {
    let bench = Bench::plain();
    let custom = SendMessageBatchRequestEntry::builder()
        .id("a")
        .message_body("x")
        .message_attributes("traceparent", text(CUSTOM))
        .build()
        .unwrap();
    let batch = bench
        .client
        .send_message_batch()
        .queue_url(QUEUE)
        .entries(custom)
        .entries(entry("b"));
    batch.send().await.unwrap();
    let create = bench.span("create orders");
    let send = bench.span("send orders");
    let request = bench.fake.request(0);
    assert_eq!(
        sent(&request["Entries"][0], "traceparent").as_deref(),
        Some(CUSTOM)
    );
    assert_eq!(
        sent(&request["Entries"][1], "traceparent"),
        Some(traceparent_of(&create))
    );
    let links: Vec<_> = send
        .links
        .links
        .iter()
        .map(|link| link.attributes[0].value.as_str().into_owned())
        .collect();
    assert_eq!(links, ["m-b", "m-a"]);
}

#[tokio::test]
async fn entries_that_failed_say_so_on_their_own_spans() {
    let failed = |id: &str, code: &str| json!({ "Id": id, "Code": code, "SenderFault": true });
    let ok = json!({ "Id": "a", "MessageId": "m-a", "MD5OfMessageBody": "x" });
    for (failures, expected) in [
        (
            vec![failed("b", "InvalidMessageContents")],
            "InvalidMessageContents",
        ),
        (
            vec![
                failed("b", "InvalidMessageContents"),
                failed("c", "InternalError"),
            ],
            "_OTHER",
        ),
    ] {
        let answer = Answer::Ok(json!({ "Successful": [ok], "Failed": failures }));
        let bench = Bench::new(Fake::answering([answer]), |interceptor| interceptor);
        let mut batch = bench
            .client
            .send_message_batch()
            .queue_url(QUEUE)
            .entries(entry("a"))
            .entries(entry("b"));
        if failures.len() == 2 {
            batch = batch.entries(entry("c"));
        }
        batch.send().await.unwrap();
        let creates: Vec<_> = bench
            .spans()
            .into_iter()
            .filter(|span| span.name == "create orders")
            .collect();
        assert_eq!(creates[0].status, Status::Unset);
        for (create, failure) in creates[1..].iter().zip(&failures) {
            assert!(is_error(create, failure["Code"].as_str().unwrap()));
        }
        assert!(is_error(&bench.span("send orders"), expected));
    }
}

#[tokio::test]
async fn error_types_are_codes_or_one_of_three_words() {
    let no_queue = Answer::Error(400, "AWS.SimpleQueueService.NonExistentQueue");
    for (answers, expected, attempts) in [
        (vec![no_queue], "AWS.SimpleQueueService.NonExistentQueue", 1),
        (vec![Answer::Refused; 3], "io", 3),
    ] {
        let bench = Bench::new(Fake::answering(answers), |interceptor| interceptor);
        let send = bench
            .client
            .send_message()
            .queue_url(QUEUE)
            .message_body("x");
        send.send().await.unwrap_err();
        // All retries are inside one span.
        assert_eq!(bench.fake.requests(), attempts);
        assert!(
            is_error(&bench.span("send orders"), expected),
            "{:?}",
            bench.spans()
        );
    }
}

#[tokio::test]
async fn a_retry_that_helps_leaves_one_span_without_an_error() {
    let bench = Bench::new(
        Fake::answering([Answer::Error(503, "ServiceUnavailable")]),
        |interceptor| interceptor,
    );
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(bench.fake.requests(), 2);
    assert_eq!(bench.span("send orders").status, Status::Unset);
    // Both attempts carried the same context.
    assert_eq!(
        bench.fake.request(0)["MessageAttributes"],
        bench.fake.request(1)["MessageAttributes"]
    );
}

#[tokio::test]
async fn a_timeout_of_the_sdk_is_called_timeout() {
    let bench = Bench::new(Fake::answering([Answer::Hang]), |interceptor| interceptor);
    let timeouts = aws_sdk_sqs::config::timeout::TimeoutConfig::builder()
        .operation_timeout(std::time::Duration::from_millis(1))
        .build();
    let with_timeout = aws_sdk_sqs::config::Builder::default().timeout_config(timeouts);
    let send = bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .customize()
        .config_override(with_timeout);
    send.send().await.unwrap_err();
    assert!(is_error(&bench.span("send orders"), "timeout"));
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_spans_as_cancelled() {
    let bench = Bench::new(Fake::answering([Answer::Hang]), |interceptor| interceptor);
    let batch = bench
        .client
        .send_message_batch()
        .queue_url(QUEUE)
        .entries(entry("a"))
        .send();
    let mut batch = Box::pin(batch);
    // Polled until the request is under way, then dropped.
    while bench.fake.requests() == 0 {
        assert!(futures_util::poll!(&mut batch).is_pending());
        tokio::task::yield_now().await;
    }
    drop(batch);
    assert!(is_error(&bench.span("send orders"), "cancelled"));
    assert!(is_error(&bench.span("create orders"), "cancelled"));
}

#[tokio::test]
async fn an_unsampled_decision_travels_too() {
    let bench = Bench::plain();
    let unsampled = CUSTOM.replace("-01", "-00");
    let (remote, _) = crate::parent::w3c::Traceparent::parse(&unsampled)
        .unwrap()
        .into_span_context(None);
    let parent = Context::new().with_remote_span_context(remote);
    bench
        .client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .with_context(parent)
        .await
        .unwrap();
    assert!(bench.spans().is_empty());
    let carried = sent(&bench.fake.request(0), "traceparent").unwrap();
    assert!(
        carried.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && carried.ends_with("-00"),
        "{carried}"
    );
}

#[tokio::test]
async fn without_a_provider_nothing_is_written() {
    let fake = Fake::default();
    let interceptor = crate::producer::Interceptor::new()
        .with_tracer_provider(&opentelemetry::trace::noop::NoopTracerProvider::new())
        .xray_header(crate::producer::XrayHeader::Always);
    client(&fake, interceptor)
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .await
        .unwrap();
    let message = fake.request(0);
    assert!(message.get("MessageAttributes").is_none());
    assert!(message.get("MessageSystemAttributes").is_none());
}

#[tokio::test]
async fn attached_twice_it_works_once() {
    let bench = Bench::plain();
    let again = crate::producer::Interceptor::new().with_tracer_provider(&bench.provider);
    let client = aws_sdk_sqs::Client::from_conf(
        bench
            .client
            .config()
            .to_builder()
            .interceptor(again)
            .build(),
    );
    client
        .send_message()
        .queue_url(QUEUE)
        .message_body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(bench.span("send orders").status, Status::Unset);
}

#[tokio::test]
async fn other_operations_and_missing_queue_urls_are_no_trouble() {
    let bench = Bench::plain();
    bench.client.list_queues().send().await.unwrap();
    assert!(bench.spans().is_empty());
    bench
        .client
        .send_message()
        .message_body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(
        attribute(&bench.span("send"), "messaging.destination.name"),
        None
    );
}
