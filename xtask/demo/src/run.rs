//! The demo: orders through a producer, a queue, a consumer and the dead-letter queue's consumer.

use std::time::Duration;

use lambda_emulator::{Event, Outcome, Sandbox, Timeline};
use serde_json::{Value, json};

use crate::capture::service;
use crate::options::{Options, QueueKind};
use crate::queues::{DELIVERIES, Queues};
use crate::stage::{Stage, Trouble, also, print_logs};
use crate::verdict::{self, Expected};
use crate::view::page::Frame;

const PRODUCER: &str = "orders-producer";
const CONSUMER: &str = "orders-consumer";
const DEAD_LETTERS: &str = "orders-dead-letters";

/// How long the bad order may take to its end. Chosen: three visibility timeouts of a foreign server, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs it. True when every check holds.
///
/// # Errors
/// When something does not start, or the orders do not get through.
pub async fn run(options: &Options, stage: &Stage, queues: &Queues) -> Result<bool, Trouble> {
    let env = queues.env();
    let (producer, consumer, dead_letters) = tokio::try_join!(
        stage.sandbox(PRODUCER, "example-producer", &env),
        stage.sandbox(CONSUMER, "example-consumer", &[]),
        stage.sandbox(DEAD_LETTERS, "example-dlq-consumer", &[]),
    )?;
    let sandboxes = [&producer, &consumer, &dead_letters];
    let orders = orders(options);
    let played = play(&orders, stage, queues, &sandboxes).await;
    if played.is_err() {
        print_logs(&sandboxes, options.verbose);
    }
    played?;
    let struck = stage.strike(&sandboxes).await;

    let expected = Expected {
        producer: PRODUCER,
        consumer: CONSUMER,
        dead_letters: DEAD_LETTERS,
        orders: orders.all.len(),
        poisoned: orders.bad,
        deliveries: DELIVERIES,
    };
    let verdicts = verdict::of_demo(&stage.sink.spans(), &stage.timeline.entries(), &expected);
    let frame = Frame {
        title: "Orders, from the request to the dead letter".into(),
        about: format!(
            "A producer sent {} orders through a {} queue in one batch. {} of them always fails: \
             after {DELIVERIES} deliveries SQS moves it to the dead-letter queue.",
            orders.all.len(),
            options.queue.as_str(),
            if orders.bad == 1 {
                "One".to_owned()
            } else {
                format!("Each of {}", orders.bad)
            },
        ),
        verdicts: stage
            .passed_on(also(
                verdicts,
                "every extension exported all it had received, and ended by itself",
                struck,
            ))
            .await,
    };
    let held = stage.show(frame, &[PRODUCER, CONSUMER, DEAD_LETTERS])?;
    if !held {
        print_logs(&sandboxes, options.verbose);
    }
    Ok(held)
}

/// From the first order to the freeze after the last.
async fn play(
    orders: &Orders,
    stage: &Stage,
    queues: &Queues,
    [producer, consumer, dead_letters]: &[&Sandbox; 3],
) -> Result<(), Trouble> {
    let teller = tokio::spawn(tell(stage.timeline.clone(), stage.began()));
    let deliveries = [
        queues.deliver(&queues.orders, consumer),
        queues.deliver(&queues.dead_letters, dead_letters),
    ];
    let sent = orders.all.len();
    stage.say(&format!(
        "sending {sent} orders, of which {} always fails",
        orders.bad
    ));
    let invocation = producer.invoke(request(&orders.all)).await;
    accepted(&invocation.outcome)?;

    let handled = |name: &str| {
        let spans = stage.sink.spans();
        spans
            .iter()
            .filter(|span| span.kind == "CONSUMER" && service(span) == name)
            .count()
    };
    let wanted = sent - orders.bad + orders.bad * DELIVERIES;
    let done = stage
        .sink
        .wait_until(
            |_| handled(DEAD_LETTERS) >= orders.bad && handled(CONSUMER) >= wanted,
            PATIENCE,
        )
        .await;
    let errors: Vec<String> = deliveries
        .iter()
        .flat_map(|mapping| mapping.errors())
        .collect();
    for mapping in deliveries {
        mapping.stop().await;
    }
    for sandbox in [producer, consumer, dead_letters] {
        sandbox.wait_idle().await;
    }
    teller.abort();
    if done {
        return Ok(());
    }
    Err(format!(
        "after {PATIENCE:?} the orders were not at their end: {} of {wanted} deliveries to {CONSUMER} and {} of {} to \
         {DEAD_LETTERS} had their spans upstream{}",
        handled(CONSUMER),
        handled(DEAD_LETTERS),
        orders.bad,
        if errors.is_empty() {
            String::new()
        } else {
            format!("; the queue's poller said: {}", errors.join("; "))
        },
    ))
}

