//! The event as Lambda builds it from what `ReceiveMessage` gave.

use serde_json::{Map, Value, json};

/// An `SqsEvent` of received messages (the objects of `ReceiveMessage`'s `Messages`).
/// Source: AWS Lambda, "Using Lambda with Amazon SQS", example event.
pub fn sqs_event(messages: &[Value], queue_arn: &str, region: &str) -> Value {
    let records: Vec<_> = messages
        .iter()
        .map(|message| record(message, queue_arn, region))
        .collect();
    json!({"Records": records})
}

fn record(message: &Value, queue_arn: &str, region: &str) -> Value {
    let mut record = json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes").cloned().unwrap_or_else(|| json!({})),
        "messageAttributes": attributes(&message["MessageAttributes"]),
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": region,
    });
    if let Some(md5) = message.get("MD5OfMessageAttributes") {
        record["md5OfMessageAttributes"] = md5.clone();
    }
    record
}

/// User attributes in Lambda's camel case, with its two lists that are always empty.
fn attributes(user: &Value) -> Value {
    let mut map = Map::new();
    for (name, value) in user.as_object().into_iter().flatten() {
        let mut attribute = json!({
            "dataType": value["DataType"], "stringListValues": [], "binaryListValues": [],
        });
        for (from, to) in [
            ("StringValue", "stringValue"),
            ("BinaryValue", "binaryValue"),
        ] {
            if let Some(value) = value.get(from) {
                attribute[to] = value.clone();
            }
        }
        map.insert(name.clone(), attribute);
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_as_lambda_writes_it() {
        let message = json!({
            "MessageId": "id", "ReceiptHandle": "handle", "Body": "{}", "MD5OfBody": "md5",
            "MD5OfMessageAttributes": "md5a",
            "Attributes": {"ApproximateReceiveCount": "1", "AWSTraceHeader": "Root=1"},
            "MessageAttributes": {
                "traceparent": {"DataType": "String", "StringValue": "00-"},
                "raw": {"DataType": "Binary", "BinaryValue": "AAE="},
            },
        });
        let arn = "arn:aws:sqs:us-east-1:123456789012:q";
        assert_eq!(
            sqs_event(&[message], arn, "us-east-1"),
            json!({"Records": [{
                "messageId": "id", "receiptHandle": "handle", "body": "{}", "md5OfBody": "md5",
                "md5OfMessageAttributes": "md5a",
                "attributes": {"ApproximateReceiveCount": "1", "AWSTraceHeader": "Root=1"},
                "messageAttributes": {
                    "traceparent": {"dataType": "String", "stringValue": "00-", "stringListValues": [], "binaryListValues": []},
                    "raw": {"dataType": "Binary", "binaryValue": "AAE=", "stringListValues": [], "binaryListValues": []},
                },
                "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": "us-east-1",
            }]})
        );
        let bare = sqs_event(&[json!({"MessageId": "id"})], arn, "us-east-1");
        assert_eq!(bare["Records"][0]["messageAttributes"], json!({}));
        assert_eq!(bare["Records"][0].get("md5OfMessageAttributes"), None);
    }
}
