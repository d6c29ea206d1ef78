//! The example of a producer, in a sandbox with the real extension: its answer leads to its trace.

use std::time::Duration;

use it::binary;
use lambda_emulator::{OtlpSink, Outcome, QueueSpec, Sandbox, SqsServer, Timeline};
use serde_json::{Value, json};

async fn post(sandbox: &Sandbox, body: String) -> (u64, Value) {
    let event = json!({ "version": "2.0", "routeKey": "POST /orders", "body": body, "isBase64Encoded": false });
    let invocation = sandbox.invoke(event.to_string().into_bytes()).await;
    let Outcome::Answered(answer) = &invocation.outcome else {
        panic!("{:?}\n{}", invocation.outcome, sandbox.log_text());
    };
    sandbox.wait_frozen(&invocation.request_id).await;
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let body = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    (answer["statusCode"].as_u64().unwrap(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_the_producer_names_the_trace_of_its_orders() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sqs = SqsServer::start_on(&timeline).await.unwrap();
    let orders = sqs.create_queue(QueueSpec::new("orders.fifo"));
    let sandbox = Sandbox::builder("producer")
        .timeline(&timeline)
        .bootstrap(binary("example-producer"))
        .extension(binary("throughline-extension"))
        .extension_env("THROUGHLINE_ENDPOINT", sink.url())
        .function_env("AWS_ENDPOINT_URL_SQS", sqs.endpoint_url())
        .function_env("ORDERS_QUEUE_URL", orders)
        .timeout(Duration::from_secs(60))
        .start()
        .await
        .unwrap();

    // Twelve orders are two calls to SQS, in one trace.
    let list: Vec<Value> = (0..12)
        .map(|n| json!({ "id": format!("o-{n}"), "amount": 3 }))
        .collect();
    let (status, answer) = post(&sandbox, json!(list).to_string()).await;
    assert_eq!(
        (status, &answer["sent"], &answer["failed"]),
        (202, &json!(12), &json!([]))
    );
    let spans = sink.spans();
    let server = spans
        .iter()
        .find(|span| span.kind == "SERVER")
        .expect("a SERVER span");
    assert_eq!(answer["trace_id"], server.trace_id.as_str());
    let named = |name: &str| {
        spans
            .iter()
            .filter(|span| span.name == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(named("create orders.fifo").len(), 12);
    let sends = named("send orders.fifo");
    assert_eq!(sends.len(), 2);
    assert!(
        sends
            .iter()
            .all(|send| send.parent_span_id == server.span_id)
    );
    assert!(spans.iter().all(|span| span.trace_id == server.trace_id));

    let (status, answer) = post(&sandbox, "not orders".to_owned()).await;
    assert_eq!(status, 400);
    assert_eq!(answer["trace_id"].as_str().unwrap().len(), 32);
    sandbox.shutdown("spindown").await;
}
