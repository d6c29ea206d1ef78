//! Header values that are kept in AWS: Secrets Manager and SSM parameters, read without an AWS SDK.
//!
//! Lambda's own Parameters and Secrets extension is asked first, on localhost, where it is installed;
//! else a request of ours, signed with the function's credentials.
//! Nothing is read before the first INVOKE, each read is bounded in time and bytes,
//! and a value never appears in a message.

mod reference;
mod sigv4;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::config::AwsSettings;
use crate::upstream::{Endpoint, ProxySettings, fetch};
use reference::Reference;
use sigv4::{Credentials, Request};

/// The longest that one of the two ways may take.
/// Chosen, because both answer within tens of milliseconds from inside a region, and the flush's budget is 1 s.
const READ_MAX: Duration = Duration::from_secs(2);

/// Reads the value that `reference` names: `arn:…:secretsmanager:…` with an optional `#key`, or `ssm:/path`.
///
/// # Errors
/// A sentence that says which way failed and why, without the value.
pub(crate) async fn read(
    reference: &str,
    aws: &AwsSettings,
    proxy: &ProxySettings,
    now: SystemTime,
) -> Result<String, String> {
    let reference = Reference::parse(reference)?;
    let beside = bounded(from_extension(&reference, aws)).await;
    let value = match beside {
        Ok(value) => value,
        Err(beside) => bounded(from_aws(&reference, aws, proxy, now))
            .await
            .map_err(|direct| {
                format!(
                    "{reference}: {direct} (and the Parameters and Secrets extension: {beside})"
                )
            })?,
    };
    reference
        .pick(value)
        .map_err(|why| format!("{reference}: {why}"))
}

async fn bounded<T>(read: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| format!("no answer within {READ_MAX:?}");
    tokio::time::timeout(READ_MAX, read).await.map_err(late)?
}

/// Asks Lambda's extension, which caches and authenticates for us ("Using Parameter Store parameters and
/// Secrets Manager secrets in Lambda functions").
async fn from_extension(reference: &Reference, aws: &AwsSettings) -> Result<String, String> {
    // The token proves that we are in the sandbox; without one there is no such extension either.
    let token = aws
        .session_token
        .as_deref()
        .ok_or("AWS_SESSION_TOKEN is not set")?;
    let endpoint = Endpoint {
        tls: false,
        host: "127.0.0.1".into(),
        port: aws.secrets_extension_port,
        path: reference.extension_path(),
    };
    let headers = [(
        HeaderName::from_static("x-aws-parameters-secrets-token"),
        header_value("AWS_SESSION_TOKEN", token)?,
    )];
    let direct = ProxySettings::default();
    let (status, body) = fetch(
        &endpoint,
        &direct,
        Method::GET,
        headers.into_iter().collect(),
        Bytes::new(),
    )
    .await?;
    value_in(reference, status, &body)
}

/// Asks AWS, in the protocol "AWS JSON 1.1" of both services.
async fn from_aws(
    reference: &Reference,
    aws: &AwsSettings,
    proxy: &ProxySettings,
    now: SystemTime,
) -> Result<String, String> {
    let credentials = Credentials {
        access_key_id: aws
            .access_key_id
            .as_deref()
            .ok_or("AWS_ACCESS_KEY_ID is not set")?,
        secret_access_key: aws
            .secret_access_key
            .as_deref()
            .ok_or("AWS_SECRET_ACCESS_KEY is not set")?,
    };
    let region = reference
        .region()
        .or(aws.region.as_deref())
        .ok_or("AWS_REGION is not set")?;
    let url = reference.url(aws, region);
    let endpoint = Endpoint::parse(&url).map_err(|why| format!("the endpoint {url} {why}"))?;
    let (target, body) = reference.call();
    let amz_date = sigv4::amz_date(now);
    let host = endpoint.authority();
    let mut signed = vec![
        ("content-type", "application/x-amz-json-1.1"),
        ("host", host.as_str()),
        ("x-amz-date", amz_date.as_str()),
        ("x-amz-target", target),
    ];
    if let Some(token) = &aws.session_token {
        signed.push(("x-amz-security-token", token));
        signed.sort_unstable();
    }
    let request = Request {
        method: "POST",
        path: &endpoint.path,
        query: "",
        headers: &signed,
        body: body.as_bytes(),
    };
    let service = reference.service();
    let authorization = sigv4::authorization(&request, &credentials, region, service, &amz_date);
    signed.push(("authorization", &authorization));
    let headers = signed.iter().map(|(name, value)| {
        Ok((
            HeaderName::from_static(name),
            header_value("the signed request", value)?,
        ))
    });
    let headers = headers.collect::<Result<_, String>>()?;
    let (status, answer) = fetch(&endpoint, proxy, Method::POST, headers, body.into()).await?;
    value_in(reference, status, &answer)
}

// `HeaderName::from_static` above takes the names of a constant list, all of them in lower case.
fn header_value(what: &str, value: &str) -> Result<HeaderValue, String> {
    let mut value =
        HeaderValue::try_from(value).map_err(|_| format!("{what} cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The value in an answer, which both ways have in the same place, or what the answer says instead.
fn value_in(reference: &Reference, status: u16, body: &[u8]) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if status != 200 {
        // AWS JSON 1.1, "Operation error serialization": the error's type may have a namespace before it.
        let kind = answer["__type"].as_str().unwrap_or_default();
        let kind = kind.rsplit('#').next().unwrap_or_default();
        let message = answer["message"]
            .as_str()
            .or(answer["Message"].as_str())
            .unwrap_or_default();
        let said = [kind, message].into_iter().filter(|part| !part.is_empty());
        let said: Vec<_> = said.collect();
        return Err(format!("answered {status} {}", said.join(": "))
            .trim_end()
            .to_owned());
    }
    let value = reference.value_in(&answer).and_then(Value::as_str);
    value
        .map(str::to_owned)
        .ok_or_else(|| "the answer holds no text value".to_owned())
}

#[cfg(test)]
mod tests;
