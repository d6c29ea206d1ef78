//! What the function answers for a batch.
//!
//! Lambda deletes every message of a batch unless the answer is an error, or, when the event source
//! mapping has `ReportBatchItemFailures`, unless the answer names the message. The event does not
//! say which kind of mapping it came from, and a partial answer under a mapping without that
//! setting silently deletes the failed messages. So the whole batch is the default, and partial
//! answers are asked for.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use aws_lambda_events::sqs::SqsBatchResponse;
use lambda_runtime::Diagnostic;

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    /// Left alone: it comes after a failure in a FIFO queue, or too close to the deadline.
    NotStarted,
}

/// Which answer is given for which outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerPolicy {
    /// Name the records that failed, instead of failing the invocation.
    pub(crate) partial: bool,
    /// Name them also when not a single record succeeded.
    pub(crate) report_all_failed: bool,
}

/// Why the invocation fails, and so the whole batch goes back to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchError {
    reason: Reason,
    records: usize,
    failed: usize,
    not_started: usize,
    error_types: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    WholeBatch,
    AllFailed,
    NoId,
}

/// How many different error types a [`BatchError`] names.
const ERROR_TYPES_MAX: usize = 5;

/// Decides the answer for a batch, from each record's id and outcome in the order of the event.
///
/// # Errors
///
/// When the whole batch must be tried again.
pub(crate) fn answer<'a>(
    records: impl Iterator<Item = (Option<&'a str>, Outcome)>,
    policy: AnswerPolicy,
) -> Result<SqsBatchResponse, BatchError> {
    let mut response = SqsBatchResponse::default();
    let mut named = HashSet::new();
    let (mut total, mut failed, mut not_started, mut nameless) = (0, 0, 0, false);
    for (id, outcome) in records {
        total += 1;
        match outcome {
            Outcome::Succeeded => continue,
            Outcome::Failed => failed += 1,
            Outcome::NotStarted => not_started += 1,
        }
        // Lambda takes an empty id, or one that is not in the batch, as the failure of all.
        match id.filter(|id| !id.is_empty()) {
            Some(id) if named.insert(id) => response.add_failure(id),
            Some(_) => {}
            None => nameless = true,
        }
    }
    let returned = failed + not_started;
    let reason = if returned == 0 {
        return Ok(response);
    } else if !policy.partial {
        Reason::WholeBatch
    } else if nameless {
        Reason::NoId
    } else if returned == total && !policy.report_all_failed {
        Reason::AllFailed
    } else {
        return Ok(response);
    };
    Err(BatchError {
        reason,
        records: total,
        failed,
        not_started,
        error_types: Vec::new(),
    })
}

// === impl BatchError ===

impl BatchError {
    /// The number of records in the batch.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// The number of records that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// The number of records that were not started.
    #[must_use]
    pub fn not_started(&self) -> usize {
        self.not_started
    }

    /// The error types of the failed records: each once, five at most.
    #[must_use]
    pub fn error_types(&self) -> &[String] {
        &self.error_types
    }

    /// The low-cardinality name of this error, as it stands in the invocation's error answer and
    /// in `error.type` of the batch span.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self.reason {
            Reason::WholeBatch => "RecordsFailed",
            Reason::AllFailed => "AllRecordsFailed",
            Reason::NoId => "FailedRecordWithoutId",
        }
    }

    pub(crate) fn with_error_types<'a>(
        mut self,
        types: impl Iterator<Item = Cow<'a, str>>,
    ) -> Self {
        for name in types {
            if self.error_types.len() == ERROR_TYPES_MAX {
                break;
            }
            if !self.error_types.iter().any(|known| *known == name) {
                self.error_types.push(name.into_owned());
            }
        }
        self
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} records failed", self.failed, self.records)?;
        if self.not_started > 0 {
            write!(f, " and {} were not started", self.not_started)?;
        }
        match self.reason {
            Reason::WholeBatch => f.write_str("; the whole batch goes back to the queue")?,
            Reason::AllFailed => f.write_str("; not one succeeded")?,
            Reason::NoId => f.write_str("; one of them has no message id to report it by")?,
        }
        if !self.error_types.is_empty() {
            write!(f, " (error types: {})", self.error_types.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for BatchError {}

impl From<BatchError> for Diagnostic {
    fn from(error: BatchError) -> Self {
        Self {
            error_type: error.error_type().to_owned(),
            error_message: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
