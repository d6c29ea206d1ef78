//! One call to SQS or SNS from its first hook to its last, or to the moment it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use aws_smithy_types::config_bag::{Storable, StoreReplace};
use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use super::Settings;
use super::span::{self, Destination, Operation, Start};

/// The error type of a call that was dropped before its end.
const CANCELLED: &str = "cancelled";

/// The state of a call, kept in the SDK's own bag for it.
///
/// Dropped without an end (a timeout around `.send()`, a cancelled task), it ends its spans as
/// cancelled: the last hook does not run then.
#[derive(Debug)]
pub(crate) struct Call(Mutex<Option<Open>>);

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) settings: Arc<Settings>,
    pub(crate) operation: Operation,
    pub(crate) destination: Destination,
    /// What was current where the call was made.
    pub(crate) parent: Context,
    pub(crate) started: (Instant, SystemTime),
    /// How many messages the call sends.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only counted"))]
    pub(crate) messages: usize,
    /// `server.address` and `server.port`, once the request is on its way.
    pub(crate) server: Vec<KeyValue>,
    pub(crate) request_id: Option<String>,
    pub(crate) spans: Spans,
}

/// The spans of a call.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// Has the span of the call itself. `None`: it is made at the end (receiving), or not at all.
    pub(crate) context: Option<Context>,
    /// The spans of a batch's entries.
    pub(crate) creates: Vec<Create>,
    /// Creation contexts that the caller wrote, by entry id (empty for a single message).
    pub(crate) linked: Vec<(String, SpanContext)>,
}

/// The `create` span of one entry.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) entry_id: String,
    pub(crate) context: Context,
}

/// How one entry of a batch ended.
#[derive(Clone, Debug)]
pub(crate) enum EntryResult {
    Done { message_id: Option<String> },
    Failed { code: String },
}

/// A message that was received, and where it was made.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) message_id: Option<String>,
    pub(crate) creation: Option<SpanContext>,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum End {
    Done { message_id: Option<String> },
    Entries(HashMap<String, EntryResult>),
    Received(Vec<Received>),
    Failed(String),
}

impl Call {
    pub(crate) fn new(open: Open) -> Self {
        Self(Mutex::new(Some(open)))
    }

    /// The call, the first time it is asked for.
    pub(crate) fn take(&self) -> Option<Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Changes the call while it is under way.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            change(open);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(open) = self.take() {
            open.end(&End::Failed(CANCELLED.to_owned()));
        }
    }
}

// === impl Open ===

impl Open {
    /// Ends every span of the call.
    pub(crate) fn end(mut self, end: &End) {
        #[cfg(feature = "metrics")]
        if !self.is_dropped_poll(end) {
            self.settings.record(&self, end);
        }
        self.end_creates(end);
        if self.operation == Operation::Receive {
            self.spans.context = self.receive_span(end);
        }
        let Some(context) = &self.spans.context else {
            return;
        };
        let span = context.span();
        span.set_attributes(self.server.iter().cloned());
        span.set_attributes(
            self.request_id
                .clone()
                .map(|id| KeyValue::new("aws.request_id", id)),
        );
        if let End::Done {
            message_id: Some(id),
        } = end
        {
            span.set_attribute(message_id(id));
        }
        match end.error_type() {
            Some(error_type) => end_failed(context, error_type),
            None => span.end(),
        }
    }

    /// A long poll that its worker gave up, as every worker does when it ends: nothing was received.
    fn is_dropped_poll(&self, end: &End) -> bool {
        self.operation == Operation::Receive
            && matches!(end, End::Failed(error) if error == CANCELLED)
    }

    /// Ends the spans of a batch's entries, each as the service answered for it, and links the call to them.
    /// Links that carry a message id can only be made now: ids are known with the answer.
    fn end_creates(&self, end: &End) {
        let Some(context) = &self.spans.context else {
            return;
        };
        for Create {
            entry_id,
            context: create,
        } in &self.spans.creates
        {
            let result = end.of_entry(entry_id);
            link(context, create.span().span_context().clone(), result);
            match (result, end) {
                (Some(EntryResult::Done { message_id: id }), _) => {
                    create.span().set_attributes(id.as_deref().map(message_id));
                    create.span().end();
                }
                (Some(EntryResult::Failed { code }), _) => end_failed(create, code),
                (None, End::Failed(error_type)) => end_failed(create, error_type),
                // The service answers for every entry; what it says nothing about is not known to be sent.
                (None, _) => end_failed(create, "_OTHER"),
            }
        }
        for (entry_id, creation) in &self.spans.linked {
            link(context, creation.clone(), end.of_entry(entry_id));
        }
    }

    /// Receiving is a span only when something came of it: a worker polls empty queues all day. So
    /// it is made afterwards, with the time at which it began.
    fn receive_span(&self, end: &End) -> Option<Context> {
        let received = match end {
            End::Received(received) if !received.is_empty() => received.as_slice(),
            End::Failed(_) if !self.is_dropped_poll(end) => &[],
            _ => return None,
        };
        let count = KeyValue::new("messaging.batch.message_count", count(received.len()));
        let context = span::start(
            &self.settings,
            Start {
                operation: self.operation,
                kind: SpanKind::Client,
                destination: &self.destination,
                parent: &self.parent,
                at: Some(self.started.1),
                links: Vec::new(),
                attributes: vec![count],
            },
        );
        for Received {
            message_id: id,
            creation,
        } in received
        {
            if let Some(creation) = creation {
                let attributes = id.as_deref().map(message_id).into_iter().collect();
                context.span().add_link(creation.clone(), attributes);
            }
        }
        Some(context)
    }
}

// === impl End ===

impl End {
    fn of_entry(&self, id: &str) -> Option<&EntryResult> {
        match self {
            Self::Entries(results) => results.get(id),
            _ => None,
        }
    }

    /// The error type of the call; of a batch in which entries failed, their code if they share one.
    pub(crate) fn error_type(&self) -> Option<&str> {
        let results = match self {
            Self::Failed(error_type) => return Some(error_type),
            Self::Entries(results) => results,
            Self::Done { .. } | Self::Received(_) => return None,
        };
        let mut codes = results.values().filter_map(EntryResult::code);
        let first = codes.next()?;
        Some(if codes.all(|code| code == first) {
            first
        } else {
            "_OTHER"
        })
    }
}

impl EntryResult {
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Failed { code } => Some(code),
            Self::Done { .. } => None,
        }
    }
}

fn link(context: &Context, creation: SpanContext, result: Option<&EntryResult>) {
    let id = match result {
        Some(EntryResult::Done { message_id }) => message_id.as_deref(),
        _ => None,
    };
    context
        .span()
        .add_link(creation, id.map(message_id).into_iter().collect());
}

fn message_id(id: &str) -> KeyValue {
    KeyValue::new("messaging.message.id", id.to_owned())
}

pub(crate) fn count(messages: usize) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}

/// Ends the span of a context with an error. The description is the type, never a text that may
/// quote what was sent.
fn end_failed(context: &Context, error_type: &str) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", error_type.to_owned()));
    span.set_status(Status::error(error_type.to_owned()));
    span.end();
}
