//! `error.type` of a failed call: a short name out of a small set, never a text.

use std::borrow::Cow;

use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use aws_sdk_sqs::operation::change_message_visibility_batch::ChangeMessageVisibilityBatchError;
use aws_sdk_sqs::operation::delete_message::DeleteMessageError;
use aws_sdk_sqs::operation::delete_message_batch::DeleteMessageBatchError;
use aws_sdk_sqs::operation::receive_message::ReceiveMessageError;
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_smithy_runtime_api::client::interceptors::context::Error;
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;

/// The service's error code, else `timeout`, `io` or `_OTHER`.
pub(crate) fn error_type(error: &OrchestratorError<Error>) -> Cow<'static, str> {
    if let Some(code) = error.as_operation_error().and_then(code) {
        return code.to_owned().into();
    }
    let is_timeout =
        |connector: &aws_smithy_runtime_api::client::result::ConnectorError| connector.is_timeout();
    if error.is_timeout_error() || error.as_connector_error().is_some_and(is_timeout) {
        return "timeout".into();
    }
    if error.is_connector_error() {
        return "io".into();
    }
    "_OTHER".into()
}

fn code(error: &Error) -> Option<&str> {
    fn of<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static>(
        error: &Error,
    ) -> Option<&str> {
        error.downcast_ref::<E>()?.code()
    }
    let found = of::<SendMessageError>(error)
        .or_else(|| of::<SendMessageBatchError>(error))
        .or_else(|| of::<ReceiveMessageError>(error))
        .or_else(|| of::<DeleteMessageError>(error))
        .or_else(|| of::<DeleteMessageBatchError>(error))
        .or_else(|| of::<ChangeMessageVisibilityError>(error))
        .or_else(|| of::<ChangeMessageVisibilityBatchError>(error));
    #[cfg(feature = "sns")]
    let found = found
        .or_else(|| of::<aws_sdk_sns::operation::publish::PublishError>(error))
        .or_else(|| of::<aws_sdk_sns::operation::publish_batch::PublishBatchError>(error));
    found
}
