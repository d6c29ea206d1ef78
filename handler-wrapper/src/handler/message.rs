//! What a processor can take.

use aws_lambda_events::sqs::SqsMessage;
use serde::de::DeserializeOwned;

/// An argument that a processor can take: made from one message of the batch.
///
/// [`SqsMessage`] is the message as it came, [`Json<T>`] its body read as JSON. A message that the
/// argument cannot be made from is one failed record, with `error.type` = `invalid_body`; the other
/// records are processed.
///
/// ```
/// use throughline::{FromMessage, SqsMessage};
///
/// /// A body of comma-separated fields.
/// struct Fields(Vec<String>);
///
/// impl FromMessage for Fields {
///     fn from_message(message: SqsMessage) -> Result<Self, throughline::Error> {
///         let body = message.body.ok_or("no body")?;
///         Ok(Self(body.split(',').map(str::to_owned).collect()))
///     }
/// }
///
/// async fn process(Fields(fields): Fields) -> Result<(), std::num::ParseIntError> {
///     fields[0].parse::<u32>().map(drop)
/// }
/// let handler = throughline::traced_sqs_handler(process);
/// # drop(handler);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from an SQS message",
    label = "the processor's argument must be `SqsMessage` or `Json<T>` with `T: Deserialize`",
    note = "write `async fn process(message: SqsMessage) -> Result<(), E>` or `async fn process(Json(order): Json<Order>) -> Result<(), E>`",
    note = "or implement `throughline::FromMessage` for `{Self}`"
)]
pub trait FromMessage: Sized {
    /// Makes the argument.
    ///
    /// # Errors
    ///
    /// When the message does not hold one. The error is shown only where
    /// [error details](crate::SqsHandler::error_message) are asked for, since such errors quote the body.
    fn from_message(message: SqsMessage) -> Result<Self, lambda_runtime::Error>;
}

impl FromMessage for SqsMessage {
    fn from_message(message: SqsMessage) -> Result<Self, lambda_runtime::Error> {
        Ok(message)
    }
}

/// The body of a message, read as JSON.
///
/// ```
/// use throughline::Json;
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: String,
/// }
///
/// async fn process(Json(order): Json<Order>) -> Result<(), std::io::Error> {
///     println!("order {}", order.id);
///     Ok(())
/// }
/// let handler = throughline::traced_sqs_handler(process);
/// # drop(handler);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(
    /// What the body holds.
    pub T,
);

impl<T: DeserializeOwned> FromMessage for Json<T> {
    fn from_message(message: SqsMessage) -> Result<Self, lambda_runtime::Error> {
        let body = message.body.as_deref().unwrap_or_default();
        Ok(Self(serde_json::from_str(body)?))
    }
}
