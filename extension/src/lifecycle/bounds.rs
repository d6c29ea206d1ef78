//! Every bound of the lifecycle, with where its number comes from.

use std::time::Duration;

/// Bytes that wait from which on they leave while the function still runs.
pub const EARLY_BYTES: usize = 512 << 10;
/// How long a deadline may lie ahead and still be believed: Lambda's longest timeout is 15 min, 90 min on Managed Instances.
pub(super) const DEADLINE_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// What counts as the limit when the deadline is nonsense: Lambda's longest timeout.
pub(super) const LIMIT_UNKNOWN: Duration = Duration::from_secs(900);
/// How long a silent subscription may hold the first invocation: ten times the buffering that we ask for.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// The longest flush after an invocation that failed: the clock of the reset may be running.
pub(super) const FLUSH_TIMEOUT_FAILED: Duration = Duration::from_millis(500);
/// Lambda gives 2 s from SHUTDOWN to SIGKILL (Extensions API, "Shutdown phase").
pub(super) const DRAIN: Duration = Duration::from_millis(1800);
/// The same while upstream is known not to answer.
pub(super) const DRAIN_OPEN: Duration = Duration::from_millis(500);
/// Kept free before SHUTDOWN's deadline, to write the ledger and exit.
pub(super) const DRAIN_MARGIN: Duration = Duration::from_millis(100);
/// Quiet time after an arrival before a background export, while we cannot see the function's end.
pub(super) const QUIET: Duration = Duration::from_millis(50);
/// The longest that arrivals may put off a background export.
pub(super) const AGE_MAX: Duration = Duration::from_secs(1);
/// A request in flight for longer than this when INVOKE comes was cut off by a freeze.
/// Chosen: shorter freezes leave the connection and the answer as they were.
pub(super) const RECALL_AFTER: Duration = Duration::from_secs(1);
/// Completes that are kept for an INVOKE to come, and ended requests whose runtimeDone is owed.
pub(super) const EARLY_MAX: usize = 16;
/// `adaptive`: invocations closer together than this are a burst, from the third on.
pub(super) const CLOSE: Duration = Duration::from_secs(1);
pub(super) const CLOSE_TOGETHER_MIN: u32 = 2;
/// `adaptive`: spans older than this are flushed at the end of an invocation even in a burst.
pub(super) const ADAPTIVE_AGE_MAX: Duration = Duration::from_secs(5);
