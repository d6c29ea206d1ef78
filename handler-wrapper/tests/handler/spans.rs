//! The spans of a batch: relations, links, names, attributes, errors, sampling.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    FutureExt, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceId, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SpanData};
use throughline::parent::{ContextOptions, Deferred, Relation};
use throughline::{BatchSpan, SqsMessage, Telemetry, traced_sqs_handler};

use crate::support::{Collector, Message, call, error, event, message, text, value};

async fn fine(_: SqsMessage) -> Result<(), String> {
    Ok(())
}

fn trace(n: u64) -> TraceId {
    u128::from(n).into()
}

fn linked(span: &SpanData) -> Vec<TraceId> {
    span.links
        .iter()
        .map(|link| link.span_context.trace_id())
        .collect()
}

fn sent_by(range: std::ops::RangeInclusive<u64>) -> Vec<Message> {
    range
        .map(|n| message(&format!("m{n}"), "").sent_by_span(n, true))
        .collect()
}

/// Runs `work` under a SERVER span, as a layer for invocation spans would, and returns its context.
async fn under_server<W: Future>(collector: &Collector, work: W) -> (SpanContext, W::Output) {
    let tracer = collector.provider.tracer("server");
    let span = tracer
        .span_builder("function")
        .with_kind(SpanKind::Server)
        .start(&tracer);
    let cx = Context::new().with_span(span);
    let output = work.with_context(cx.clone()).await;
    (cx.span().span_context().clone(), output)
}

#[tokio::test]
async fn a_record_continues_its_producers_trace_and_links_to_it() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine).telemetry(&collector.telemetry);
    call(&handler, event(sent_by(1..=3))).await.unwrap();
    let records = collector.records();
    for n in 1..=3 {
        let span = &records[&format!("m{n}")];
        assert_eq!(span.name, "process orders");
        assert_eq!(span.span_kind, SpanKind::Consumer);
        assert_eq!(span.span_context.trace_id(), trace(n));
        assert_eq!(span.parent_span_id, SpanId::from(n));
        assert!(span.parent_span_is_remote);
        assert_eq!(linked(span), [trace(n)]);
        assert_eq!(span.status, Status::Unset);
        assert_eq!(text(span, "throughline.context.source").unwrap(), "w3c");
        assert_eq!(span.instrumentation_scope.name(), "throughline");
        assert_eq!(
            span.instrumentation_scope.schema_url(),
            Some("https://opentelemetry.io/schemas/1.44.0")
        );
    }
    assert_eq!(
        collector.spans().len(),
        3,
        "no span around records that belong elsewhere"
    );
}

#[tokio::test]
async fn a_record_without_context_is_a_root_and_pretends_nothing() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine).telemetry(&collector.telemetry);
    call(&handler, event([message("m", "")])).await.unwrap();
    let span = &collector.records()["m"];
    assert_eq!(span.parent_span_id, SpanId::INVALID);
    assert_eq!(linked(span), []);
    assert_eq!(text(span, "throughline.context.source").unwrap(), "none");
}

#[tokio::test]
async fn under_a_server_span_records_link_to_the_batch_and_the_batch_to_the_records() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine).telemetry(&collector.telemetry);
    let mut messages = sent_by(1..=2);
    messages.push(message("m3", ""));
    let (server, _) = under_server(&collector, call(&handler, event(messages))).await;
    let batch = &collector.batches()[0];
    assert_eq!(batch.parent_span_id, server.span_id());
    assert_eq!(batch.name, "process orders");
    assert_eq!(batch.span_kind, SpanKind::Consumer);
    assert_eq!(linked(batch), [trace(1), trace(2)]);
    let ids: Vec<_> = batch
        .links
        .iter()
        .map(|link| link.attributes.clone())
        .collect();
    assert_eq!(ids[0], [KeyValue::new("messaging.message.id", "m1")]);
    assert_eq!(
        value(batch, "messaging.batch.message_count"),
        Some(3.into())
    );
    assert_eq!(value(batch, "messaging.message.id"), None);

    let records = collector.records();
    assert_eq!(records["m1"].parent_span_id, SpanId::from(1));
    assert_eq!(linked(&records["m1"]), [trace(1), server.trace_id()]);
    assert_eq!(
        records["m1"].links[1].span_context.span_id(),
        batch.span_context.span_id()
    );
    // Without a context of its own a record belongs to the batch.
    assert_eq!(records["m3"].parent_span_id, batch.span_context.span_id());
    assert!(
        batch.end_time >= records["m3"].end_time && batch.start_time <= records["m1"].start_time
    );
}

