//! What is sent comes back, whatever the caller's attributes leave room for.

use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use opentelemetry::TraceFlags;
use opentelemetry::trace::{FutureExt, SpanKind, Status};
use throughline::parent::ContextSource;

use super::bench::{Bench, Server, client, read, system};
use super::caller;

fn with_attributes(mut send: SendMessageFluentBuilder, count: usize) -> SendMessageFluentBuilder {
    for number in 0..count {
        let value = MessageAttributeValue::builder()
            .data_type("String")
            .string_value("value")
            .build()
            .unwrap();
        send = send.message_attributes(format!("user{number}"), value);
    }
    send
}

/// None to ten attributes of the caller's, sampled and not: the receiver continues the send span.
pub(super) async fn round_trips(server: &Server) {
    let bench = Bench::new(server, |interceptor| interceptor);
    let queue = bench.queue("round-trips", &[]).await;
    for flags in [TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED] {
        for count in 0..=10 {
            bench.clear();
            let send = bench
                .client
                .send_message()
                .queue_url(&queue)
                .message_body("hello");
            let sent = with_attributes(send, count)
                .send()
                .with_context(caller(flags))
                .await
                .unwrap();

            let received = bench.receive(&queue, 1, true).await.remove(0);
            assert_eq!(received.message_id(), sent.message_id());
            assert_eq!(
                received
                    .message_attributes()
                    .map_or(0, |a| a.keys().filter(|n| n.starts_with("user")).count()),
                count
            );
            let context = read(&received);
            let parent = context.parent.clone().expect("the send span is continued");
            let case = format!("{count} attributes, flags {flags:?}");
            assert_eq!(
                parent.span_context.trace_id(),
                opentelemetry::TraceId::from(7),
                "{case}"
            );
            assert_eq!(
                parent.span_context.is_sampled(),
                flags == TraceFlags::SAMPLED,
                "{case}"
            );
            assert!(!parent.deferred, "{case}");
            let source = if count == 10 {
                ContextSource::Xray
            } else {
                ContextSource::W3c
            };
            assert_eq!(context.source, source, "{case}");
            assert_eq!(
                context.tracestate().as_deref(),
                (count <= 8).then_some("vendor=1"),
                "{case}"
            );
            assert_eq!(context.baggage.is_some(), count <= 7, "{case}");
            if let Some(baggage) = context.baggage {
                assert_eq!(baggage.get("tenant").unwrap().as_str(), "a b%");
            }
            if flags == TraceFlags::SAMPLED {
                let send = bench.span("send round-trips");
                assert_eq!(send.span_kind, SpanKind::Producer);
                assert_eq!(
                    parent.span_context.span_id(),
                    send.span_context.span_id(),
                    "{case}"
                );
                let receive = bench.span("receive round-trips");
                assert_eq!(
                    receive.links.links[0].span_context.span_id(),
                    send.span_context.span_id(),
                    "{case}"
                );
            } else {
                assert!(bench.spans("send round-trips").is_empty());
            }
        }
    }
}

/// Every entry continues a span of its own, those without a free slot by the header.
pub(super) async fn batches(server: &Server) {
    let bench = Bench::new(server, |interceptor| interceptor);
    let queue = bench.queue("batches", &[]).await;
    let mut batch = bench.client.send_message_batch().queue_url(&queue);
    for number in 0..3 {
        let mut entry = SendMessageBatchRequestEntry::builder()
            .id(format!("e{number}"))
            .message_body(format!("{number}"));
        for attribute in 0..number * 5 {
            let value = MessageAttributeValue::builder()
                .data_type("Number")
                .string_value("1")
                .build()
                .unwrap();
            entry = entry.message_attributes(format!("user{attribute}"), value);
        }
        batch = batch.entries(entry.build().unwrap());
    }
    let sent = batch
        .send()
        .with_context(caller(TraceFlags::SAMPLED))
        .await
        .unwrap();
    assert!(sent.failed().is_empty(), "{:?}", sent.failed());
    let creates = bench.spans("create batches");
    let send = bench.span("send batches");
    assert_eq!(creates.len(), 3);
    let mut received = bench.receive(&queue, 3, true).await;
    received.sort_by_key(|message| message.body.clone());
    for (number, message) in received.iter().enumerate() {
        let context = read(message);
        let create = &creates[number];
        assert_eq!(
            context.source,
            if number == 2 {
                ContextSource::Xray
            } else {
                ContextSource::W3c
            }
        );
        assert_eq!(
            context.parent.unwrap().span_context.span_id(),
            create.span_context.span_id()
        );
        let link = &send.links.links[number];
        assert_eq!(link.span_context, create.span_context);
        assert_eq!(
            link.attributes[0].value.as_str(),
            message.message_id().unwrap()
        );
        let header = system(message, &MessageSystemAttributeName::AwsTraceHeader);
        assert_eq!(header.is_some(), number == 2);
    }
}

