//! What the spans of a batch say: names and attributes, from the messages alone.
//!
//! Messaging semantic conventions 1.44, "Messaging spans" and "Amazon SQS". Everything of
//! `messaging.*`, `faas.*` and `aws.*` is in development there, so the scope carries the version.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lambda_events::sqs::SqsMessage;
use opentelemetry::KeyValue;

/// The version of the semantic conventions that names and attributes follow.
pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

pub(crate) const SYSTEM: &str = "aws_sqs";

/// A queue, as its ARN names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) name: Arc<str>,
    /// Absent when the partition is unknown, or the ARN has no region or account.
    pub(crate) url: Option<Arc<str>>,
    pub(crate) fifo: bool,
}

impl Queue {
    /// Reads `arn:partition:sqs:region:account:name`.
    pub(crate) fn from_arn(arn: &str) -> Option<Self> {
        let mut fields = arn.split(':');
        let ("arn", partition, "sqs", region, account, name, None) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next(),
        ) else {
            return None;
        };
        if name.is_empty() {
            return None;
        }
        let url = dns_suffix(partition)
            .filter(|_| !region.is_empty() && !account.is_empty())
            .map(|suffix| format!("https://sqs.{region}.{suffix}/{account}/{name}").into());
        Some(Self {
            name: name.into(),
            url,
            fifo: name.ends_with(".fifo"),
        })
    }
}

/// The DNS suffix of a partition's endpoints; an unknown partition has none, rather than a wrong one.
fn dns_suffix(partition: &str) -> Option<&'static str> {
    Some(match partition {
        "aws" | "aws-us-gov" => "amazonaws.com",
        "aws-cn" => "amazonaws.com.cn",
        "aws-eusc" => "amazonaws.eu",
        "aws-iso" => "c2s.ic.gov",
        "aws-iso-b" => "sc2s.sgov.gov",
        "aws-iso-e" => "cloud.adc-e.uk",
        "aws-iso-f" => "csp.hci.ic.gov",
        _ => return None,
    })
}

/// The queues of a batch: nearly always one, so the last one is remembered.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    last: Option<(String, Option<Arc<Queue>>)>,
}

impl Queues {
    pub(crate) fn of(&mut self, message: &SqsMessage) -> Option<Arc<Queue>> {
        let arn = message.event_source_arn.as_deref()?;
        match &self.last {
            Some((known, queue)) if known == arn => queue.clone(),
            _ => {
                let queue = Queue::from_arn(arn).map(Arc::new);
                self.last = Some((arn.to_owned(), queue.clone()));
                queue
            }
        }
    }
}

/// Which attributes beyond the usual ones are wanted.
#[derive(Clone, Debug)]
pub(crate) struct AttributeOptions {
    /// `messaging.operation.name`, and the first word of the span's name.
    pub(crate) operation: Cow<'static, str>,
    /// The `throughline.*` attributes.
    pub(crate) own: bool,
    /// `throughline.queue.fifo`.
    pub(crate) queue_fifo: bool,
    /// `messaging.message.body.size` and `messaging.message.envelope.size`.
    pub(crate) sizes: bool,
    /// User attributes copied to `messaging.message.header.<name>`.
    pub(crate) headers: Vec<String>,
}

impl Default for AttributeOptions {
    fn default() -> Self {
        Self {
            operation: Cow::Borrowed("process"),
            own: true,
            queue_fifo: false,
            sizes: false,
            headers: Vec::new(),
        }
    }
}

/// `process orders`; only the operation when the queue is not known.
#[expect(
    clippy::ptr_arg,
    reason = "cloned, which copies nothing when the name is static"
)]
pub(crate) fn name(operation: &Cow<'static, str>, queue: Option<&Queue>) -> Cow<'static, str> {
    match queue {
        Some(queue) => Cow::Owned(format!("{operation} {}", queue.name)),
        None => operation.clone(),
    }
}

/// The attributes that batch and record spans have in common.
fn common(options: &AttributeOptions, queue: Option<&Queue>) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(12);
    attributes.push(KeyValue::new("messaging.system", SYSTEM));
    attributes.push(KeyValue::new(
        "messaging.operation.name",
        options.operation.clone(),
    ));
    attributes.push(KeyValue::new("messaging.operation.type", "process"));
    attributes.push(KeyValue::new("faas.trigger", "pubsub"));
    if let Some(queue) = queue {
        attributes.push(KeyValue::new(
            "messaging.destination.name",
            queue.name.clone(),
        ));
        if let Some(url) = &queue.url {
            attributes.push(KeyValue::new("aws.sqs.queue.url", url.clone()));
        }
    }
    attributes
}

