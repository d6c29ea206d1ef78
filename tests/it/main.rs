//! The promises of the README, one file each, proven with real processes.

mod docs;
mod events;
mod other_languages;
mod p2_before_the_freeze;
mod p6_answers;
mod second_opinion;