/// The server refuses eleven, so a message of ten that it takes has none of ours too many.
pub(super) async fn eleven_attributes(server: &Server) {
    let bench = Bench::new(server, |interceptor| interceptor);
    let queue = bench.queue("eleven", &[]).await;
    let plain = client(server, |config| config);
    let of = |client: &aws_sdk_sqs::Client, count| {
        with_attributes(
            client
                .send_message()
                .queue_url(&queue)
                .message_body("hello"),
            count,
        )
    };
    let expected = of(&plain, 11).send().await.unwrap_err();
    let refused = of(&bench.client, 11).send().await.unwrap_err();
    // Refused with us exactly as without us.
    assert_eq!(refused.code(), expected.code());
    assert_eq!(refused.message(), expected.message());
    assert_eq!(refused.code(), Some("InvalidParameterValue"));
    assert_eq!(
        bench.span("send eleven").status,
        Status::error("InvalidParameterValue")
    );
    for count in 0..=10 {
        of(&bench.client, count)
            .send()
            .with_context(caller(TraceFlags::SAMPLED))
            .await
            .unwrap();
    }
}

/// Up to the last byte, a message that the server takes without us it takes with us.
pub(super) async fn sizes(server: &Server) {
    const MIB: usize = 1_048_576;
    let bench = Bench::new(server, |interceptor| interceptor);
    let queue = bench.queue("sizes", &[]).await;
    let plain = client(server, |config| config);
    for bytes in [MIB - 200, MIB - 73, MIB - 72, MIB - 71, MIB - 1, MIB] {
        let body = "x".repeat(bytes);
        plain
            .send_message()
            .queue_url(&queue)
            .message_body(&body)
            .send()
            .await
            .unwrap();
        let send = bench
            .client
            .send_message()
            .queue_url(&queue)
            .message_body(&body)
            .send();
        send.with_context(caller(TraceFlags::SAMPLED))
            .await
            .unwrap();
    }
    let over = "x".repeat(MIB + 1);
    let expected = plain
        .send_message()
        .queue_url(&queue)
        .message_body(&over)
        .send()
        .await
        .unwrap_err();
    let refused = bench
        .client
        .send_message()
        .queue_url(&queue)
        .message_body(&over)
        .send()
        .await
        .unwrap_err();
    assert_eq!(refused.code(), expected.code());

    let entry = |id: &str, bytes| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body("x".repeat(bytes))
            .build()
            .unwrap()
    };
    let batch = bench
        .client
        .send_message_batch()
        .queue_url(&queue)
        .entries(entry("a", MIB / 2))
        .entries(entry("b", MIB / 2));
    let sent = batch
        .send()
        .with_context(caller(TraceFlags::SAMPLED))
        .await
        .unwrap();
    assert!(sent.failed().is_empty());
}

/// Content-based deduplication looks at the body alone, so a second send with another context is
/// the same message.
pub(super) async fn fifo(server: &Server) {
    let bench = Bench::new(server, |interceptor| interceptor);
    let attributes = [
        (QueueAttributeName::FifoQueue, "true".to_owned()),
        (
            QueueAttributeName::ContentBasedDeduplication,
            "true".to_owned(),
        ),
    ];
    let queue = bench.queue("dedup.fifo", &attributes).await;
    for _ in 0..2 {
        let send = bench
            .client
            .send_message()
            .queue_url(&queue)
            .message_body("same")
            .message_group_id("g");
        send.send().await.unwrap();
    }
    let send = bench
        .client
        .send_message()
        .queue_url(&queue)
        .message_body("last")
        .message_group_id("g");
    send.send().await.unwrap();
    let spans = bench.spans("send dedup.fifo");
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body| body != "last") {
        for message in bench.receive(&queue, 1, true).await {
            let parent = read(&message).parent.unwrap().span_context.span_id();
            let body = message.body.unwrap();
            let expected = if body == "same" { &spans[0] } else { &spans[2] };
            assert_eq!(parent, expected.span_context.span_id());
            bodies.push(body);
        }
    }
    assert_eq!(bodies, ["same", "last"]);
}