#[tokio::test]
async fn one_record_under_a_server_span_needs_no_batch_span() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine).telemetry(&collector.telemetry);
    let (server, _) = under_server(&collector, call(&handler, event(sent_by(1..=1)))).await;
    assert!(collector.batches().is_empty());
    assert_eq!(
        linked(&collector.records()["m1"]),
        [trace(1), server.trace_id()]
    );
}

#[tokio::test]
async fn the_batch_span_comes_when_it_is_wanted() {
    // option, relation, under a server span, records → batch spans
    let (auto, always, never) = (BatchSpan::Auto, BatchSpan::Always, BatchSpan::Never);
    for (option, relation, server, records, expected) in [
        (auto, Relation::Parent, false, 3, 0),
        (auto, Relation::Parent, true, 1, 0),
        (auto, Relation::Parent, true, 2, 1),
        (auto, Relation::Link, false, 1, 1),
        (always, Relation::Parent, false, 1, 1),
        (never, Relation::Link, true, 3, 0),
    ] {
        let collector = Collector::new();
        let handler = traced_sqs_handler(fine)
            .telemetry(&collector.telemetry)
            .batch_span(option)
            .relation(relation);
        let calling = call(&handler, event(sent_by(1..=records)));
        if server {
            under_server(&collector, calling).await.1.unwrap();
        } else {
            calling.await.unwrap();
        }
        let row = format!("{option:?} {relation:?} server={server} {records}");
        assert_eq!(collector.batches().len(), expected, "{row}");
    }
}

#[tokio::test]
async fn linked_records_are_children_of_the_batch() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine)
        .telemetry(&collector.telemetry)
        .relation(Relation::Link);
    call(&handler, event(sent_by(1..=2))).await.unwrap();
    let batch = &collector.batches()[0];
    assert_eq!(batch.parent_span_id, SpanId::INVALID);
    for (id, n) in [("m1", 1), ("m2", 2)] {
        let span = &collector.records()[id];
        assert_eq!(span.parent_span_id, batch.span_context.span_id());
        assert_eq!(linked(span), [trace(n)]);
    }
}

#[tokio::test]
async fn a_batch_of_several_queues_is_named_after_none() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine)
        .telemetry(&collector.telemetry)
        .batch_span(BatchSpan::Always);
    let mut messages = sent_by(1..=1);
    messages.push(message("m2", "").queue("other").sent_by_span(2, true));
    call(&handler, event(messages)).await.unwrap();
    let batch = &collector.batches()[0];
    assert_eq!(batch.name, "process");
    assert_eq!(value(batch, "messaging.destination.name"), None);
    assert_eq!(value(batch, "aws.sqs.queue.url"), None);
    let destination = KeyValue::new("messaging.destination.name", "other");
    assert!(batch.links.links[1].attributes.contains(&destination));
    assert_eq!(collector.records()["m2"].name, "process other");
}

#[tokio::test]
async fn at_the_link_limit_equal_contexts_count_once_and_the_rest_is_counted() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine)
        .telemetry(&collector.telemetry)
        .batch_span(BatchSpan::Always);
    // A producer without a span for each message: all have one context.
    let same = |id: usize| message(&format!("same{id}"), "").sent_by_span(9, true);
    call(&handler, event((0..128).map(same))).await.unwrap();
    assert_eq!(
        collector.batches()[0].links.len(),
        128,
        "at the limit nothing is left out"
    );

    let collector = Collector::new();
    let handler = handler.telemetry(&collector.telemetry);
    let mut messages: Vec<_> = (0..100).map(same).collect();
    messages.extend(sent_by(1_001..=1_130));
    call(&handler, event(messages)).await.unwrap();
    let batch = &collector.batches()[0];
    assert_eq!(batch.links.len(), 128);
    assert_eq!(batch.links.dropped_count, 3, "131 different contexts");
    assert_eq!(linked(batch)[..2], [trace(9), trace(1_001)]);
}

