//! Handles what the orders queue gave up.

fn main() {}
