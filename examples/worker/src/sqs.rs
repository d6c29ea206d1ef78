//! A client for SQS that traces what it receives and deletes.

use std::env;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::{Builder, tls};
use throughline::producer::Interceptor;

/// Takes what it needs from the standard variables. On ECS and EC2 credentials come from a
/// metadata service: there, load them with `aws-config` and add the interceptor to its result.
pub(crate) fn client() -> Client {
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
        .interceptor(Interceptor::new().settle_spans(true));
    config.set_endpoint_url(endpoint);
    Client::from_conf(config.build())
}

/// TLS by rustls with ring; a local endpoint without TLS needs none of it.
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
