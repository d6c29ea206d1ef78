//! The orders queue and its dead-letter queue, in a server of our own or in one that is already running.

use std::time::Duration;

use lambda_emulator::{EventSourceMapping, MappingSpec, Sandbox, SqsServer, Timeline};
use serde_json::{Value, json};

use crate::client;
use crate::options::QueueKind;
use crate::stage::Trouble;

/// How often SQS delivers a message before it gives it up.
pub const DELIVERIES: usize = 3;
/// Anything does: local servers do not check signatures, but some refuse requests without one.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20000101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0";

/// Two queues.
#[derive(Debug)]
pub struct Queues {
    endpoint: String,
    /// URL of the queue that orders are sent to.
    pub orders: String,
    /// URL of the queue for those that are given up.
    pub dead_letters: String,
    own: Option<SqsServer>,
}

impl Queues {
    /// Creates both queues, at `endpoint` or in a server of our own.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn open(
        timeline: &Timeline,
        endpoint: Option<&str>,
        kind: QueueKind,
    ) -> Result<Self, Trouble> {
        let own = match endpoint {
            Some(_) => None,
            None => Some(
                SqsServer::start_on(timeline)
                    .await
                    .map_err(|error| format!("the SQS server does not start: {error}"))?,
            ),
        };
        let url = own.as_ref().map(SqsServer::endpoint_url);
        let endpoint = url
            .or(endpoint.map(str::to_owned))
            .expect("one of both is there");
        let mut queues = Self {
            endpoint,
            orders: String::new(),
            dead_letters: String::new(),
            own,
        };
        if let Err(trouble) = queues.create(kind).await {
            queues.close().await;
            return Err(trouble);
        }
        Ok(queues)
    }

    async fn create(&mut self, kind: QueueKind) -> Result<(), Trouble> {
        // A foreign server may hold other queues, and another demo's: names of our own there.
        let mark = if self.own.is_some() {
            String::new()
        } else {
            format!("-demo-{}", std::process::id())
        };
        let suffix = if kind == QueueKind::Fifo { ".fifo" } else { "" };
        let mut attributes = json!({});
        if kind == QueueKind::Fifo {
            attributes["FifoQueue"] = json!("true");
        }
        let name = format!("orders-dlq{mark}{suffix}");
        self.dead_letters = self.create_one(&name, &attributes).await?;
        let asked = json!({"QueueUrl": self.dead_letters, "AttributeNames": ["QueueArn"]});
        let answer = self.call("GetQueueAttributes", &asked).await?;
        let arn = &answer["Attributes"]["QueueArn"];
        let redrive =
            json!({"deadLetterTargetArn": arn, "maxReceiveCount": DELIVERIES.to_string()});
        attributes["RedrivePolicy"] = json!(redrive.to_string());
        attributes["VisibilityTimeout"] = json!(self.visibility_timeout().as_secs().to_string());
        self.orders = self
            .create_one(&format!("orders{mark}{suffix}"), &attributes)
            .await?;
        Ok(())
    }

    /// How long a failed order stays hidden: as short as the server allows, for somebody is watching.
    fn visibility_timeout(&self) -> Duration {
        // local-aws-sqs gives a message twice when a long poll outlasts it.
        Duration::from_secs(if self.own.is_some() { 1 } else { 5 })
    }

    /// Delivers what comes into the queue to a function.
    pub fn deliver(&self, queue_url: &str, sandbox: &Sandbox) -> EventSourceMapping {
        let spec = MappingSpec::default().report_batch_item_failures(true);
        let spec = match self.own {
            Some(_) => spec,
            None => spec.wait(Duration::from_secs(1)),
        };
        EventSourceMapping::start(&self.endpoint, queue_url, sandbox, spec)
    }

    /// What a function needs to send orders.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ORDERS_QUEUE_URL", self.orders.clone()),
            ("AWS_ENDPOINT_URL_SQS", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
    }

    /// Deletes what was created in a foreign server.
    pub async fn close(&self) {
        if self.own.is_some() {
            return;
        }
        for url in [&self.orders, &self.dead_letters]
            .into_iter()
            .filter(|url| !url.is_empty())
        {
            if let Err(trouble) = self.call("DeleteQueue", &json!({"QueueUrl": url})).await {
                eprintln!("{url} is left over: {trouble}");
            }
        }
    }

    async fn create_one(&self, name: &str, attributes: &Value) -> Result<String, Trouble> {
        let asked = json!({"QueueName": name, "Attributes": attributes});
        let answer = self.call("CreateQueue", &asked).await?;
        let url = answer["QueueUrl"].as_str().map(str::to_owned);
        url.ok_or_else(|| format!("{} made a queue without a URL: {answer}", self.endpoint))
    }

    async fn call(&self, action: &str, asked: &Value) -> Result<Value, Trouble> {
        let target = format!("AmazonSQS.{action}");
        let headers = [
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", target.as_str()),
            ("authorization", AUTHORIZATION),
        ];
        let at = |what: &str| format!("{action} at {}: {what}", self.endpoint);
        let url = format!("{}/", self.endpoint);
        let (status, body) = client::post(&url, &headers, asked.to_string().into())
            .await
            .map_err(|error| at(&error))?;
        if !status.is_success() {
            return Err(at(&format!("{status} {}", String::from_utf8_lossy(&body))));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| at(&error.to_string()))
    }
}