#[tokio::test]
async fn an_old_message_is_linked_and_not_continued() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine)
        .telemetry(&collector.telemetry)
        .context(ContextOptions {
            max_parent_age: Some(Duration::from_secs(3600)),
            ..ContextOptions::default()
        });
    let sent = |ago: u64| {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(ago);
        at.as_millis().to_string()
    };
    let young = message("young", "")
        .sent_by_span(1, true)
        .set("/attributes/SentTimestamp", sent(60));
    let old = message("old", "")
        .sent_by_span(2, true)
        .set("/attributes/SentTimestamp", sent(7200));
    call(&handler, event([young, old])).await.unwrap();
    let records = collector.records();
    assert_eq!(records["young"].parent_span_id, SpanId::from(1));
    assert_ne!(records["old"].span_context.trace_id(), trace(2));
    assert_eq!(linked(&records["old"]), [trace(2)]);
}

#[tokio::test]
async fn a_second_context_is_linked() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine).telemetry(&collector.telemetry);
    let header = "Root=1-00000000-000000000000000000000007;Parent=0000000000000007;Sampled=1";
    let both = message("m", "")
        .sent_by_span(1, true)
        .set("/attributes/AWSTraceHeader", header);
    call(&handler, event([both])).await.unwrap();
    let span = &collector.records()["m"];
    assert_eq!(span.span_context.trace_id(), trace(1));
    assert_eq!(linked(span), [trace(1), trace(7)]);
}

enum OrderError {
    OutOfStock,
    Card(&'static str),
}

impl std::fmt::Display for OrderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfStock => f.write_str("out of stock"),
            Self::Card(number) => write!(f, "card {number}"),
        }
    }
}

/// What must not get out. Letters stand in it, since random ids and times hold any few digits.
const CARD: &str = "4111-no-one-may-see";

async fn order(message: SqsMessage) -> Result<(), OrderError> {
    match message.body.as_deref() {
        Some("stock") => Err(OrderError::OutOfStock),
        Some("card") => Err(OrderError::Card(CARD)),
        Some("panic") => panic!("{CARD}"),
        _ => Ok(()),
    }
}

fn orders() -> [Message; 4] {
    ["stock", "card", "panic", "fine"].map(|body| message(body, body))
}

#[tokio::test]
async fn an_error_is_told_by_its_type_and_nothing_more() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(order)
        .telemetry(&collector.telemetry)
        .partial_batch();
    call(&handler, event(orders())).await.unwrap();
    let records = collector.records();
    let by_type = "handler::spans::OrderError".to_owned();
    assert_eq!(error(&records["card"]), Some((by_type.clone(), by_type)));
    assert_eq!(
        error(&records["panic"]),
        Some(("panic".to_owned(), "panic".to_owned()))
    );
    assert_eq!(error(&records["fine"]), None);
    assert!(records.values().all(|span| span.events.is_empty()));
    assert!(!format!("{records:?}").contains(CARD));
}

#[tokio::test]
async fn an_erased_error_type_is_other() {
    let collector = Collector::new();
    async fn boxed(_: SqsMessage) -> Result<(), throughline::Error> {
        Err("no type left".into())
    }
    let handler = traced_sqs_handler(boxed).telemetry(&collector.telemetry);
    let _ = call(&handler, event([message("m", "")])).await;
    assert_eq!(error(&collector.records()["m"]).unwrap().0, "_OTHER");
}

