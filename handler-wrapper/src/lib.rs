//! One CONSUMER span per SQS record, in the trace of its producer.

mod baggage;
pub mod parent;
