//! Takes orders over HTTP (API Gateway's HTTP API, format 2.0) and sends them to SQS in one batch.
//!
//! The body is one order or a list of orders: `{"id":"o-1","amount":3}`. Queues with group ids get
//! the order's `group`; a FIFO queue falls back to its `id`.
//! Settings: `ORDERS_QUEUE_URL`; `AWS_ENDPOINT_URL_SQS` for a local SQS.

mod http;
mod order;
mod sqs;

use std::sync::Arc;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use lambda_runtime::{LambdaEvent, service_fn};
use opentelemetry::trace::TraceContextExt;
use serde_json::{Value, json};
use tracing::{error, info, instrument};

use order::Order;

/// SQS takes ten messages a call.
const BATCH_MAX: usize = 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    let orders = Arc::new(sqs::Orders::from_env()?);
    throughline::run(service_fn(move |event: LambdaEvent<http::Request>| {
        let orders = orders.clone();
        async move { Ok::<_, throughline::Error>(post_orders(&orders, event.payload).await) }
    }))
    .await
}

/// Answers 202 with the number of orders that were sent, the ids of those that were not, and the
/// trace in which all of them are found again.
#[instrument(name = "POST /orders", skip_all, fields(otel.kind = "server", http.request.method = "POST", http.route = "/orders"))]
async fn post_orders(queue: &sqs::Orders, request: http::Request) -> Value {
    let trace_id = opentelemetry::Context::current()
        .span()
        .span_context()
        .trace_id()
        .to_string();
    let orders = match request.orders() {
        Ok(orders) => orders,
        Err(why) => return http::respond(400, &json!({ "error": why, "trace_id": trace_id })),
    };
    let (mut sent, mut failed) = (0, Vec::new());
    for batch in orders.chunks(BATCH_MAX) {
        let entries = batch
            .iter()
            .enumerate()
            .map(|(number, order)| entry(number, order, queue));
        match queue.send(entries.collect()).await {
            Ok(failures) => {
                sent += batch.len() - failures.len();
                failed.extend(
                    failures
                        .iter()
                        .filter_map(|number| batch.get(*number))
                        .map(|order| order.id.clone()),
                );
            }
            Err(error) => {
                error!(%error, "orders were not sent");
                failed.extend(batch.iter().map(|order| order.id.clone()));
            }
        }
    }
    info!(sent, failed = failed.len(), "orders sent");
    let status = if failed.is_empty() { 202 } else { 502 };
    http::respond(
        status,
        &json!({ "sent": sent, "failed": failed, "trace_id": trace_id }),
    )
}

fn entry(number: usize, order: &Order, queue: &sqs::Orders) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder()
        .id(number.to_string())
        .message_body(order.text.clone())
        .set_message_group_id(
            order
                .group
                .clone()
                .or_else(|| queue.is_fifo().then(|| order.id.clone())),
        )
        .set_message_deduplication_id(queue.is_fifo().then(|| order.id.clone()))
        .build()
        .expect("an entry with an id and a body is complete")
}
