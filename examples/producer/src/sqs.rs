//! The orders queue, and a client for it that traces what it sends.

use std::env;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use aws_smithy_http_client::{Builder, tls};
use throughline::producer::Interceptor;

/// The queue that orders are sent to.
#[derive(Debug)]
pub(crate) struct Orders {
    client: Client,
    queue_url: String,
}

impl Orders {
    /// Takes the queue from `ORDERS_QUEUE_URL`, and from the standard variables what Lambda sets in
    /// them. `aws_config::load_from_env()` would read the same; it is left out because it brings in
    /// another service's client and nothing that a function needs.
    pub(crate) fn from_env() -> Result<Self, throughline::Error> {
        let queue_url = env::var("ORDERS_QUEUE_URL").map_err(|_| "ORDERS_QUEUE_URL is not set")?;
        let region = env::var("AWS_REGION").or_else(|_| env::var("AWS_DEFAULT_REGION"));
        let endpoint = env::var("AWS_ENDPOINT_URL_SQS")
            .or_else(|_| env::var("AWS_ENDPOINT_URL"))
            .ok();
        let credentials = Credentials::new(
            env::var("AWS_ACCESS_KEY_ID").unwrap_or_default(),
            env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
            env::var("AWS_SESSION_TOKEN").ok(),
            None,
            "environment",
        );
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(
                region.unwrap_or_else(|_| "us-east-1".to_owned()),
            ))
            .credentials_provider(credentials)
            .http_client(http_client(endpoint.as_deref()))
            .interceptor(Interceptor::new());
        config.set_endpoint_url(endpoint);
        Ok(Self {
            client: Client::from_conf(config.build()),
            queue_url,
        })
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.queue_url.ends_with(".fifo")
    }

    /// Sends up to ten entries and returns the ids, which are numbers, of those that SQS refused.
    pub(crate) async fn send(
        &self,
        entries: Vec<SendMessageBatchRequestEntry>,
    ) -> Result<Vec<usize>, aws_sdk_sqs::Error> {
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&self.queue_url)
            .set_entries(Some(entries))
            .send()
            .await?;
        Ok(answer
            .failed()
            .iter()
            .filter_map(|entry| entry.id().parse().ok())
            .collect())
    }
}

/// TLS by rustls with ring: quicker to build and to start than the SDK's default. A local endpoint
/// without TLS needs none of it.
fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    if endpoint.is_some_and(|url| url.starts_with("http://")) {
        return Builder::new().build_http();
    }
    Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https()
}
