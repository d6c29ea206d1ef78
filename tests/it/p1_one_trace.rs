//! P1: a record's span continues its producer's trace, record by record, through retries and the dead-letter queue.

use std::time::Duration;

use it::binary;
use lambda_emulator::{
    MappingSpec, OtlpSink, Outcome, QueueSpec, ReceivedSpan, Sandbox, SqsServer, Timeline, Value,
};
use serde_json::json;

/// Bound of a wait: far longer than it takes, so that only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
const RECEIVES_MAX: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_always_fails_is_one_trace_from_its_producer_to_the_dead_letter_consumer() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sqs = SqsServer::start_on(&timeline).await.unwrap();
    sqs.create_queue(QueueSpec::new("orders-dlq"));
    let orders = sqs.create_queue(
        QueueSpec::new("orders")
            .visibility_timeout(Duration::from_millis(200))
            .redrive("orders-dlq", RECEIVES_MAX),
    );

    let sandbox = |name: &str, bootstrap: &str| {
        Sandbox::builder(name)
            .timeline(&timeline)
            .bootstrap(binary(bootstrap))
            .extension(binary("throughline-extension"))
            .extension_env("THROUGHLINE_ENDPOINT", sink.url())
            .function_env("AWS_ENDPOINT_URL_SQS", sqs.endpoint_url())
            .function_env("ORDERS_QUEUE_URL", orders.clone())
            .timeout(Duration::from_secs(30))
    };
    let producer = sandbox("producer", "example-producer")
        .start()
        .await
        .unwrap();
    let consumer = sandbox("consumer", "example-consumer")
        .start()
        .await
        .unwrap();
    let dead_letters = sandbox("dead-letters", "example-dlq-consumer")
        .start()
        .await
        .unwrap();
    let partial = MappingSpec::default()
        .batch_size(10)
        .report_batch_item_failures(true);
    let main = sqs.event_source_mapping("orders", &consumer, partial.clone());
    let last = sqs.event_source_mapping("orders-dlq", &dead_letters, partial);

    let request = json!({
        "version": "2.0", "routeKey": "POST /orders", "rawPath": "/orders", "rawQueryString": "", "headers": {},
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "localhost", "domainPrefix": "api",
            "http": {"method": "POST", "path": "/orders", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "it"},
            "requestId": "r", "routeKey": "POST /orders", "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1_767_225_600_000_u64,
        },
        "body": json!([{"id": "o-1", "amount": 1}, {"id": "o-2", "amount": 2, "poison": true}]).to_string(),
        "isBase64Encoded": false,
    });
    let invocation = producer.invoke(request.to_string()).await;
    assert!(
        matches!(invocation.outcome, Outcome::Answered(_)),
        "{:?}\n{}",
        invocation.outcome,
        producer.log_text()
    );

    let whole = sink
        .wait_until(
            |sink| consumers_of(&sink.unique_spans(), "orders-dlq").len() == 1,
            PATIENCE,
        )
        .await;
    assert!(
        whole,
        "{}\n{}\n{}",
        timeline.to_text(),
        consumer.log_text(),
        dead_letters.log_text()
    );
    main.stop().await;
    last.stop().await;
    for sandbox in [&producer, &consumer, &dead_letters] {
        sandbox.wait_idle().await;
        sandbox.shutdown("spindown").await;
    }

    let spans = sink.unique_spans();
    let server = only(&spans, |span| span.kind == "SERVER");
    assert!(
        spans.iter().all(|span| span.trace_id == server.trace_id),
        "{spans:#?}"
    );

    // The good order once, the poisoned one as often as the queue hands it out, then once from the dead-letter queue.
    let attempts = consumers_of(&spans, "orders");
    let failed: Vec<_> = attempts
        .iter()
        .filter(|span| span.status == "ERROR")
        .collect();
    assert_eq!(
        (attempts.len(), failed.len()),
        (1 + RECEIVES_MAX as usize, RECEIVES_MAX as usize),
        "{spans:#?}"
    );
    let mut counts: Vec<_> = failed
        .iter()
        .filter_map(|span| receive_count(span))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3]);

    // Siblings under the one span that made the message: retries and the dead-letter hop alike.
    let dead = consumers_of(&spans, "orders-dlq");
    let parent = &dead[0].parent_span_id;
    assert!(failed.iter().all(|span| &span.parent_span_id == parent));
    let made = only(&spans, |span| &span.span_id == parent);
    assert_eq!(made.kind, "PRODUCER");
    assert_eq!(
        dead[0].attributes["throughline.dead_letter.source"],
        "orders"
    );
    assert_ne!(
        only(&attempts, |span| span.status != "ERROR").parent_span_id,
        *parent,
        "each message has a context of its own"
    );
}

fn consumers_of(spans: &[ReceivedSpan], queue: &str) -> Vec<ReceivedSpan> {
    let of_queue = |span: &&ReceivedSpan| {
        span.kind == "CONSUMER"
            && span
                .attributes
                .get("messaging.destination.name")
                .and_then(Value::as_str)
                == Some(queue)
    };
    spans.iter().filter(of_queue).cloned().collect()
}

fn receive_count(span: &ReceivedSpan) -> Option<i64> {
    span.attributes
        .get("throughline.message.receive_count")?
        .as_i64()
}

fn only(spans: &[ReceivedSpan], wanted: impl Fn(&&ReceivedSpan) -> bool) -> &ReceivedSpan {
    let found: Vec<_> = spans.iter().filter(wanted).collect();
    assert_eq!(found.len(), 1, "{spans:#?}");
    found[0]
}
