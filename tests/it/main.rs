//! The promises of the README, one file each, proven with real processes.
#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod child_spans;
mod docs;
mod events;
mod examples;
mod interop_sqs;
mod other_languages;
mod p1_one_trace;
mod p2_before_the_freeze;
mod p3_bounded;
mod p4_ledger;
mod p5_never_breaks;
mod p6_answers;
mod p8_any_client;
mod redrive;
mod second_opinion;
mod upstream_tls;
