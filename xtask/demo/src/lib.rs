//! The demo, the picture it draws, and the benchmarks.

pub mod view;
