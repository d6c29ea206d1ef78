//! A FIFO queue: the records of one message group stay in their order.
//!
//! Up to three groups are handled at the same time. When a record fails, the rest of its group is
//! left alone and returned to the queue with it, in order; other groups go on. Without
//! `fifo_skip_group` everything after the failure would be returned. A record that was left alone
//! has no span, because nothing was done with it.
//!
//! That a queue is FIFO is read from its name, which ends in `.fifo`. Standard queues can have
//! message groups too, and give no order for them.

use serde::Deserialize;
use throughline::{Json, traced_sqs_handler};
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    let handler = traced_sqs_handler(book)
        .partial_batch()
        .fifo_skip_group()
        .concurrency(3)
        .error_type(|error: &BookingError| match error {
            BookingError::Overdrawn => "overdrawn".into(),
        });
    throughline::run(handler).await
}

#[derive(Deserialize)]
struct Booking {
    account: String,
    /// What the account has after this booking.
    balance: i64,
}

enum BookingError {
    Overdrawn,
}

async fn book(Json(booking): Json<Booking>) -> Result<(), BookingError> {
    if booking.balance < 0 {
        return Err(BookingError::Overdrawn);
    }
    // Lets records of other groups go on meanwhile.
    tokio::task::yield_now().await;
    info!(
        account = booking.account,
        balance = booking.balance,
        "booked"
    );
    Ok(())
}
