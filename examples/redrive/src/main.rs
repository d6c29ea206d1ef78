//! Shows what a dead-letter queue holds, then moves it back to the queue it came from.
//!
//! Settings: `DEAD_LETTER_QUEUE_URL`, `ORDERS_QUEUE_URL`, and the others of `examples/worker`.

mod sqs;

use std::{convert::Infallible, env, error::Error, time::Duration};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as Name, QueueAttributeName};
use throughline::{Telemetry, poller::Poller};
use tracing::info;

/// How many messages are looked at; all are moved.
const LOOK_MAX: usize = 1000;
/// While we look no message shows up twice; one that could not be given back comes back after it.
const HELD_SECONDS: i32 = 120;
/// How often the move is asked how far it is, once a second.
const ASKS_MAX: u32 = 600;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::global().await;
    let setting = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let dead_letters = setting("DEAD_LETTER_QUEUE_URL")?;
    let orders = setting("ORDERS_QUEUE_URL")?;
    let client = sqs::client();
    let poller = Poller::new(&dead_letters).telemetry(&telemetry);
    let looked = look(&client, &poller, &dead_letters).await;
    telemetry.flush().await;
    looked?;
    redrive(&client, &dead_letters, &orders).await
}

/// Makes a span for each message, below its producer's; none is deleted, all are given back.
async fn look(client: &Client, poller: &Poller, url: &str) -> Result<(), aws_sdk_sqs::Error> {
    let mut held = Vec::new();
    while held.len() < LOOK_MAX {
        let receive = client.receive_message().queue_url(url).wait_time_seconds(1);
        let receive = receive.max_number_of_messages(10);
        let receive = receive.visibility_timeout(HELD_SECONDS);
        let received = receive.message_system_attribute_names(Name::All);
        let messages = received.send().await?.messages.unwrap_or_default();
        if messages.is_empty() {
            break;
        }
        for message in poller.trace_messages(messages) {
            held.extend(message.message().receipt_handle.clone());
            let Ok(()) = message.process(show).await;
        }
    }
    for handle in held {
        let release = client.change_message_visibility().receipt_handle(handle);
        release.queue_url(url).visibility_timeout(0).send().await?;
    }
    Ok(())
}

/// A line that names the message and its trace: both come with the span it is written in.
async fn show(message: Message) -> Result<(), Infallible> {
    let attributes = message.attributes.as_ref();
    let count = attributes.and_then(|all| all.get(&Name::ApproximateReceiveCount));
    info!(receive_count = count, "dead letter");
    Ok(())
}

/// Moves everything, and waits until that is done.
async fn redrive(client: &Client, from: &str, to: &str) -> Result<(), Box<dyn Error>> {
    let (from, to) = (arn(client, from).await?, arn(client, to).await?);
    let start = client.start_message_move_task().source_arn(&from);
    start.destination_arn(to).send().await?;
    for _ in 0..ASKS_MAX {
        let latest = client.list_message_move_tasks().source_arn(&from);
        let latest = latest.send().await?;
        match latest.results().first().and_then(|task| task.status()) {
            None | Some("RUNNING") => tokio::time::sleep(Duration::from_secs(1)).await,
            Some("COMPLETED") => return Ok(()),
            Some(other) => return Err(format!("the move is {other}").into()),
        }
    }
    Err("still moving; ListMessageMoveTasks tells how far it is".into())
}

async fn arn(client: &Client, url: &str) -> Result<String, Box<dyn Error>> {
    let name = QueueAttributeName::QueueArn;
    let get = client.get_queue_attributes().queue_url(url);
    let attributes = get.attribute_names(name.clone()).send().await?.attributes;
    let arn = attributes.and_then(|mut all| all.remove(&name));
    Ok(arn.ok_or("the queue has no ARN")?)
}
