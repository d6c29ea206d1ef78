//! One CONSUMER span per SQS record, in the trace of its producer.

mod baggage;
#[cfg(feature = "producer")]
mod lineage;
pub mod parent;
#[cfg(feature = "producer")]
pub mod producer;
