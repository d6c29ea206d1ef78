//! The demo, the picture it draws, and the benchmarks.
#![allow(clippy::print_stdout, reason = "its output is what a command is for")]

pub mod bench;
pub mod capture;
pub mod client;
pub mod event;
pub mod options;
pub mod queues;
pub mod run;
pub mod stage;
pub mod tee;
pub mod verdict;
pub mod view;
