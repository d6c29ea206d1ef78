//! Handles orders from SQS, one span per record.

fn main() {}
