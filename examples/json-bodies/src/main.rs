//! Bodies that are JSON, read into a type of yours.
//!
//! A body that is not an order is one failed record, with `error.type` = `invalid_body`: `charge` is
//! not called for it, and the other records of the batch are handled. Whether only that record
//! comes again or the whole batch does is decided where the queue is connected: set
//! `THROUGHLINE_PARTIAL_BATCH=1` together with `ReportBatchItemFailures`.

use std::fmt;

use serde::Deserialize;
use throughline::{Json, traced_sqs_handler};
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    throughline::run(traced_sqs_handler(charge)).await
}

#[derive(Deserialize)]
struct Order {
    id: String,
    amount: u32,
}

async fn charge(Json(order): Json<Order>) -> Result<(), NothingToPay> {
    if order.amount == 0 {
        return Err(NothingToPay);
    }
    info!(order = order.id, amount = order.amount, "charged");
    Ok(())
}

/// The name of this type is the `error.type` of the record's span.
#[derive(Debug)]
struct NothingToPay;

impl fmt::Display for NothingToPay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is nothing to pay")
    }
}

impl std::error::Error for NothingToPay {}