#[tokio::test]
async fn types_and_texts_of_errors_can_be_chosen() {
    let name = |error: &OrderError| match error {
        OrderError::OutOfStock => "out_of_stock".into(),
        OrderError::Card(_) => "card".into(),
    };
    let collector = Collector::new();
    let plain = traced_sqs_handler(order)
        .telemetry(&collector.telemetry)
        .error_type(name);
    let _ = call(&plain, event(orders())).await;
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(error(&collector.records()["card"]), pair("card", "card"));

    let collector = Collector::new();
    let texts = traced_sqs_handler(order)
        .telemetry(&collector.telemetry)
        .error_type(name)
        .error_message();
    let _ = call(&texts, event(orders())).await;
    assert_eq!(
        error(&collector.records()["card"]),
        pair("card", &format!("card {CARD}"))
    );
    assert_eq!(
        error(&collector.records()["stock"]),
        pair("out_of_stock", "out of stock")
    );

    let collector = Collector::new();
    let redacted = traced_sqs_handler(order)
        .telemetry(&collector.telemetry)
        .error_type(name)
        .error_detail(|error: &OrderError| {
            matches!(error, OrderError::Card(_)).then(|| "card ****".into())
        });
    let _ = call(&redacted, event(orders())).await;
    assert_eq!(
        error(&collector.records()["card"]),
        pair("card", "card ****")
    );
    assert_eq!(
        error(&collector.records()["stock"]),
        pair("out_of_stock", "out_of_stock")
    );
}

#[tokio::test]
async fn the_batch_span_is_an_error_only_when_the_invocation_is() {
    for (partial, bodies, expected) in [
        (false, vec!["fine"], None),
        (false, vec!["fine", "stock"], Some("RecordsFailed")),
        (true, vec!["fine", "stock"], None),
        (true, vec!["stock"], Some("AllRecordsFailed")),
    ] {
        let collector = Collector::new();
        let mut handler = traced_sqs_handler(order)
            .telemetry(&collector.telemetry)
            .batch_span(BatchSpan::Always);
        if partial {
            handler = handler.partial_batch();
        }
        let _ = call(
            &handler,
            event(bodies.iter().map(|body| message(body, body))),
        )
        .await;
        let error = error(&collector.batches()[0]).map(|(error_type, _)| error_type);
        assert_eq!(error.as_deref(), expected, "{partial} {bodies:?}");
    }
}

#[tokio::test]
async fn hooks_name_spans_and_add_attributes() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine)
        .telemetry(&collector.telemetry)
        .span_name(|m: &SqsMessage| {
            (m.body.as_deref() == Some("named")).then(|| "handle order".into())
        })
        .span_attributes(|m: &SqsMessage| vec![KeyValue::new("app.body", m.body.clone().unwrap())]);
    call(
        &handler,
        event([message("a", "named"), message("b", "plain")]),
    )
    .await
    .unwrap();
    let records = collector.records();
    assert_eq!(records["a"].name, "handle order");
    assert_eq!(records["b"].name, "process orders");
    assert_eq!(text(&records["b"], "app.body").unwrap(), "plain");
}

#[tokio::test]
async fn a_hook_that_panics_costs_the_span_and_not_the_record() {
    let collector = Collector::new();
    let careful = |m: &SqsMessage| -> Vec<KeyValue> {
        let body: u32 = m.body.as_deref().unwrap().parse().unwrap();
        vec![KeyValue::new("app.body", i64::from(body))]
    };
    let handler = traced_sqs_handler(order)
        .telemetry(&collector.telemetry)
        .partial_batch()
        .span_attributes(careful);
    let batch = [
        message("a", "1"),
        message("b", "fine"),
        message("c", "stock"),
    ];
    assert_eq!(call(&handler, event(batch)).await, Ok(vec!["c".to_owned()]));
    assert_eq!(collector.spans().len(), 1);

    let carrier = ContextOptions::default().with_carrier(|_| panic!("no luck"));
    let handler = traced_sqs_handler(order)
        .telemetry(&collector.telemetry)
        .context(carrier)
        .relation(Relation::Link);
    assert_eq!(
        call(&handler, event([message("a", "fine")])).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn the_producers_sampling_decision_is_kept() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine).telemetry(&collector.telemetry);
    let messages = (1..=100).map(|n| message(&format!("m{n}"), "").sent_by_span(n, n % 10 == 0));
    call(&handler, event(messages)).await.unwrap();
    assert_eq!(collector.spans().len(), 10);
    assert!(collector.records().contains_key("m70"));
}

