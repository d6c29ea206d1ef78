//! Runs the demo and the checks.

fn main() {}
