//! A handler, a batch, and what came of them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Context, LambdaEvent};
use opentelemetry::trace::Status;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use throughline::{Batch, BatchError, DecideDeferred, SqsBatchResponse, Telemetry};
use tower::Service;

/// Spans in memory instead of on the wire.
pub(crate) struct Collector {
    pub(crate) telemetry: Telemetry,
    pub(crate) provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Collector {
    pub(crate) fn new() -> Self {
        let sampler = opentelemetry_sdk::trace::Sampler::ParentBased(Box::new(
            opentelemetry_sdk::trace::Sampler::AlwaysOn,
        ));
        Self::with_sampler(sampler)
    }

    pub(crate) fn with_sampler(sampler: opentelemetry_sdk::trace::Sampler) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(DecideDeferred::new(sampler))
            .with_simple_exporter(exporter.clone())
            .build();
        let telemetry = Telemetry::from_provider(provider.clone()).decides_deferred();
        Self {
            telemetry,
            provider,
            exporter,
        }
    }

    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    /// The record spans, by message id.
    pub(crate) fn records(&self) -> HashMap<String, SpanData> {
        let mut records = HashMap::new();
        for span in self.spans() {
            if let Some(id) = text(&span, "messaging.message.id") {
                assert!(
                    records.insert(id.clone(), span).is_none(),
                    "two spans for {id}"
                );
            }
        }
        records
    }

    /// The batch spans.
    pub(crate) fn batches(&self) -> Vec<SpanData> {
        let is_batch = |span: &SpanData| value(span, "messaging.batch.message_count").is_some();
        self.spans().into_iter().filter(is_batch).collect()
    }
}

pub(crate) fn value(span: &SpanData, key: &str) -> Option<Value> {
    let of = |kv: &KeyValue| (kv.key.as_str() == key).then(|| kv.value.clone());
    span.attributes.iter().find_map(of)
}

pub(crate) fn text(span: &SpanData, key: &str) -> Option<String> {
    value(span, key).map(|value| value.as_str().into_owned())
}

/// `error.type` and the status text; `None` for a span without error.
pub(crate) fn error(span: &SpanData) -> Option<(String, String)> {
    let error_type = text(span, "error.type");
    match &span.status {
        Status::Error { description } => Some((
            error_type.expect("an error has a type"),
            description.to_string(),
        )),
        Status::Unset => {
            assert_eq!(error_type, None, "an error type without an error");
            None
        }
        Status::Ok => panic!("success stays unset"),
    }
}

/// One record of an event.
#[derive(Clone, Debug)]
pub(crate) struct Message(pub(crate) serde_json::Value);

/// A message of the queue `orders` with a body of its own.
pub(crate) fn message(id: &str, body: &str) -> Message {
    Message(json!({
        "messageId": id,
        "body": body,
        "attributes": {},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
    }))
}

impl Message {
    pub(crate) fn set(mut self, pointer: &str, value: impl Into<serde_json::Value>) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.0.pointer_mut(parent).unwrap()[key] = value.into();
        self
    }

    pub(crate) fn queue(self, name: &str) -> Self {
        self.set(
            "/eventSourceARN",
            format!("arn:aws:sqs:eu-west-1:123456789012:{name}"),
        )
    }

    pub(crate) fn group(self, group: &str) -> Self {
        self.set("/attributes/MessageGroupId", group)
    }

    pub(crate) fn attribute(self, name: &str, value: &str) -> Self {
        let attribute = json!({"dataType": "String", "stringValue": value});
        self.set(&format!("/messageAttributes/{name}"), attribute)
    }

    /// Sent by span `n` of trace `n`.
    pub(crate) fn sent_by_span(self, n: u64, sampled: bool) -> Self {
        self.attribute("traceparent", &traceparent(n, sampled))
    }
}

pub(crate) fn traceparent(n: u64, sampled: bool) -> String {
    format!("00-{n:032x}-{n:016x}-{:02x}", u8::from(sampled))
}

pub(crate) fn event(messages: impl IntoIterator<Item = Message>) -> LambdaEvent<Batch> {
    let records: Vec<_> = messages.into_iter().map(|message| message.0).collect();
    let text = json!({ "Records": records }).to_string();
    LambdaEvent::new(serde_json::from_str(&text).unwrap(), Context::default())
}

/// The same, with a deadline so far from now.
pub(crate) fn event_with_deadline(
    messages: impl IntoIterator<Item = Message>,
    left: Duration,
) -> LambdaEvent<Batch> {
    let mut event = event(messages);
    let deadline = (SystemTime::now() + left)
        .duration_since(UNIX_EPOCH)
        .unwrap();
    event.context.deadline = u64::try_from(deadline.as_millis()).unwrap();
    event
}

/// The ids an answer names, or the type of its error.
pub(crate) fn ids(answer: Result<SqsBatchResponse, BatchError>) -> Result<Vec<String>, String> {
    match answer {
        Ok(response) => Ok(response
            .batch_item_failures
            .into_iter()
            .map(|f| f.item_identifier)
            .collect()),
        Err(error) => Err(error.error_type().to_owned()),
    }
}

/// Calls a handler.
pub(crate) async fn call<H>(handler: &H, event: LambdaEvent<Batch>) -> Result<Vec<String>, String>
where
    H: Service<LambdaEvent<Batch>, Response = SqsBatchResponse, Error = BatchError> + Clone,
{
    ids(handler.clone().call(event).await)
}