fn xray(id: &str, n: u64, rest: &str) -> Message {
    let header = format!("Root=1-00000000-{n:024x};Parent={n:016x}{rest}");
    message(id, "").set("/attributes/AWSTraceHeader", header)
}

#[tokio::test]
async fn a_decision_that_was_left_to_us_is_made_by_our_root_sampler() {
    for (sampler, expected) in [(Sampler::AlwaysOn, true), (Sampler::AlwaysOff, false)] {
        let collector = Collector::with_sampler(Sampler::ParentBased(Box::new(sampler)));
        let child = collector.provider.tracer("child");
        let process = move |_: SqsMessage| {
            let child = child.clone();
            async move {
                child.start("child");
                Ok::<(), String>(())
            }
        };
        let handler = traced_sqs_handler(process).telemetry(&collector.telemetry);
        let messages = [
            xray("deferred", 1, ""),
            xray("asked", 2, ";Sampled=?"),
            xray("yes", 3, ";Sampled=1"),
            xray("no", 4, ";Sampled=0"),
            xray("ours-no", 5, ";Sampled=0;Tl=1"),
        ];
        call(&handler, event(messages)).await.unwrap();
        let records = collector.records();
        assert!(records.contains_key("yes") && !records.contains_key("ours-no"));
        assert_eq!(records.contains_key("deferred"), expected);
        assert_eq!(records.contains_key("asked"), expected);
        assert_eq!(
            records.contains_key("no"),
            expected,
            "nobody's decision: ours"
        );
        if expected {
            assert_eq!(records["deferred"].span_context.trace_id(), trace(1));
            assert_eq!(records["deferred"].parent_span_id, SpanId::from(1));
            assert_ne!(records["no"].span_context.trace_id(), trace(4));
            assert_eq!(
                text(&records["no"], "throughline.context.source").unwrap(),
                "xray_unsampled"
            );
        }
        let spans = collector.spans();
        let children = spans.iter().filter(|s| s.name == "child");
        for child in children.clone() {
            let parent = spans
                .iter()
                .find(|s| s.span_context.span_id() == child.parent_span_id);
            assert_eq!(
                parent.unwrap().name,
                "process orders",
                "no child without its record"
            );
        }
        assert_eq!(
            children.count(),
            records.len(),
            "every child of a kept record is kept"
        );
    }
}

#[tokio::test]
async fn a_provider_that_cannot_decide_gets_links_instead() {
    let collector = Collector::new();
    let telemetry = Telemetry::from_provider(collector.provider.clone());
    let handler = traced_sqs_handler(fine).telemetry(&telemetry);
    call(
        &handler,
        event([xray("m", 1, ""), xray("n", 2, ";Sampled=1")]),
    )
    .await
    .unwrap();
    let records = collector.records();
    assert_ne!(records["m"].span_context.trace_id(), trace(1));
    assert_eq!(linked(&records["m"]), [trace(1)]);
    assert_eq!(records["n"].span_context.trace_id(), trace(2));

    // The user's own choice is kept where the sampler can decide.
    let collector = Collector::new();
    let handler = traced_sqs_handler(fine)
        .telemetry(&collector.telemetry)
        .context(ContextOptions {
            deferred: Deferred::Link,
            ..ContextOptions::default()
        });
    call(&handler, event([xray("m", 1, "")])).await.unwrap();
    assert_eq!(linked(&collector.records()["m"]), [trace(1)]);
}

#[tokio::test]
async fn a_retry_is_a_sibling_of_the_first_attempt() {
    let collector = Collector::new();
    let handler = traced_sqs_handler(order).telemetry(&collector.telemetry);
    for attempt in ["1", "2"] {
        let again = message("m", "stock").sent_by_span(5, true);
        let again = again.set("/attributes/ApproximateReceiveCount", attempt);
        let _ = call(&handler, event([again])).await;
    }
    let spans = collector.spans();
    assert_eq!(spans.len(), 2);
    assert!(
        spans
            .iter()
            .all(|span| span.parent_span_id == SpanId::from(5))
    );
    let counts: Vec<_> = spans
        .iter()
        .map(|s| value(s, "throughline.message.receive_count").unwrap())
        .collect();
    assert_eq!(counts, [1.into(), 2.into()]);
}
