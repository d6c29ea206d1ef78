//! The promises of the README, one file each, proven with real processes.
