//! Handles orders from SQS, one span per record.
//!
//! The queue's event source mapping must have `ReportBatchItemFailures`, since the answer is partial.
//! With `RAW_BODIES=1` it takes any body instead of orders, and on Lambda Managed Instances several
//! batches at once.

use std::env;
use std::fmt;

use serde::Deserialize;
use throughline::{Json, SqsMessage, traced_sqs_handler};
use tracing::{info, instrument};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    if env::var("RAW_BODIES").is_ok_and(|value| value == "1") {
        return throughline::run_concurrent(traced_sqs_handler(accept).partial_batch()).await;
    }
    let handler = traced_sqs_handler(process)
        .error_type(|error: &OrderError| error.name().into())
        .fifo_skip_group()
        .partial_batch();
    throughline::run(handler).await
}

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
    #[serde(default)]
    amount: u32,
    /// An order that can never be handled.
    #[serde(default)]
    poison: bool,
    /// An order that runs into a mistake in this program.
    #[serde(default)]
    panics: bool,
}

/// Why an order was not handled.
#[derive(Debug)]
enum OrderError {
    Poisoned,
}

impl OrderError {
    /// A name for `error.type`: few of them, and no ids.
    fn name(&self) -> &'static str {
        match self {
            Self::Poisoned => "poisoned_order",
        }
    }
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

async fn process(Json(order): Json<Order>) -> Result<(), OrderError> {
    assert!(!order.panics, "a mistake that this order meets");
    reserve(&order).await?;
    charge(&order).await;
    info!(order = order.id, "order handled");
    Ok(())
}

#[instrument(skip_all, fields(order.id = order.id))]
async fn reserve(order: &Order) -> Result<(), OrderError> {
    if order.poison {
        return Err(OrderError::Poisoned);
    }
    Ok(())
}

#[instrument(skip_all, fields(order.amount = order.amount))]
async fn charge(order: &Order) {
    tokio::task::yield_now().await;
}

async fn accept(message: SqsMessage) -> Result<(), OrderError> {
    let bytes = message.body.as_ref().map_or(0, String::len);
    info!(bytes, "message accepted");
    Ok(())
}
