use serde_json::{Value, json};

use super::*;

fn batch(event: &Value) -> Batch {
    serde_json::from_str(&event.to_string()).unwrap()
}

fn refusal(event: &Value) -> String {
    serde_json::from_str::<Batch>(&event.to_string())
        .unwrap_err()
        .to_string()
}

/// A record as SQS sends it, with some of its fields replaced.
fn record(changes: &Value) -> Value {
    let mut record = json!({
        "messageId": "m-1",
        "receiptHandle": "handle",
        "body": "{}",
        "md5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795346000000"},
        "messageAttributes": {"traceparent": {"stringValue": "00-", "dataType": "String", "stringListValues": [], "binaryListValues": []}},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "awsRegion": "eu-west-1",
    });
    for (key, value) in changes.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

fn one(changes: &Value) -> Record {
    let batch = batch(&json!({"Records": [record(changes)]}));
    assert_eq!(batch.len(), 1);
    batch.records.into_iter().next().unwrap()
}

#[test]
fn what_the_strict_type_reads_is_read_the_same() {
    let event = json!({"Records": [record(&json!({
        "messageAttributes": {
            "text": {"stringValue": "a", "dataType": "String"},
            "bytes": {"binaryValue": "AAEC", "dataType": "Binary", "stringListValues": ["x"], "binaryListValues": ["AQ=="]},
        },
    }))]});
    let strict: SqsEvent = serde_json::from_value(event.clone()).unwrap();
    assert_eq!(batch(&event), Batch::from(strict));
}

// Each of these makes `aws_lambda_events` 1.2.1 refuse the whole event.
#[test]
fn one_odd_field_costs_itself_and_nothing_else() {
    for odd in [
        json!({"messageAttributes": {"a": {"stringListValues": null, "binaryListValues": null, "stringValue": "x"}}}),
        json!({"messageAttributes": {"a": {"binaryValue": "not base64!", "stringValue": "x"}}}),
        json!({"messageAttributes": {"a": null, "b": 1, "c": []}}),
        json!({"messageAttributes": [], "attributes": "none"}),
        json!({"attributes": {"SentTimestamp": null, "ApproximateReceiveCount": {"x": 1}}}),
        json!({"attributes": null, "messageAttributes": null}),
        json!({"md5OfBody": {"a": 1}, "receiptHandle": 7, "awsRegion": []}),
    ] {
        let record = one(&odd);
        assert_eq!(record.defect, None, "{odd}");
        assert_eq!(record.message.message_id.as_deref(), Some("m-1"), "{odd}");
        assert_eq!(record.message.body.as_deref(), Some("{}"), "{odd}");
    }
}

#[test]
fn the_good_part_of_an_odd_attribute_is_kept() {
    let record = one(&json!({
        "attributes": {"SentTimestamp": 1_795_346_000_000_u64, "ApproximateReceiveCount": "3"},
        "messageAttributes": {"n": {"dataType": "Number", "stringValue": "100", "binaryValue": "base64Str"}},
    }));
    assert_eq!(record.message.attributes["SentTimestamp"], "1795346000000");
    assert_eq!(record.message.attributes["ApproximateReceiveCount"], "3");
    let attribute = &record.message.message_attributes["n"];
    assert_eq!(attribute.string_value.as_deref(), Some("100"));
    assert_eq!(attribute.data_type.as_deref(), Some("Number"));
}

#[test]
fn a_key_that_comes_twice_does_not_lose_the_batch() {
    let text =
        r#"{"Records":[{"messageId":"a","messageId":"b","body":"x","eventSource":"aws:sqs"}]}"#;
    let batch: Batch = serde_json::from_str(text).unwrap();
    assert_eq!(batch.records[0].message.message_id.as_deref(), Some("b"));
}

#[test]
fn a_body_that_is_not_a_string_is_a_defect_and_never_a_missing_body() {
    for body in [
        Value::Null,
        json!(1),
        json!(true),
        json!({"id": 1}),
        json!([]),
    ] {
        let record = one(&json!({"body": body}));
        assert_eq!(record.defect, Some(Defect::NoBody), "{body}");
        assert_eq!(record.message.message_id.as_deref(), Some("m-1"));
    }
    let without = json!({"Records": [{"messageId": "m-1", "eventSource": "aws:sqs"}]});
    assert_eq!(batch(&without).records[0].defect, Some(Defect::NoBody));
    assert_eq!(
        one(&json!({"body": ""})).defect,
        None,
        "an empty body is a body"
    );
}

#[test]
fn a_record_that_is_not_an_object_is_a_defect_beside_the_others() {
    for odd in [
        Value::Null,
        json!(1),
        json!(-1),
        json!(1.5),
        json!("text"),
        json!(false),
        json!([[1]]),
    ] {
        let batch = batch(&json!({"Records": [record(&json!({})), odd, record(&json!({}))]}));
        let defects: Vec<_> = batch.records.iter().map(|r| r.defect).collect();
        assert_eq!(defects, [None, Some(Defect::NotAnObject), None], "{odd}");
    }
}

#[test]
fn an_event_from_elsewhere_is_refused_by_name() {
    for (event, expected) in [
        (json!({}), "it is empty"),
        (json!({"Records": null}), "`Records` is not a list"),
        (json!({"Records": {}}), "`Records` is not a list"),
        (json!({"Records": "x"}), "`Records` is not a list"),
        (
            json!({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}),
            "its records come from aws:sns",
        ),
        (
            json!({"Records": [record(&json!({})), record(&json!({"eventSource": "aws:s3"}))]}),
            "come from aws:s3",
        ),
        (
            json!({"Records": [{"cf": {}}]}),
            "a service that they do not name",
        ),
        (
            json!({"eventSource": "aws:kafka", "records": {}}),
            "it comes from aws:kafka",
        ),
        (json!({"Messages": []}), "a ReceiveMessage answer"),
        (json!({"batchItemFailures": []}), "a partial batch response"),
        (
            json!({"detail": {}, "detail-type": "x"}),
            "an EventBridge event",
        ),
        (json!({"rmqMessagesByQueue": {}}), "a RabbitMQ event"),
        (
            json!({"deliveryStreamArn": "x", "records": []}),
            "a Firehose",
        ),
        (
            json!({"messageId": "m", "body": "b"}),
            "a single SQS record",
        ),
        (
            json!({"messageId": "m", "body": "b", "eventSource": "aws:sqs"}),
            "a single record of aws:sqs",
        ),
        (json!({"key1": 1, "key2": 2}), "its keys are `key1`, `key2`"),
        (json!([1]), "an SQS event: an object"),
        (json!("x"), "an SQS event: an object"),
    ] {
        let text = refusal(&event);
        assert!(text.contains(expected), "{event}: {text}");
    }
}

#[test]
fn a_record_without_a_source_counts_when_it_has_what_only_sqs_has() {
    let event = json!({"Records": [
        {"messageId": "m", "body": "b"},
        {"body": "b", "eventSourceARN": "arn:aws:sqs:eu-west-1:1:q"},
        {"body": "b", "receiptHandle": "h"},
    ]});
    assert_eq!(batch(&event).len(), 3);
}

#[test]
fn an_empty_batch_is_a_batch() {
    assert!(batch(&json!({"Records": []})).is_empty());
}

#[test]
fn deep_nesting_in_an_ignored_place_is_read_over() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let text = format!(
        r#"{{"x":{deep},"Records":[{{"messageId":"m","body":"b","eventSource":"aws:sqs","y":{deep}}}]}}"#
    );
    assert_eq!(serde_json::from_str::<Batch>(&text).unwrap().len(), 1);
}