/// The attributes of a batch span over `records` records; `queue` only when all come from one.
pub(crate) fn batch_attributes(
    options: &AttributeOptions,
    queue: Option<&Queue>,
    records: usize,
) -> Vec<KeyValue> {
    let mut attributes = common(options, queue);
    // Also for a batch of one: the event source mapping is a batch API.
    attributes.push(KeyValue::new(
        "messaging.batch.message_count",
        i64::try_from(records).unwrap_or(i64::MAX),
    ));
    attributes
}

/// The attributes a record's span has from its start, at the time `now`.
pub(crate) fn record_attributes(
    options: &AttributeOptions,
    queue: Option<&Queue>,
    message: &SqsMessage,
    source: &'static str,
    now: SystemTime,
) -> Vec<KeyValue> {
    let mut attributes = common(options, queue);
    if let Some(id) = &message.message_id {
        attributes.push(KeyValue::new("messaging.message.id", id.clone()));
    }
    if options.own {
        attributes.push(KeyValue::new("throughline.context.source", source));
        if let Some(count) = receive_count(message) {
            attributes.push(KeyValue::new("throughline.message.receive_count", count));
        }
        if let Some(sent) = sent_at(message) {
            // The clocks of SQS and of the sandbox differ, so a negative time is possible.
            let waited = now.duration_since(sent).unwrap_or_default();
            attributes.push(KeyValue::new(
                "throughline.message.queue_time",
                waited.as_secs_f64(),
            ));
        }
        if let Some(source) = dead_letter_source(message) {
            attributes.push(KeyValue::new(
                "throughline.dead_letter.source",
                source.to_owned(),
            ));
        }
    }
    if let Some(queue) = queue.filter(|_| options.queue_fifo) {
        attributes.push(KeyValue::new("throughline.queue.fifo", queue.fifo));
    }
    if options.sizes {
        let body = message.body.as_ref().map_or(0, String::len);
        attributes.push(KeyValue::new("messaging.message.body.size", size(body)));
        attributes.push(KeyValue::new(
            "messaging.message.envelope.size",
            size(body + attribute_bytes(message)),
        ));
    }
    for name in &options.headers {
        if let Some(value) = message
            .message_attributes
            .get(name)
            .and_then(|attribute| attribute.string_value.as_ref())
        {
            attributes.push(KeyValue::new(
                format!("messaging.message.header.{name}"),
                value.clone(),
            ));
        }
    }
    attributes
}

/// How often SQS has handed out the message, this time included.
pub(crate) fn receive_count(message: &SqsMessage) -> Option<i64> {
    message
        .attributes
        .get("ApproximateReceiveCount")?
        .parse()
        .ok()
}

/// When SQS accepted the message, to the millisecond.
fn sent_at(message: &SqsMessage) -> Option<SystemTime> {
    let millis: u64 = message.attributes.get("SentTimestamp")?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// The name of the queue that SQS moved the message away from.
fn dead_letter_source(message: &SqsMessage) -> Option<&str> {
    let arn = message.attributes.get("DeadLetterQueueSourceArn")?;
    arn.split(':').nth(5).filter(|name| !name.is_empty())
}

/// What SQS counts besides the body: each attribute's name, type and value.
fn attribute_bytes(message: &SqsMessage) -> usize {
    message
        .message_attributes
        .iter()
        .map(|(name, attribute)| {
            name.len()
                + attribute.data_type.as_ref().map_or(0, String::len)
                + attribute.string_value.as_ref().map_or(0, String::len)
                + attribute.binary_value.as_ref().map_or(0, |data| data.len())
        })
        .sum()
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
