use opentelemetry::Value;

use super::*;

fn message() -> SqsMessage {
    let mut m = SqsMessage::default();
    m.message_id = Some("m-1".to_owned());
    m.receipt_handle = Some("secret".to_owned());
    m.body = Some("12345".to_owned());
    m.event_source_arn = Some("arn:aws:sqs:eu-west-1:123456789012:orders".to_owned());
    for (key, value) in [
        ("ApproximateReceiveCount", "3"),
        ("SentTimestamp", "1000"),
        ("SenderId", "AIDA:someone@example.com"),
        ("MessageGroupId", "tenant-7"),
        (
            "DeadLetterQueueSourceArn",
            "arn:aws:sqs:eu-west-1:123456789012:origin",
        ),
    ] {
        m.attributes.insert(key.to_owned(), value.to_owned());
    }
    let mut attribute = aws_lambda_events::sqs::SqsMessageAttribute::default();
    attribute.data_type = Some("String".to_owned());
    attribute.string_value = Some("high".to_owned());
    m.message_attributes
        .insert("priority".to_owned(), attribute);
    m
}

fn attributes(
    options: &AttributeOptions,
    message: &SqsMessage,
    now_ms: u64,
) -> Vec<(String, Value)> {
    let queue = Queues::default().of(message);
    let now = UNIX_EPOCH + Duration::from_millis(now_ms);
    let mut list: Vec<_> = record_attributes(options, queue.as_deref(), message, "w3c", now)
        .into_iter()
        .map(|kv| (kv.key.to_string(), kv.value))
        .collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    list
}

#[test]
fn a_records_span_says_what_the_conventions_ask_and_nothing_personal() {
    let list = attributes(&AttributeOptions::default(), &message(), 3_500);
    let expected: Vec<(String, Value)> = [
        (
            "aws.sqs.queue.url",
            Value::from("https://sqs.eu-west-1.amazonaws.com/123456789012/orders"),
        ),
        ("faas.trigger", "pubsub".into()),
        ("messaging.destination.name", "orders".into()),
        ("messaging.message.id", "m-1".into()),
        ("messaging.operation.name", "process".into()),
        ("messaging.operation.type", "process".into()),
        ("messaging.system", "aws_sqs".into()),
        ("throughline.context.source", "w3c".into()),
        ("throughline.dead_letter.source", "origin".into()),
        ("throughline.message.queue_time", 2.5.into()),
        ("throughline.message.receive_count", 3.into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    assert_eq!(list, expected);
    let text = format!("{list:?}");
    for secret in ["secret", "example.com", "tenant-7", "12345\"", "high"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn what_is_missing_or_unreadable_is_left_out() {
    let mut m = SqsMessage::default();
    m.event_source_arn = Some("orders".to_owned());
    m.attributes
        .insert("SentTimestamp".to_owned(), "yesterday".to_owned());
    m.attributes
        .insert("ApproximateReceiveCount".to_owned(), "many".to_owned());
    m.attributes.insert(
        "DeadLetterQueueSourceArn".to_owned(),
        "arn:aws:sqs:::".to_owned(),
    );
    let names: Vec<_> = attributes(&AttributeOptions::default(), &m, 0)
        .into_iter()
        .map(|(k, _)| k)
        .collect();
    assert_eq!(
        names,
        [
            "faas.trigger",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.system",
            "throughline.context.source"
        ]
    );
}

#[test]
fn clocks_that_differ_do_not_make_a_negative_time_in_the_queue() {
    let list = attributes(&AttributeOptions::default(), &message(), 10);
    let time = list
        .iter()
        .find(|(key, _)| key == "throughline.message.queue_time");
    assert_eq!(time.unwrap().1, Value::from(0.0));
}

#[test]
fn each_option_adds_or_removes_its_attributes() {
    let names = |options: &AttributeOptions| -> Vec<String> {
        attributes(options, &message(), 3_500)
            .into_iter()
            .map(|(k, _)| k)
            .collect()
    };
    let none = AttributeOptions {
        own: false,
        ..AttributeOptions::default()
    };
    assert!(
        !names(&none)
            .iter()
            .any(|name| name.starts_with("throughline."))
    );
    let all = AttributeOptions {
        queue_fifo: true,
        sizes: true,
        headers: vec!["priority".to_owned(), "absent".to_owned()],
        operation: "handle".into(),
        ..AttributeOptions::default()
    };
    let list = attributes(&all, &message(), 3_500);
    let value = |key: &str| list.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    assert_eq!(value("throughline.queue.fifo"), Some(false.into()));
    assert_eq!(value("messaging.message.body.size"), Some(5.into()));
    // body, and "priority" + "String" + "high"
    assert_eq!(
        value("messaging.message.envelope.size"),
        Some((5 + 8 + 6 + 4).into())
    );
    assert_eq!(
        value("messaging.message.header.priority"),
        Some("high".into())
    );
    assert_eq!(value("messaging.message.header.absent"), None);
    assert_eq!(value("messaging.operation.name"), Some("handle".into()));
    assert_eq!(value("messaging.operation.type"), Some("process".into()));
}

#[test]
fn a_queue_is_read_from_its_arn() {
    for (arn, expected) in [
        (
            "arn:aws:sqs:eu-west-1:123456789012:q",
            Some((
                "q",
                Some("https://sqs.eu-west-1.amazonaws.com/123456789012/q"),
                false,
            )),
        ),
        (
            "arn:aws:sqs:eu-west-1:1:q.fifo",
            Some((
                "q.fifo",
                Some("https://sqs.eu-west-1.amazonaws.com/1/q.fifo"),
                true,
            )),
        ),
        (
            "arn:aws-cn:sqs:cn-north-1:1:q",
            Some((
                "q",
                Some("https://sqs.cn-north-1.amazonaws.com.cn/1/q"),
                false,
            )),
        ),
        (
            "arn:aws-us-gov:sqs:us-gov-west-1:1:q",
            Some((
                "q",
                Some("https://sqs.us-gov-west-1.amazonaws.com/1/q"),
                false,
            )),
        ),
        (
            "arn:aws-iso:sqs:us-iso-east-1:1:q",
            Some(("q", Some("https://sqs.us-iso-east-1.c2s.ic.gov/1/q"), false)),
        ),
        ("arn:aws-mars:sqs:olympus-1:1:q", Some(("q", None, false))),
        ("arn:aws:sqs:::q", Some(("q", None, false))),
        ("arn:aws:sqs:eu-west-1:1:", None),
        ("arn:aws:sns:eu-west-1:1:q", None),
        ("arn:aws:sqs:eu-west-1:1:q:x", None),
        ("q", None),
        ("", None),
    ] {
        let queue = Queue::from_arn(arn);
        let read = queue.as_ref().map(|q| (&*q.name, q.url.as_deref(), q.fifo));
        assert_eq!(read, expected, "{arn}");
    }
}

#[test]
fn names_and_batch_attributes() {
    let queue = Queue::from_arn("arn:aws:sqs:eu-west-1:1:orders").unwrap();
    let process = Cow::Borrowed("process");
    assert_eq!(name(&process, Some(&queue)), "process orders");
    assert_eq!(name(&process, None), "process");
    let one = batch_attributes(&AttributeOptions::default(), Some(&queue), 1);
    assert!(one.contains(&KeyValue::new("messaging.batch.message_count", 1)));
    assert!(one.contains(&KeyValue::new("messaging.destination.name", "orders")));
    assert!(
        !one.iter()
            .any(|kv| kv.key.as_str() == "messaging.message.id")
    );
}
