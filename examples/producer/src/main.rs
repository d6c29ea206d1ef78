//! Takes orders over HTTP and sends them to SQS in one batch.

fn main() {}
