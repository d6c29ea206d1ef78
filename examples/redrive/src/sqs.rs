//! A client for SQS that asks for the attributes a context is read from.

use std::env;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::{Builder, tls};
use throughline::producer::Interceptor;

/// Takes what it needs from the standard variables, as `aws configure export-credentials --format env` sets them.
pub(crate) fn client() -> Client {
    let var = |name: &str| env::var(name).ok();
    let region = var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION"));
    let credentials = Credentials::new(
        var("AWS_ACCESS_KEY_ID").unwrap_or_default(),
        var("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
        var("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let mut config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.unwrap_or_else(|| "us-east-1".into())))
        .credentials_provider(credentials)
        .http_client(Builder::new().tls_provider(tls).build_https())
        .interceptor(Interceptor::new());
    config.set_endpoint_url(var("AWS_ENDPOINT_URL_SQS").or_else(|| var("AWS_ENDPOINT_URL")));
    Client::from_conf(config.build())
}
