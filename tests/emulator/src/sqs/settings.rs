//! What a queue is like.

use super::{ACCOUNT, REGION, refusal::Refusal};
use serde_json::{Value, json};
use std::time::Duration;

/// Largest message, and the default: 1 MiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_048_576;

/// A queue to be created. Names that end in `.fifo` make FIFO queues.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct QueueSpec {
    pub(super) name: String,
    pub(super) visibility_timeout: Duration,
    pub(super) delay: Duration,
    pub(super) wait: Duration,
    pub(super) message_bytes_max: usize,
    pub(super) content_based_deduplication: bool,
    pub(super) redrive: Option<Redrive>,
}

/// When and where to give a message up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redrive {
    pub(super) queue: String,
    pub(super) receives_max: u32,
}

impl QueueSpec {
    /// Visibility timeout 30 s, no delay, no long polling, messages up to 1 MiB, no dead-letter queue.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            visibility_timeout: Duration::from_secs(30),
            delay: Duration::ZERO,
            wait: Duration::ZERO,
            message_bytes_max: MESSAGE_BYTES_MAX,
            content_based_deduplication: false,
            redrive: None,
        }
    }

    /// How long a received message stays invisible; fractions of a second are allowed here, unlike at AWS.
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// How long a sent message stays invisible.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Size limit of a message, attributes included.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Deduplicates by the body where the sender gives no deduplication id (FIFO).
    pub fn content_based_deduplication(mut self, on: bool) -> Self {
        self.content_based_deduplication = on;
        self
    }

    /// Messages received more than so many times go to that queue, which has to exist.
    pub fn redrive(mut self, dead_letter_queue: impl Into<String>, receives_max: u32) -> Self {
        self.redrive = Some(Redrive {
            queue: dead_letter_queue.into(),
            receives_max,
        });
        self
    }

    pub(super) fn fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }

    pub(super) fn arn(&self) -> String {
        arn(&self.name)
    }

    /// SQS, "Queue names": 80 characters of letters, digits, hyphens and underscores, the suffix included.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let stem = self.name.strip_suffix(".fifo").unwrap_or(&self.name);
        let good = stem
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if stem.is_empty() || self.name.len() > 80 || !good {
            let text = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
            return Err(Refusal::parameter(text));
        }
        match self.content_based_deduplication && !self.fifo() {
            true => Err(Refusal::attribute_name("ContentBasedDeduplication")),
            false => Ok(()),
        }
    }

    /// Changes settings as the API names them, all of them text.
    pub(super) fn apply(&mut self, attributes: &Value) -> Result<(), Refusal> {
        for (name, value) in attributes.as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            let number = |range: std::ops::RangeInclusive<u64>| {
                let number = text.parse().ok().filter(|number| range.contains(number));
                number.ok_or_else(|| Refusal::attribute_value(name))
            };
            match name.as_str() {
                "VisibilityTimeout" => {
                    self.visibility_timeout = Duration::from_secs(number(0..=43_200)?);
                }
                "DelaySeconds" => self.delay = Duration::from_secs(number(0..=900)?),
                "ReceiveMessageWaitTimeSeconds" => self.wait = Duration::from_secs(number(0..=20)?),
                "MaximumMessageSize" => {
                    let bytes = number(1024..=MESSAGE_BYTES_MAX as u64)?;
                    self.message_bytes_max = usize::try_from(bytes).unwrap_or(MESSAGE_BYTES_MAX);
                }
                "ContentBasedDeduplication" => self.content_based_deduplication = text == "true",
                "FifoQueue" if (text == "true") == self.fifo() => {}
                "FifoQueue" => {
                    return Err(Refusal::parameter(
                        "a FIFO queue's name ends in .fifo, no other's does",
                    ));
                }
                "RedrivePolicy" if text.is_empty() => self.redrive = None,
                "RedrivePolicy" => self.redrive = Some(redrive(text)?),
                // Accepted, and of no consequence here.
                "MessageRetentionPeriod"
                | "Policy"
                | "RedriveAllowPolicy"
                | "KmsMasterKeyId"
                | "KmsDataKeyReusePeriodSeconds"
                | "SqsManagedSseEnabled"
                | "DeduplicationScope"
                | "FifoThroughputLimit" => {}
                other => return Err(Refusal::attribute_name(other)),
            }
        }
        Ok(())
    }

    /// Settings as the API names them.
    pub(super) fn to_json(&self) -> Value {
        let mut all = json!({
            "QueueArn": self.arn(),
            "VisibilityTimeout": self.visibility_timeout.as_secs().to_string(),
            "DelaySeconds": self.delay.as_secs().to_string(),
            "ReceiveMessageWaitTimeSeconds": self.wait.as_secs().to_string(),
            "MaximumMessageSize": self.message_bytes_max.to_string(),
            "MessageRetentionPeriod": "345600",
        });
        if self.fifo() {
            all["FifoQueue"] = json!("true");
            all["ContentBasedDeduplication"] = json!(self.content_based_deduplication.to_string());
        }
        if let Some(redrive) = &self.redrive {
            let policy = json!({
                "deadLetterTargetArn": arn(&redrive.queue), "maxReceiveCount": redrive.receives_max,
            });
            all["RedrivePolicy"] = json!(policy.to_string());
        }
        all
    }
}

fn redrive(text: &str) -> Result<Redrive, Refusal> {
    let policy: Value =
        serde_json::from_str(text).map_err(|_| Refusal::attribute_value("RedrivePolicy"))?;
    let queue = policy["deadLetterTargetArn"]
        .as_str()
        .and_then(|arn| arn.rsplit(':').next());
    let receives_max = policy["maxReceiveCount"]
        .as_u64()
        .or_else(|| policy["maxReceiveCount"].as_str()?.parse().ok());
    match (
        queue,
        receives_max.and_then(|count| u32::try_from(count).ok()),
    ) {
        (Some(queue), Some(receives_max @ 1..=1000)) => Ok(Redrive {
            queue: queue.to_owned(),
            receives_max,
        }),
        _ => Err(Refusal::attribute_value("RedrivePolicy")),
    }
}

/// ARN of a queue of that name.
pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_settings() {
        assert!(QueueSpec::new("orders").check().is_ok());
        assert!(QueueSpec::new("a".repeat(81)).check().is_err());
        assert!(QueueSpec::new("or.ders").check().is_err());
        assert!(QueueSpec::new(".fifo").check().is_err());
        let mut spec = QueueSpec::new("orders.fifo");
        spec.apply(&json!({
            "VisibilityTimeout": "5", "ContentBasedDeduplication": "true", "FifoQueue": "true",
            "RedrivePolicy": r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:1:dlq.fifo","maxReceiveCount":"3"}"#,
        }))
        .unwrap();
        let same = QueueSpec::new("orders.fifo")
            .visibility_timeout(Duration::from_secs(5))
            .content_based_deduplication(true)
            .redrive("dlq.fifo", 3);
        assert_eq!(spec, same);
        for (name, value) in [
            ("VisibilityTimeout", "-1"),
            ("MaximumMessageSize", "1048577"),
            ("Nonsense", "1"),
        ] {
            assert!(spec.apply(&json!({name: value})).is_err(), "{name}");
        }
    }
}
