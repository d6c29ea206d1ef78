//! The choices of a handler, one method each.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use opentelemetry::KeyValue;

use super::SqsHandler;
use super::options::BatchSpan;
use crate::parent::{ContextOptions, Relation};
use crate::telemetry::Telemetry;

impl<F, A> SqsHandler<F, A> {
    /// Names the failed records in the answer, so that only they are delivered again.
    ///
    /// The event source mapping must have `ReportBatchItemFailures`: without it Lambda takes the
    /// answer as success of all and deletes the failed messages. See [`traced_sqs_handler`](crate::traced_sqs_handler).
    #[must_use]
    pub fn partial_batch(self) -> Self {
        self.with(|o| o.partial = Some(true))
    }

    /// Answers for the whole batch whatever `THROUGHLINE_PARTIAL_BATCH` says.
    #[must_use]
    pub fn whole_batch(self) -> Self {
        self.with(|o| o.partial = Some(false))
    }

    /// Names the failed records also when not a single one succeeded.
    ///
    /// By default the invocation fails then, also with partial answers, so that Lambda slows its
    /// polling down.
    #[must_use]
    pub fn report_all_failed(self) -> Self {
        self.with(|o| o.report_all_failed = true)
    }

    /// Processes up to `n` records at the same time; default 1, and 0 counts as 1.
    ///
    /// On a FIFO queue the records of one message group stay in order, one after the other, and up
    /// to `n` groups are processed at the same time.
    #[must_use]
    pub fn concurrency(self, n: usize) -> Self {
        self.with(|o| o.concurrency = NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN))
    }

    /// On a FIFO queue, leaves out only the rest of a failed record's message group.
    ///
    /// By default nothing more is started after a failure, and the failed record and all that
    /// follow are returned to the queue. What is left out has no span, since it was not processed.
    #[must_use]
    pub fn fifo_skip_group(self) -> Self {
        self.with(|o| o.fifo_skip_group = true)
    }

    /// How records relate to their producers' spans: child (the default), or only linked.
    #[must_use]
    pub fn relation(self, relation: Relation) -> Self {
        self.with(|o| o.context.relation = relation)
    }

    /// When the batch has a span of its own.
    #[must_use]
    pub fn batch_span(self, batch_span: BatchSpan) -> Self {
        self.with(|o| o.batch_span = batch_span)
    }

    /// Everything about reading a record's context: carriers and their order, X-Ray policies, age,
    /// baggage.
    ///
    /// ```
    /// use std::time::Duration;
    /// use throughline::{SqsMessage, parent::ContextOptions, traced_sqs_handler};
    ///
    /// # async fn process(_: SqsMessage) -> Result<(), std::io::Error> { Ok(()) }
    /// let handler = traced_sqs_handler(process).context(ContextOptions {
    ///     max_parent_age: Some(Duration::from_secs(3600)),
    ///     ..ContextOptions::default()
    /// });
    /// # drop(handler);
    /// ```
    #[must_use]
    pub fn context(self, options: ContextOptions) -> Self {
        self.with(|o| o.context = options)
    }

    /// Whether the records' `baggage` is taken over; default true. Turn it off for queues that
    /// others can write to.
    #[must_use]
    pub fn trust_baggage(self, trust: bool) -> Self {
        self.with(|o| o.context.trust_baggage = trust)
    }

    /// Uses this telemetry instead of the process's.
    #[must_use]
    pub fn telemetry(self, telemetry: &Telemetry) -> Self {
        self.with(|o| o.telemetry = Some(telemetry.clone()))
    }

    /// Whether spans that are still open shortly before the deadline are ended and exported with
    /// `error.type` = `timeout`; default true.
    ///
    /// Shortly is 20 % of the invocation's limit, one second at most. Nothing else changes: the
    /// processors run on and the answer is theirs.
    #[must_use]
    pub fn observe_deadline(self, observe: bool) -> Self {
        self.with(|o| o.observe_deadline = observe)
    }

    /// Starts no record later than `margin` before the deadline.
    ///
    /// With partial answers the records that were not started are reported as failed, so that those
    /// which succeeded are not delivered again. They have no span, but their receive count has
    /// already gone up: a low `maxReceiveCount` can move them to the dead-letter queue unprocessed.
    #[must_use]
    pub fn stop_before_deadline(self, margin: Duration) -> Self {
        self.with(|o| o.stop_margin = Some(margin))
    }

    /// Besides [`stop_before_deadline`](Self::stop_before_deadline), drops the records that are
    /// running at that moment and reports them as failed, with `error.type` = `timeout`.
    #[must_use]
    pub fn cancel_at_deadline(self, margin: Duration) -> Self {
        self.with(|o| {
            o.stop_margin = Some(margin);
            o.cancel = true;
        })
    }

    /// Names record spans: `None` keeps `process {queue}`. Keep the names few.
    #[must_use]
    pub fn span_name<N>(self, name: N) -> Self
    where
        N: Fn(&SqsMessage) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    {
        self.with(|o| o.span_name = Some(Arc::new(name)))
    }

    /// Adds attributes to record spans.
    ///
    /// ```
    /// use opentelemetry::KeyValue;
    /// use throughline::{SqsMessage, traced_sqs_handler};
    ///
    /// # async fn process(_: SqsMessage) -> Result<(), std::io::Error> { Ok(()) }
    /// let handler = traced_sqs_handler(process).span_attributes(|message: &SqsMessage| {
    ///     let priority = message.message_attributes.get("priority");
    ///     let text = priority.and_then(|p| p.string_value.clone());
    ///     text.map(|text| KeyValue::new("app.priority", text)).into_iter().collect()
    /// });
    /// # drop(handler);
    /// ```
    #[must_use]
    pub fn span_attributes<N>(self, attributes: N) -> Self
    where
        N: Fn(&SqsMessage) -> Vec<KeyValue> + Send + Sync + 'static,
    {
        self.with(|o| o.span_attributes = Some(Arc::new(attributes)))
    }

    /// The value of `messaging.operation.name` and first word of span names; default `process`.
    #[must_use]
    pub fn operation_name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with(|o| o.attributes.operation = name.into())
    }

    /// Whether record spans have the `throughline.*` attributes; default true.
    #[must_use]
    pub fn throughline_attributes(self, on: bool) -> Self {
        self.with(|o| o.attributes.own = on)
    }

    /// Adds `throughline.queue.fifo` to record spans.
    #[must_use]
    pub fn fifo_attribute(self) -> Self {
        self.with(|o| o.attributes.queue_fifo = true)
    }

    /// Adds `messaging.message.body.size` and `messaging.message.envelope.size` to record spans.
    #[must_use]
    pub fn message_sizes(self) -> Self {
        self.with(|o| o.attributes.sizes = true)
    }

    /// Copies these message attributes to `messaging.message.header.<name>`. None by default:
    /// message attributes can hold secrets.
    #[must_use]
    pub fn header_attributes<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(|o| o.attributes.headers = names.into_iter().map(Into::into).collect())
    }
}

