//! An endpoint that answers as it is told, and what was sent to it and recorded about it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_types::body::SdkBody;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::{Value, json};

use crate::producer::Interceptor;

pub(super) const QUEUE: &str = "http://127.0.0.1:1/123456789012/orders";

/// What the endpoint answers to one attempt.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Ok(Value),
    /// Status, and the code in the two places where SQS writes it.
    Error(u16, &'static str),
    Refused,
    Hang,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    requests: Arc<Mutex<Vec<Value>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl HttpConnector for Fake {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let bytes = request.body().bytes().unwrap_or_default();
        #[cfg(feature = "sns")]
        if bytes.starts_with(b"Action=") {
            return self.answer_query(super::query::parse(bytes));
        }
        let body: Value = serde_json::from_slice(bytes).unwrap();
        let target = request
            .headers()
            .get("x-amz-target")
            .unwrap_or_default()
            .to_owned();
        let answer = self
            .answers
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| default_answer(&target, &body));
        self.requests.lock().unwrap().push(body);
        HttpConnectorFuture::new(async move {
            match answer {
                Answer::Ok(body) => Ok(respond(200, &body, None)),
                Answer::Error(status, code) => {
                    Ok(respond(status, &json!({ "__type": code }), Some(code)))
                }
                Answer::Refused => Err(ConnectorError::io("connection refused".into())),
                Answer::Hang => std::future::pending().await,
            }
        })
    }
}

fn respond(status: u16, body: &Value, error: Option<&str>) -> Response<SdkBody> {
    let mut response = response(status, body.to_string());
    if let Some(code) = error {
        response
            .headers_mut()
            .insert("x-amzn-query-error", format!("{code};Sender"));
    }
    response
}

pub(super) fn response(status: u16, body: String) -> Response<SdkBody> {
    let status = StatusCode::try_from(status).unwrap();
    let mut response = Response::new(status, SdkBody::from(body));
    response
        .headers_mut()
        .insert("x-amzn-requestid", "request-1");
    response
}

/// Success, with a message id for every entry.
fn default_answer(target: &str, body: &Value) -> Answer {
    let entries = body["Entries"].as_array().into_iter().flatten();
    Answer::Ok(match target {
        "AmazonSQS.SendMessage" => json!({ "MessageId": "m-1", "MD5OfMessageBody": "x" }),
        "AmazonSQS.SendMessageBatch" => json!({
            "Successful": entries.map(|entry| {
                let id = entry["Id"].as_str().unwrap();
                json!({ "Id": id, "MessageId": format!("m-{id}"), "MD5OfMessageBody": "x" })
            }).collect::<Vec<_>>(),
            "Failed": [],
        }),
        _ => json!({}),
    })
}

impl Fake {
    /// The same in SNS's protocol.
    #[cfg(feature = "sns")]
    fn answer_query(&self, request: Value) -> HttpConnectorFuture {
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| super::query::default_answer(&request));
        let action = request["Action"].as_str().unwrap().to_owned();
        self.requests.lock().unwrap().push(request);
        HttpConnectorFuture::new(async move {
            match answer {
                Answer::Ok(body) => Ok(super::query::result(&action, &body)),
                Answer::Error(status, code) => Ok(super::query::error(status, code)),
                Answer::Refused => Err(ConnectorError::io("connection refused".into())),
                Answer::Hang => std::future::pending().await,
            }
        })
    }

    pub(super) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let fake = Self::default();
        fake.answers.lock().unwrap().extend(answers);
        fake
    }

    /// The body of the request with this number.
    pub(super) fn request(&self, number: usize) -> Value {
        self.requests.lock().unwrap()[number].clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// A client of the fake.
pub(super) fn client(fake: &Fake, interceptor: Interceptor) -> aws_sdk_sqs::Client {
    let connector = SharedHttpConnector::new(fake.clone());
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .endpoint_url("http://127.0.0.1:1")
        .retry_config(
            RetryConfig::standard().with_initial_backoff(std::time::Duration::from_millis(1)),
        )
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .interceptor(interceptor);
    aws_sdk_sqs::Client::from_conf(config.build())
}

#[cfg(feature = "sns")]
pub(super) fn topics(fake: &Fake, interceptor: Interceptor) -> aws_sdk_sns::Client {
    let connector = SharedHttpConnector::new(fake.clone());
    let config = aws_sdk_sns::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .endpoint_url("http://127.0.0.1:1")
        .retry_config(
            RetryConfig::standard().with_initial_backoff(std::time::Duration::from_millis(1)),
        )
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .interceptor(interceptor);
    aws_sdk_sns::Client::from_conf(config.build())
}

/// Clients of the fake, all with the same interceptor, and the spans that their calls end.
pub(super) struct Bench {
    pub(super) client: aws_sdk_sqs::Client,
    #[cfg(feature = "sns")]
    pub(super) topics: aws_sdk_sns::Client,
    pub(super) fake: Fake,
    pub(super) provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Bench {
    pub(super) fn new(fake: Fake, options: impl FnOnce(Interceptor) -> Interceptor) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let interceptor = options(Interceptor::new().with_tracer_provider(&provider));
        Self {
            #[cfg(feature = "sns")]
            topics: topics(&fake, interceptor.clone()),
            client: client(&fake, interceptor),
            fake,
            provider,
            exporter,
        }
    }

    pub(super) fn plain() -> Self {
        Self::new(Fake::default(), |interceptor| interceptor)
    }

    pub(super) fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    /// The only span of this name.
    pub(super) fn span(&self, name: &str) -> SpanData {
        let mut named: Vec<_> = self
            .spans()
            .into_iter()
            .filter(|span| span.name == name)
            .collect();
        assert_eq!(named.len(), 1, "spans named {name:?}");
        named.remove(0)
    }
}

pub(super) fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == key)?;
    Some(found.value.as_str().into_owned())
}

pub(super) fn is_error(span: &SpanData, error_type: &str) -> bool {
    span.status == Status::error(error_type.to_owned())
        && attribute(span, "error.type").as_deref() == Some(error_type)
}

pub(super) fn traceparent_of(span: &SpanData) -> String {
    format!(
        "00-{}-{}-01",
        span.span_context.trace_id(),
        span.span_context.span_id()
    )
}

/// A message attribute on the wire.
pub(super) fn sent(message: &Value, name: &str) -> Option<String> {
    let attribute = message["MessageAttributes"].get(name)?;
    assert_eq!(attribute["DataType"], "String");
    Some(attribute["StringValue"].as_str().unwrap().to_owned())
}

pub(super) fn kind(span: &SpanData) -> SpanKind {
    span.span_kind.clone()
}
