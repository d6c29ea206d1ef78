//! Lambda's SQS events, made for a test.

use serde_json::{Value, json};

/// One record as Lambda delivers it from the standard queue `orders`.
pub(crate) fn record(message_id: &str, body: &str, traceparent: Option<&str>) -> Value {
    let attributes = traceparent.map_or_else(
        || json!({}),
        |value| {
            json!({"traceparent": {
                "stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String",
            }})
        },
    );
    json!({
        "messageId": message_id,
        "receiptHandle": "not-a-handle",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1700000000000",
            "SenderId": "AIDAEXAMPLE",
            "ApproximateFirstReceiveTimestamp": "1700000000001",
        },
        "messageAttributes": attributes,
        "md5OfBody": "0",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "awsRegion": "eu-west-1",
    })
}

/// An event of such records.
pub(crate) fn event(records: Vec<Value>) -> Vec<u8> {
    json!({ "Records": records }).to_string().into_bytes()
}

/// A sampled `traceparent` whose ids are made from two numbers that are not zero.
pub(crate) fn traceparent(trace: u128, span: u64) -> String {
    format!("00-{trace:032x}-{span:016x}-01")
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
