//! Answers that name the records which failed, so that only they come again.
//!
//! The event source mapping must have `ReportBatchItemFailures`. Without it Lambda takes such an
//! answer for success and deletes the failed messages too, which is why it has to be asked for.
//!
//! Up to four records are handled at the same time. A panic fails its own record and no other.

use std::time::Duration;

use serde::Deserialize;
use throughline::{Json, traced_sqs_handler};
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    let handler = traced_sqs_handler(ship)
        .partial_batch()
        .concurrency(4)
        // Starts nothing in the last two seconds; what was not started comes again as well.
        .stop_before_deadline(Duration::from_secs(2))
        .error_type(|error: &ShippingError| error.name().into());
    throughline::run(handler).await
}

#[derive(Deserialize)]
struct Parcel {
    id: String,
    grams: u32,
    parts: u32,
}

enum ShippingError {
    TooHeavy,
}

impl ShippingError {
    /// The `error.type` of the record's span: a few names, no ids.
    fn name(&self) -> &'static str {
        match self {
            Self::TooHeavy => "too_heavy",
        }
    }
}

async fn ship(Json(parcel): Json<Parcel>) -> Result<(), ShippingError> {
    // A bug: nobody thought of a parcel without parts.
    let grams_each = parcel.grams / parcel.parts;
    if grams_each > 30_000 {
        return Err(ShippingError::TooHeavy);
    }
    info!(parcel = parcel.id, grams_each, "shipped");
    Ok(())
}
