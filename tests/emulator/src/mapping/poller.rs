//! The side of a mapping that talks to the queue.

use super::{MappingSpec, Verdict};
use crate::client::Client;
use bytes::Bytes;
use http::{Request, Uri};
use serde_json::{Value, json};
use std::{io, time::Duration};

/// A client of one queue.
#[derive(Debug)]
pub(super) struct Poller {
    client: Client,
    host: String,
    path: String,
    queue_url: String,
    /// Asked for once, `None` at first.
    known: bool,
    pub(super) queue_arn: String,
    pub(super) region: String,
    batch_size: usize,
    wait: Duration,
}

impl Poller {
    pub(super) fn new(endpoint_url: &str, queue_url: &str, spec: &MappingSpec) -> Self {
        let uri: Uri = endpoint_url.parse().unwrap_or_default();
        let host = uri.host().unwrap_or("127.0.0.1").to_owned();
        let port = uri.port_u16().unwrap_or(80);
        Self {
            client: Client::new(host.clone(), port),
            host: format!("{host}:{port}"),
            path: if uri.path().is_empty() {
                "/".to_owned()
            } else {
                uri.path().to_owned()
            },
            queue_url: queue_url.to_owned(),
            known: false,
            queue_arn: String::new(),
            region: "us-east-1".to_owned(),
            batch_size: spec.batch_size,
            wait: spec.wait,
        }
    }

    /// The next batch: waits for a first message, then takes what else is there.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<Value>> {
        self.learn().await?;
        let mut messages = self.receive_some(self.batch_size, self.wait).await?;
        while !messages.is_empty() && messages.len() < self.batch_size {
            let more = self
                .receive_some(self.batch_size - messages.len(), Duration::ZERO)
                .await?;
            if more.is_empty() {
                break;
            }
            messages.extend(more);
        }
        Ok(messages)
    }

    /// Deletes what is done; what failed is left to its visibility timeout or made visible at once.
    pub(super) async fn settle(
        &mut self,
        handles: &[String],
        verdict: &Verdict,
        at_once: bool,
    ) -> io::Result<()> {
        let entries = |back: bool| -> Vec<Value> {
            let chosen = handles
                .iter()
                .enumerate()
                .filter(|(place, _)| verdict.comes_back(*place) == back);
            chosen
                .map(|(place, handle)| json!({"Id": place.to_string(), "ReceiptHandle": handle}))
                .collect()
        };
        for chunk in entries(false).chunks(10) {
            self.call("DeleteMessageBatch", json!({"Entries": chunk}))
                .await?;
        }
        if at_once {
            let mut entries = entries(true);
            for entry in &mut entries {
                entry["VisibilityTimeout"] = json!(0);
            }
            for chunk in entries.chunks(10) {
                self.call("ChangeMessageVisibilityBatch", json!({"Entries": chunk}))
                    .await?;
            }
        }
        Ok(())
    }

    /// Hangs up. A server that still held our long poll would give a message to nobody; by the time it has
    /// answered one more request it has seen that we are gone.
    pub(super) async fn leave(&mut self) {
        self.client.close().await;
        // Whatever the answer is, it is one.
        let _ = self
            .call(
                "GetQueueAttributes",
                json!({"AttributeNames": ["QueueArn"]}),
            )
            .await;
    }

    async fn learn(&mut self) -> io::Result<()> {
        if self.known {
            return Ok(());
        }
        let answer = self
            .call(
                "GetQueueAttributes",
                json!({"AttributeNames": ["QueueArn"]}),
            )
            .await?;
        let arn = answer["Attributes"]["QueueArn"].as_str();
        self.queue_arn = arn
            .ok_or_else(|| io::Error::other(format!("no QueueArn in {answer}")))?
            .to_owned();
        if let Some(region) = self
            .queue_arn
            .split(':')
            .nth(3)
            .filter(|region| !region.is_empty())
        {
            self.region = region.to_owned();
        }
        self.known = true;
        Ok(())
    }

    async fn receive_some(&mut self, count: usize, wait: Duration) -> io::Result<Vec<Value>> {
        let request = json!({
            "MaxNumberOfMessages": count.min(10),
            "WaitTimeSeconds": wait.as_secs(),
            "MessageAttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            // Older servers know this name only.
            "AttributeNames": ["All"],
        });
        let mut answer = self.call("ReceiveMessage", request).await?;
        Ok(answer["Messages"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default())
    }

    async fn call(&mut self, operation: &str, mut body: Value) -> io::Result<Value> {
        body["QueueUrl"] = json!(self.queue_url);
        let request = Request::post(&self.path)
            .header("host", &self.host)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{operation}"))
            // Servers for tests look at the shape and read the region from it; none verifies.
            .header("x-amz-date", "20260101T000000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=00",
            )
            .body(Bytes::from(body.to_string()))
            .map_err(io::Error::other)?;
        let response = self.client.send(request).await?;
        let text = String::from_utf8_lossy(response.body());
        if !response.status().is_success() {
            return Err(io::Error::other(format!(
                "{operation} was answered with {}: {text}",
                response.status()
            )));
        }
        // Some servers answer an empty body where there is nothing to say.
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| json!({})))
    }
}
