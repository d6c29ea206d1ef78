//! Handles what the orders queue gave up.
//!
//! A dead-letter queue gets the message as it was, so its span continues the producer's trace too,
//! beside the attempts that failed.

use serde::Deserialize;
use throughline::{Json, traced_sqs_handler};
use tracing::{info, instrument};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    throughline::run(traced_sqs_handler(process).partial_batch()).await
}

#[derive(Debug, Deserialize)]
struct Order {
    #[serde(default)]
    id: String,
}

async fn process(Json(order): Json<Order>) -> Result<(), std::convert::Infallible> {
    put_aside(&order).await;
    info!(order = order.id, "order put aside");
    Ok(())
}

#[instrument(skip_all, fields(order.id = order.id))]
async fn put_aside(order: &Order) {
    tokio::task::yield_now().await;
}