/// What is sent.
struct Orders {
    all: Vec<Value>,
    /// How many of them never succeed.
    bad: usize,
}

/// Four orders, or ten that go wrong in every way. Each that fails has a group of its own: behind it, a FIFO queue
/// holds the rest of its group back.
fn orders(options: &Options) -> Orders {
    let mut all = vec![
        json!({"id": "o-1", "amount": 3, "group": "north"}),
        json!({"id": "o-2", "amount": 1, "group": "south", "poison": true}),
        json!({"id": "o-3", "amount": 12, "group": "north"}),
        json!({"id": "o-4", "amount": 7, "group": "west"}),
    ];
    if options.mixed {
        all.extend([
            json!({"id": "o-5", "amount": 2, "group": "east", "panics": true}),
            json!({"id": "o-6", "amount": 4, "group": "north"}),
            json!({"id": "o-7", "amount": "many", "group": "centre"}),
            json!({"id": "o-8", "amount": 5, "group": "west"}),
            json!({"id": "o-9", "amount": 6, "group": "north"}),
            json!({"id": "o-10", "amount": 9, "group": "west"}),
        ]);
    }
    if options.queue == QueueKind::Standard {
        for order in all.iter_mut().filter_map(Value::as_object_mut) {
            order.remove("group");
        }
    }
    Orders {
        all,
        bad: if options.mixed { 3 } else { 1 },
    }
}

/// What API Gateway's HTTP API makes of a `POST /orders` (payload format 2.0).
fn request(orders: &[Value]) -> String {
    let body = Value::from(orders.to_vec()).to_string();
    json!({
        "version": "2.0",
        "routeKey": "POST /orders",
        "rawPath": "/orders",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "orders.example.com"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "demo",
            "domainName": "orders.example.com",
            "http": {
                "method": "POST",
                "path": "/orders",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "xtask-demo",
            },
            "requestId": "demo-1",
            "routeKey": "POST /orders",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_225_600_000_u64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
    .to_string()
}

/// Whether the producer took all orders.
fn accepted(outcome: &Outcome) -> Result<(), Trouble> {
    let Outcome::Answered(answer) = outcome else {
        return Err(format!("the producer did not answer: {outcome:?}"));
    };
    let answered: Value = serde_json::from_slice(answer).unwrap_or_default();
    match answered["statusCode"].as_u64() {
        Some(200..=299) => Ok(()),
        _ => Err(format!(
            "the producer refused the orders: {}",
            String::from_utf8_lossy(answer)
        )),
    }
}

/// Says what the queues do while the demo waits for them.
async fn tell(timeline: Timeline, began: std::time::Instant) {
    let mut next = 0;
    let wanted = |event: &Event| {
        matches!(
            event,
            Event::MessageReceived { .. } | Event::MessageMoved { .. }
        )
    };
    while let Some(entry) = timeline
        .wait_for(
            |entry| entry.seq >= next && wanted(&entry.event),
            Duration::from_secs(3600),
        )
        .await
    {
        next = entry.seq + 1;
        let short = |id: &str| id.chars().take(8).collect::<String>();
        let said = match &entry.event {
            Event::MessageReceived {
                queue,
                message_id,
                receive_count,
            } => {
                format!(
                    "{queue}: delivery {receive_count} of message {}",
                    short(message_id)
                )
            }
            Event::MessageMoved { to, message_id, .. } => {
                format!(
                    "message {} is given up and moved to {to}",
                    short(message_id)
                )
            }
            _ => continue,
        };
        let at = entry.at.mono.saturating_duration_since(began);
        eprintln!("{:>7.2} s  {said}", at.as_secs_f64());
    }
}
