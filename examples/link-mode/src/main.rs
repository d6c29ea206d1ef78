//! Links instead of parents: each invocation is a trace of its own.
//!
//! The batch has a span with one link to each producer, and the records' spans are below it, each
//! with a link to its own producer. That suits backends which limit the size or the age of a trace,
//! and queues in which messages wait for long.

use std::convert::Infallible;

use throughline::parent::Relation;
use throughline::{SqsMessage, traced_sqs_handler};
use tracing::info;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), throughline::Error> {
    throughline::run(traced_sqs_handler(process).relation(Relation::Link)).await
}

async fn process(message: SqsMessage) -> Result<(), Infallible> {
    info!(bytes = message.body.map_or(0, |body| body.len()), "handled");
    Ok(())
}
