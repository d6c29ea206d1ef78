//! The picture of a trace that crosses queues, for a terminal and as a page.
//!
//! Pure: what is drawn comes in as a [`Capture`], time as nanoseconds since 1970, and text goes out.

pub mod axis;
pub mod model;
pub mod page;
pub mod story;
pub mod terminal;
pub mod text;

#[cfg(test)]
mod samples;

pub use model::{Capture, Flush, Lane, Link, Mark, MarkKind, Note, Span};
pub use story::Story;