impl<F, A> SqsHandler<F, A> {
    /// The `error.type` of a processor's error; default the name of its Rust type.
    ///
    /// Keep it low in cardinality: a name, no ids.
    ///
    /// ```
    /// use throughline::{SqsMessage, traced_sqs_handler};
    ///
    /// enum OrderError { OutOfStock, Payment(u16) }
    ///
    /// # async fn process(_: SqsMessage) -> Result<(), OrderError> { Err(OrderError::Payment(1)) }
    /// let handler = traced_sqs_handler(process).error_type(|error: &OrderError| match error {
    ///     OrderError::OutOfStock => "out_of_stock".into(),
    ///     OrderError::Payment(_) => "payment".into(),
    /// });
    /// # drop(handler);
    /// ```
    #[must_use]
    pub fn error_type<E, Fut, N>(self, name: N) -> Self
    where
        F: Fn(A) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: 'static,
        N: Fn(&E) -> Cow<'static, str> + Send + Sync + 'static,
    {
        self.with(|o| {
            o.error_type = Some(Arc::new(move |e: &dyn Any| e.downcast_ref().map(&name)));
        })
    }

    /// Puts the text of errors into the status description of record spans, also of bodies that
    /// could not be read.
    ///
    /// Off by default: many errors, those of `serde_json` first of all, quote what they choked on.
    #[must_use]
    pub fn error_message<E, Fut>(self) -> Self
    where
        F: Fn(A) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: fmt::Display + 'static,
    {
        self.with(|o| o.body_error_detail = true)
            .error_detail(|error: &E| Some(error.to_string().into()))
    }

    /// Puts a text of your own about errors into the status description of record spans.
    #[must_use]
    pub fn error_detail<E, Fut, N>(self, text: N) -> Self
    where
        F: Fn(A) -> Fut,
        Fut: Future<Output = Result<(), E>>,
        E: 'static,
        N: Fn(&E) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    {
        self.with(|o| {
            o.error_detail = Some(Arc::new(move |e: &dyn Any| {
                e.downcast_ref().and_then(&text)
            }));
        })
    }
}
