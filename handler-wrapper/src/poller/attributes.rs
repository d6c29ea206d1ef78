//! What the span of a polled message says (semantic conventions 1.44, "Messaging spans", "Amazon SQS").
//!
//! As in Lambda, but for `faas.trigger`: there is no function here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as SystemName};
use opentelemetry::KeyValue;

use crate::consumer_span::{Queue, SYSTEM};

/// The queue with this URL: its name is the last segment of the path.
pub(super) fn queue_of(url: &str) -> Option<Queue> {
    let name = url.trim_end_matches('/').rsplit('/').next()?;
    (!name.is_empty()).then(|| Queue {
        name: name.into(),
        url: Some(url.into()),
        fifo: name.ends_with(".fifo"),
    })
}

/// The attributes of a message's span; with `source`, those of our own too.
pub(super) fn of(
    message: &Message,
    queue_url: &str,
    queue: Option<&Queue>,
    source: Option<&'static str>,
    now: SystemTime,
) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", SYSTEM),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("aws.sqs.queue.url", queue_url.to_owned()),
    ];
    let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
    attributes
        .extend(queue.map(|queue| KeyValue::new("messaging.destination.name", queue.name.clone())));
    attributes.extend(
        message
            .message_id()
            .map(|id| text("messaging.message.id", id)),
    );
    let Some(source) = source else {
        return attributes;
    };
    let system = |name: SystemName| message.attributes.as_ref()?.get(&name).map(String::as_str);
    attributes.push(KeyValue::new("throughline.context.source", source));
    let count =
        system(SystemName::ApproximateReceiveCount).and_then(|count| count.parse::<i64>().ok());
    attributes.extend(count.map(|count| KeyValue::new("throughline.message.receive_count", count)));
    let sent = system(SystemName::SentTimestamp)
        .and_then(|millis| millis.parse().ok())
        .and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
    // The clocks of SQS and of the worker differ, so a negative time is possible.
    let waited = sent.map(|sent| now.duration_since(sent).unwrap_or_default().as_secs_f64());
    attributes.extend(waited.map(|waited| KeyValue::new("throughline.message.queue_time", waited)));
    let dead_letter = system(SystemName::DeadLetterQueueSourceArn)
        .and_then(|arn| arn.split(':').nth(5))
        .filter(|name| !name.is_empty());
    attributes.extend(dead_letter.map(|name| text("throughline.dead_letter.source", name)));
    attributes
}
