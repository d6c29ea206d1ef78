//! Says what an event without `Records` probably is, so that a wrong trigger is found quickly.

/// The outline of an event that is not ours.
#[derive(Debug, Default)]
pub(super) struct Shape {
    keys: Vec<String>,
    source: Option<String>,
}

/// Enough to recognise every event we know; an event with more keys is somebody's own.
const KEYS_MAX: usize = 32;

impl Shape {
    pub(super) fn on_key(&mut self, key: String) {
        if self.keys.len() < KEYS_MAX {
            self.keys.push(key);
        }
    }

    pub(super) fn on_source(&mut self, source: Option<String>) {
        self.source = source;
    }

    fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|k| k == key)
    }

    /// One clause about what the event looks like.
    pub(super) fn guess(&self) -> String {
        if let Some(source) = &self.source {
            if self.has("body") || self.has("messageId") {
                return format!("it looks like a single record of {source}");
            }
            return format!("it comes from {source}");
        }
        let what = if self.has("Messages") || self.has("messages") {
            "a ReceiveMessage answer of the SQS API"
        } else if self.has("batchItemFailures") {
            "a partial batch response"
        } else if self.has("rmqMessagesByQueue") {
            "a RabbitMQ event"
        } else if self.has("deliveryStreamArn") {
            "a Firehose transformation event"
        } else if self.has("detail") || self.has("detail-type") {
            "an EventBridge event"
        } else if self.has("requestContext") {
            "an HTTP request"
        } else if self.has("messageId") && self.has("body") {
            "a single SQS record, not an event"
        } else {
            let keys: Vec<_> = self.keys.iter().take(4).map(|k| format!("`{k}`")).collect();
            return match keys.as_slice() {
                [] => "it is empty".to_owned(),
                keys => format!("its keys are {}", keys.join(", ")),
            };
        };
        format!("it looks like {what}")
    }
}
