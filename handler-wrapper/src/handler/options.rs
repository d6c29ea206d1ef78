//! Everything about a handler that can be chosen.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use opentelemetry::KeyValue;

use crate::consumer_span::AttributeOptions;
use crate::parent::ContextOptions;
use crate::telemetry::Telemetry;

/// When a batch has a span of its own, above the spans of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchSpan {
    /// When records are linked to their producers ([`Relation::Link`](crate::parent::Relation::Link)),
    /// or two or more arrive under a span that is already recording. The default.
    ///
    /// With records as children of their producers' spans and nothing around them, a batch span
    /// would be a trace of its own for every invocation.
    #[default]
    Auto,
    /// For every batch.
    Always,
    /// For none.
    Never,
}

/// Reads something out of a processor's error, whose type only the builder method knows.
pub(super) type ErrorText = Arc<dyn Fn(&dyn Any) -> Option<Cow<'static, str>> + Send + Sync>;
pub(super) type SpanName = Arc<dyn Fn(&SqsMessage) -> Option<Cow<'static, str>> + Send + Sync>;
pub(super) type Attributes = Arc<dyn Fn(&SqsMessage) -> Vec<KeyValue> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Options {
    pub(super) telemetry: Option<Telemetry>,
    pub(super) context: ContextOptions,
    pub(super) attributes: AttributeOptions,
    pub(super) batch_span: BatchSpan,
    /// `None`: as `THROUGHLINE_PARTIAL_BATCH` says.
    pub(super) partial: Option<bool>,
    pub(super) report_all_failed: bool,
    pub(super) concurrency: NonZeroUsize,
    pub(super) fifo_skip_group: bool,
    pub(super) observe_deadline: bool,
    pub(super) stop_margin: Option<Duration>,
    pub(super) cancel: bool,
    pub(super) error_type: Option<ErrorText>,
    pub(super) error_detail: Option<ErrorText>,
    pub(super) body_error_detail: bool,
    pub(super) span_name: Option<SpanName>,
    pub(super) span_attributes: Option<Attributes>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            telemetry: None,
            context: ContextOptions::default(),
            attributes: AttributeOptions::default(),
            batch_span: BatchSpan::default(),
            partial: None,
            report_all_failed: false,
            concurrency: NonZeroUsize::MIN,
            fifo_skip_group: false,
            observe_deadline: true,
            stop_margin: None,
            cancel: false,
            error_type: None,
            error_detail: None,
            body_error_detail: false,
            span_name: None,
            span_attributes: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("context", &self.context)
            .field("attributes", &self.attributes)
            .field("batch_span", &self.batch_span)
            .field("partial", &self.partial)
            .field("report_all_failed", &self.report_all_failed)
            .field("concurrency", &self.concurrency)
            .field("fifo_skip_group", &self.fifo_skip_group)
            .field("observe_deadline", &self.observe_deadline)
            .field("stop_margin", &self.stop_margin)
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}
