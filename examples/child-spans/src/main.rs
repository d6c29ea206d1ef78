//! Spans of your own below the record's span, in all the ways they are made.
//!
//! `#[instrument]` functions, spans of the OpenTelemetry API, and both in spawned tasks: all are in
//! the trace of the message's producer. Each log line has the ids of the span it was written in.

use opentelemetry::trace::{FutureExt, TraceContextExt, Tracer};
use opentelemetry::{Context, global};
use throughline::{SqsMessage, traced_sqs_handler};
use tracing::{Instrument, info, instrument};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    throughline::run(traced_sqs_handler(process)).await
}

async fn process(message: SqsMessage) -> Result<(), throughline::Error> {
    info!("in the record");
    let body = message.body.unwrap_or_default();
    validate(&body).await?;
    store(body.len()).await;
    // A spawned task keeps the record's span when it is told to, in either way.
    tokio::spawn(audit().in_current_span()).await?;
    tokio::spawn(notify().with_current_context()).await?;
    Ok(())
}

#[instrument(skip_all, fields(bytes = body.len()))]
async fn validate(body: &str) -> Result<(), &'static str> {
    info!("in validate");
    if checksum(body).await == 0 {
        Err("an empty body")
    } else {
        Ok(())
    }
}

#[instrument(skip_all)]
async fn checksum(body: &str) -> u32 {
    tokio::task::yield_now().await;
    body.bytes().map(u32::from).sum()
}

/// Stands for a library that knows only OpenTelemetry.
async fn store(bytes: usize) {
    let span = global::tracer("database").start("INSERT orders");
    let cx = Context::current_with_span(span);
    async { info!(bytes, "in the database") }
        .with_context(cx.clone())
        .await;
    cx.span().end();
}

#[instrument]
async fn audit() {
    info!("in audit");
}

async fn notify() {
    global::tracer("mail").in_span("notify", |_| info!("in notify"));
}
