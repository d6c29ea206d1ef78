//! The numbers of the README, measured side by side with an extension that does nothing.

pub mod load;
pub mod options;
pub mod otlp;
pub mod process;
pub mod rows;
pub mod table;
