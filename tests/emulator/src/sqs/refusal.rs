//! How SQS says no.

use crate::http::json;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use std::fmt;

/// A refusal: its shape in the JSON protocol, its code in the older query protocol, which SDKs still show, and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    shape: &'static str,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Refusal {
    fn new(shape: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            shape,
            code,
            message: message.into(),
        }
    }

    pub(super) fn no_queue() -> Self {
        let text = "The specified queue does not exist.";
        Self::new(
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            text,
        )
    }

    pub(super) fn exists() -> Self {
        let text = "A queue already exists with the same name and different attributes";
        Self::new("QueueNameExists", "QueueAlreadyExists", text)
    }

    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", "InvalidParameterValue", message)
    }

    pub(super) fn missing(parameter: &str) -> Self {
        let text = format!("The request must contain the parameter {parameter}.");
        Self::new("MissingParameter", "MissingParameter", text)
    }

    pub(super) fn contents() -> Self {
        let text = "Invalid characters found in the message body";
        Self::new("InvalidMessageContents", "InvalidMessageContents", text)
    }

    pub(super) fn receipt_handle(handle: &str) -> Self {
        let text = format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
        Self::new("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", text)
    }

    pub(super) fn not_in_flight() -> Self {
        let text = "The specified message is not in flight";
        Self::new(
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            text,
        )
    }

    pub(super) fn attribute_name(name: &str) -> Self {
        Self::new(
            "InvalidAttributeName",
            "InvalidAttributeName",
            format!("Unknown Attribute {name}."),
        )
    }

    pub(super) fn attribute_value(name: &str) -> Self {
        let text = format!("Invalid value for the parameter {name}.");
        Self::new("InvalidAttributeValue", "InvalidAttributeValue", text)
    }

    pub(super) fn empty_batch() -> Self {
        let text = "There should be at least one entry in the request.";
        Self::new(
            "EmptyBatchRequest",
            "AWS.SimpleQueueService.EmptyBatchRequest",
            text,
        )
    }

    pub(super) fn too_many(count: usize) -> Self {
        let text = format!("Maximum number of entries per request are 10. You have sent {count}.");
        Self::new(
            "TooManyEntriesInBatchRequest",
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            text,
        )
    }

    pub(super) fn not_distinct(id: &str) -> Self {
        let text = format!("Id {id} repeated.");
        Self::new(
            "BatchEntryIdsNotDistinct",
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            text,
        )
    }

    pub(super) fn batch_id() -> Self {
        let text = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
            It can be at most 80 letters long.";
        Self::new(
            "InvalidBatchEntryId",
            "AWS.SimpleQueueService.InvalidBatchEntryId",
            text,
        )
    }

    pub(super) fn batch_too_long(bytes: usize, limit: usize) -> Self {
        let text = format!(
            "Batch requests cannot be longer than {limit} bytes. You have sent {bytes} bytes."
        );
        Self::new(
            "BatchRequestTooLong",
            "AWS.SimpleQueueService.BatchRequestTooLong",
            text,
        )
    }

    pub(super) fn no_resource() -> Self {
        let text = "The resource that you specified for the SourceArn parameter doesn't exist.";
        Self::new(
            "ResourceNotFoundException",
            "ResourceNotFoundException",
            text,
        )
    }

    pub(super) fn operation(name: &str) -> Self {
        let text = format!("{name} is not emulated");
        Self::new(
            "UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation",
            text,
        )
    }

    /// The answer over HTTP: 400, the shape in the body, the older code in a header.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({
            "__type": format!("com.amazonaws.sqs#{}", self.shape), "message": self.message,
        });
        let mut response = json(StatusCode::BAD_REQUEST, &body);
        let code =
            HeaderValue::from_str(&format!("{};Sender", self.code)).expect("codes are plain");
        response.headers_mut().insert("x-amzn-query-error", code);
        response
    }
}
