//! The SQS endpoint over its wire, and the mapping from a queue to a function.
#![allow(clippy::unwrap_used, reason = "helpers of tests may, too")]

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use lambda_emulator::*;
use serde_json::{Value, json};
use std::time::Duration;

const ACTOR: &str = env!("CARGO_BIN_EXE_emulator-actor");
const LONG: Duration = Duration::from_secs(30);

/// One request of the JSON protocol; status, `x-amzn-query-error`, body.
async fn call(server: &SqsServer, operation: &str, body: Value) -> (u16, String, Value) {
    let address = server.endpoint_url().replace("http://", "");
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("/")
        .header("host", address)
        .header("x-amz-target", format!("AmazonSQS.{operation}"))
        .header("x-amzn-trace-id", "Root=1-http")
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let error = response
        .headers()
        .get("x-amzn-query-error")
        .map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (
        status,
        error.unwrap_or_default(),
        serde_json::from_slice(&body).unwrap(),
    )
}

async fn ok(server: &SqsServer, operation: &str, body: Value) -> Value {
    let (status, error, body) = call(server, operation, body).await;
    assert_eq!((status, error.as_str()), (200, ""), "{operation}: {body}");
    body
}

fn text(value: &str) -> Value {
    json!({"DataType": "String", "StringValue": value})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_round() {
    let server = SqsServer::start().await.unwrap();
    let url = ok(&server, "CreateQueue", json!({"QueueName": "orders"})).await["QueueUrl"].clone();
    let sent = ok(
        &server,
        "SendMessage",
        json!({
            "QueueUrl": url, "MessageBody": "hello", "MessageAttributes": {"traceparent": text("00-1"), "other": text("x")},
        }),
    );
    let sent = sent.await;
    assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    let some = ok(
        &server,
        "ReceiveMessage",
        json!({
            "QueueUrl": url, "MessageAttributeNames": ["trace.*"], "MessageSystemAttributeNames": ["AWSTraceHeader"],
            "VisibilityTimeout": 0,
        }),
    );
    let message = some.await["Messages"][0].clone();
    assert_eq!(
        message["MessageAttributes"],
        json!({"traceparent": text("00-1")})
    );
    assert_eq!(
        message["Attributes"],
        json!({"AWSTraceHeader": "Root=1-http"})
    );
    let all = ok(
        &server,
        "ReceiveMessage",
        json!({
            "QueueUrl": url, "MessageAttributeNames": [".*"], "AttributeNames": ["All"],
        }),
    );
    let message = all.await["Messages"][0].clone();
    assert_eq!(
        message["MD5OfMessageAttributes"],
        sent["MD5OfMessageAttributes"]
    );
    assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "2");
    let counts = ok(
        &server,
        "GetQueueAttributes",
        json!({"QueueUrl": url, "AttributeNames": ["All"]}),
    )
    .await;
    assert_eq!(
        counts["Attributes"]["ApproximateNumberOfMessagesNotVisible"],
        "1"
    );
    ok(
        &server,
        "DeleteMessage",
        json!({"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}),
    )
    .await;
    assert!(server.wait_empty("orders", LONG).await);
    assert_eq!(
        ok(&server, "ReceiveMessage", json!({"QueueUrl": url})).await,
        json!({})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_both_names() {
    let server = SqsServer::start().await.unwrap();
    let url = server.create_queue(QueueSpec::new("orders"));
    let fifo = server.create_queue(QueueSpec::new("orders.fifo"));
    let large = "x".repeat(600_000);
    for (operation, body, error) in [
        (
            "SendMessage",
            json!({"QueueUrl": "http://x/1/none", "MessageBody": "b"}),
            "AWS.SimpleQueueService.NonExistentQueue",
        ),
        (
            "SendMessage",
            json!({"QueueUrl": url, "MessageBody": ""}),
            "MissingParameter",
        ),
        (
            "SendMessage",
            json!({"QueueUrl": fifo, "MessageBody": "b"}),
            "MissingParameter",
        ),
        (
            "SendMessage",
            json!({"QueueUrl": url, "MessageBody": "b", "MessageAttributes": {"tracestate": text("")}}),
            "InvalidParameterValue",
        ),
        (
            "SendMessageBatch",
            json!({"QueueUrl": url, "Entries": []}),
            "AWS.SimpleQueueService.EmptyBatchRequest",
        ),
        (
            "SendMessageBatch",
            json!({"QueueUrl": url, "Entries": [{"Id": "a", "MessageBody": large}, {"Id": "b", "MessageBody": large}]}),
            "AWS.SimpleQueueService.BatchRequestTooLong",
        ),
        (
            "ReceiveMessage",
            json!({"QueueUrl": url, "MaxNumberOfMessages": 11}),
            "InvalidParameterValue",
        ),
        (
            "DeleteMessage",
            json!({"QueueUrl": url, "ReceiptHandle": "no"}),
            "ReceiptHandleIsInvalid",
        ),
        (
            "Nonsense",
            json!({}),
            "AWS.SimpleQueueService.UnsupportedOperation",
        ),
    ] {
        let (status, code, body) = call(&server, operation, body).await;
        assert_eq!(
            (status, code),
            (400, format!("{error};Sender")),
            "{operation} {body}"
        );
        assert!(
            body["__type"]
                .as_str()
                .unwrap()
                .starts_with("com.amazonaws.sqs#"),
            "{body}"
        );
    }
    let mixed = ok(
        &server,
        "SendMessageBatch",
        json!({"QueueUrl": url, "Entries": [
            {"Id": "good", "MessageBody": "b"},
            {"Id": "bad", "MessageBody": "b", "MessageAttributes": {"x": text("")}},
        ]}),
    );
    let mixed = mixed.await;
    assert_eq!(mixed["Successful"][0]["Id"], "good");
    assert_eq!(
        (
            mixed["Failed"][0]["Id"].as_str(),
            mixed["Failed"][0]["Code"].as_str()
        ),
        (Some("bad"), Some("InvalidParameterValue"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_when_a_message_comes_or_comes_to_light() {
    let server = SqsServer::start().await.unwrap();
    let url =
        server.create_queue(QueueSpec::new("orders").visibility_timeout(Duration::from_millis(50)));
    let poll = || {
        ok(
            &server,
            "ReceiveMessage",
            json!({"QueueUrl": url, "WaitTimeSeconds": 20}),
        )
    };
    let send = ok(
        &server,
        "SendMessage",
        json!({"QueueUrl": url, "MessageBody": "b"}),
    );
    let (first, _) = tokio::time::timeout(LONG / 2, async { tokio::join!(poll(), send) })
        .await
        .unwrap();
    assert_eq!(first["Messages"].as_array().unwrap().len(), 1);
    let again = tokio::time::timeout(LONG / 2, poll()).await.unwrap();
    assert_eq!(
        again["Messages"][0]["MessageId"],
        first["Messages"][0]["MessageId"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisonous_message_ends_in_the_dead_letter_queue_and_can_be_redriven() {
    let timeline = Timeline::new();
    let server = SqsServer::start_on(&timeline).await.unwrap();
    server.create_queue(QueueSpec::new("dlq"));
    let orders = QueueSpec::new("orders")
        .visibility_timeout(Duration::from_millis(50))
        .redrive("dlq", 2);
    let url = server.create_queue(orders);
    let entries: Vec<_> = ["one", "poison", "three"]
        .iter()
        .map(|body| json!({"Id": body, "MessageBody": body, "MessageAttributes": {"traceparent": text("00-1")}}))
        .collect();
    ok(
        &server,
        "SendMessageBatch",
        json!({"QueueUrl": url, "Entries": entries}),
    )
    .await;
    let consumer = Sandbox::builder("consumer")
        .bootstrap(ACTOR)
        .bootstrap_args(["runtime"])
        .timeline(&timeline);
    let consumer = consumer.start().await.unwrap();
    let spec = MappingSpec::default().report_batch_item_failures(true);
    let mapping = server.event_source_mapping("orders", &consumer, spec);
    assert!(
        server.wait_for_messages("dlq", 1, LONG).await,
        "{}",
        timeline.to_text()
    );
    assert!(server.wait_empty("orders", LONG).await);
    let batches = mapping.stop().await;
    assert_eq!(batches.len(), 2, "{batches:#?}");
    assert_eq!(batches[0].verdict, Verdict::Partial(vec![1]));
    assert_eq!(batches[1].verdict, Verdict::Partial(vec![0]));
    let dead = server.messages("dlq").remove(0);
    assert_eq!((dead.body.as_str(), dead.receive_count), ("poison", 2));
    assert_eq!(dead.id, batches[1].message_ids[0], "a move keeps the id");
    assert!(dead.attributes.contains_key("traceparent") && dead.trace_header.is_some());
    let sources = ok(
        &server,
        "ListDeadLetterSourceQueues",
        json!({"QueueUrl": server.queue_url("dlq")}),
    )
    .await;
    assert_eq!(sources, json!({"queueUrls": [url]}));

    server.keep_trace_header(false);
    let arn = "arn:aws:sqs:us-east-1:123456789012:dlq";
    ok(&server, "StartMessageMoveTask", json!({"SourceArn": arn})).await;
    let redriven = server.messages("orders").remove(0);
    assert_ne!(redriven.id, dead.id, "a redrive does not");
    assert_eq!((redriven.receive_count, redriven.trace_header), (0, None));
    assert!(redriven.attributes.contains_key("traceparent"));
    assert!(server.messages("dlq").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_is_lambdas() {
    let server = SqsServer::start().await.unwrap();
    let url = server.create_queue(QueueSpec::new("orders.fifo").content_based_deduplication(true));
    for (body, group) in [("1", "a"), ("2", "b"), ("3", "a")] {
        let sent = json!({"QueueUrl": url, "MessageBody": body, "MessageGroupId": group,
            "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "7"}}});
        ok(&server, "SendMessage", sent).await;
    }
    let sandbox = Sandbox::builder("consumer")
        .bootstrap(ACTOR)
        .bootstrap_args(["runtime"])
        .start()
        .await
        .unwrap();
    let mapping = server.event_source_mapping("orders.fifo", &sandbox, MappingSpec::default());
    let line = sandbox
        .wait_for_log(|line| line.text.starts_with("batch "), LONG)
        .await
        .unwrap();
    let event: Value = serde_json::from_str(&line.text["batch ".len()..]).unwrap();
    let records = event["Records"].as_array().unwrap();
    let bodies: Vec<_> = records
        .iter()
        .map(|record| record["body"].as_str().unwrap())
        .collect();
    assert_eq!(bodies, ["1", "2", "3"]);
    let record = &records[0];
    assert_eq!(
        record["eventSourceARN"],
        "arn:aws:sqs:us-east-1:123456789012:orders.fifo"
    );
    assert_eq!(record["awsRegion"], "us-east-1");
    assert_eq!(
        record["messageAttributes"]["n"],
        json!({
            "dataType": "Number", "stringValue": "7", "stringListValues": [], "binaryListValues": [],
        })
    );
    for name in [
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
        "AWSTraceHeader",
        "MessageGroupId",
        "MessageDeduplicationId",
        "SequenceNumber",
    ] {
        assert!(record["attributes"][name].is_string(), "{name} in {record}");
    }
    assert!(server.wait_empty("orders.fifo", LONG).await);
    drop(mapping);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_fails_keeps_its_batch() {
    let server = SqsServer::start().await.unwrap();
    let url = server.create_queue(QueueSpec::new("orders").visibility_timeout(LONG));
    ok(
        &server,
        "SendMessage",
        json!({"QueueUrl": url, "MessageBody": "one"}),
    )
    .await;
    // It has no time at all, so every invocation is cut off.
    let sandbox = Sandbox::builder("slow")
        .bootstrap(ACTOR)
        .bootstrap_args(["runtime"])
        .start()
        .await
        .unwrap();
    sandbox.shutdown("spindown").await;
    let spec = MappingSpec::default().retry_at_once(true);
    let mapping = server.event_source_mapping("orders", &sandbox, spec);
    assert!(
        mapping.wait_for_batches(2, LONG).await,
        "made visible at once, not after its 30 seconds"
    );
    assert!(
        mapping
            .batches()
            .iter()
            .all(|batch| batch.verdict == Verdict::Failure)
    );
    assert_eq!(server.messages("orders").len(), 1);
}
