//! Polls orders from SQS outside Lambda (a container on ECS, a service on EC2), one span per
//! message in the trace of its producer. Ends on SIGTERM, after the message it is at.
//!
//! Settings: `ORDERS_QUEUE_URL`, the AWS variables, `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`;
//! `AWS_ENDPOINT_URL_SQS` for a local SQS.

mod sqs;

use std::env;
use std::error::Error;
use std::fmt;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde::Deserialize;
use throughline::Telemetry;
use throughline::poller::Poller;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, instrument};

/// The longest poll that SQS allows; shorter ones cost more requests.
const WAIT_SECONDS: i32 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::global().await;
    let queue_url = env::var("ORDERS_QUEUE_URL").map_err(|_| "ORDERS_QUEUE_URL is not set")?;
    let client = sqs::client();
    let poller = Poller::new(&queue_url).telemetry(&telemetry);
    let mut end = signal(SignalKind::terminate())?;
    info!("polling");
    loop {
        let poll = client
            .receive_message()
            .queue_url(&queue_url)
            .max_number_of_messages(10)
            .wait_time_seconds(WAIT_SECONDS)
            // How often a message was received, and when it was sent.
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send();
        let received = tokio::select! {
            _ = end.recv() => break,
            received = poll => received,
        };
        let messages = match received {
            Ok(received) => received.messages.unwrap_or_default(),
            Err(why) => {
                error!(error = %why.into_service_error(), "the queue could not be read");
                continue; // the SDK has waited and tried again already
            }
        };
        for message in poller.trace_messages(messages) {
            if let Err(why) = message.process_and_delete(&client, process).await {
                error!(error = %why, "an order was left in the queue");
            }
        }
    }
    // What has not been exported in the background yet.
    telemetry.flush().await;
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
    #[serde(default)]
    amount: u32,
}

/// Why an order was not handled.
#[derive(Debug)]
enum OrderError {
    /// The body is no order. Its text is not told: it may quote what a log must not hold.
    Unreadable,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is not an order")
    }
}

impl Error for OrderError {}

async fn process(message: Message) -> Result<(), OrderError> {
    let body = message.body.unwrap_or_default();
    let order: Order = serde_json::from_str(&body).map_err(|_| OrderError::Unreadable)?;
    charge(&order).await;
    info!(order = order.id, "order handled");
    Ok(())
}

#[instrument(skip_all, fields(order.amount = order.amount))]
async fn charge(order: &Order) {
    tokio::task::yield_now().await;
}
