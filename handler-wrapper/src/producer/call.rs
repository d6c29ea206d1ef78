//! One call to SQS from its first hook to its last, or to the moment it is dropped.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_smithy_types::config_bag::{Storable, StoreReplace};
use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

/// The state of a call, kept in the SDK's own bag for it.
///
/// Dropped without an end (a timeout around `.send()`, a cancelled task), it ends its spans as
/// cancelled: the last hook does not run then.
#[derive(Debug)]
pub(crate) struct Call(Mutex<Option<Open>>);

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

/// The spans of a call that is under way.
#[derive(Debug)]
pub(crate) struct Open {
    /// Has the span of the call itself.
    pub(crate) context: Context,
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
    Sent { message_id: String },
    Failed { code: String },
}

impl Call {
    pub(crate) fn new(open: Open) -> Self {
        Self(Mutex::new(Some(open)))
    }

    /// The call, the first time it is asked for.
    pub(crate) fn take(&self) -> Option<Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sets attributes of the call's span while it is open.
    pub(crate) fn set_attributes(&self, attributes: Vec<KeyValue>) {
        if let Some(open) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            open.context.span().set_attributes(attributes);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(open) = self.take() {
            open.fail("cancelled");
        }
    }
}

impl Open {
    /// Ends everything as failed.
    pub(crate) fn fail(self, error_type: &str) {
        for create in &self.creates {
            self.link(create.context.span().span_context().clone(), None);
            end_failed(&create.context, error_type);
        }
        for (_, creation) in &self.linked {
            self.link(creation.clone(), None);
        }
        end_failed(&self.context, error_type);
    }

    /// Ends the span of a call that went well.
    pub(crate) fn succeed(self, attributes: Vec<KeyValue>) {
        self.context.span().set_attributes(attributes);
        self.context.span().end();
    }

    /// Ends the spans of a batch, each entry as SQS answered for it.
    pub(crate) fn answered(self, results: &HashMap<String, EntryResult>) {
        for Create { entry_id, context } in &self.creates {
            let result = results.get(entry_id);
            self.link(context.span().span_context().clone(), result);
            match result {
                Some(EntryResult::Sent { message_id }) => {
                    context
                        .span()
                        .set_attribute(KeyValue::new("messaging.message.id", message_id.clone()));
                    context.span().end();
                }
                Some(EntryResult::Failed { code }) => end_failed(context, code),
                // SQS answers for every entry; what it says nothing about is not known to be sent.
                None => end_failed(context, "_OTHER"),
            }
        }
        for (entry_id, creation) in &self.linked {
            self.link(creation.clone(), results.get(entry_id));
        }
        match common_code(results) {
            Some(code) => end_failed(&self.context, code),
            None => self.context.span().end(),
        }
    }

    /// Links the call's span to the creation context of an entry. Links that carry a message id
    /// can only be made now: ids are known with the answer.
    fn link(&self, creation: SpanContext, result: Option<&EntryResult>) {
        let attributes = match result {
            Some(EntryResult::Sent { message_id }) => {
                vec![KeyValue::new("messaging.message.id", message_id.clone())]
            }
            _ => Vec::new(),
        };
        self.context.span().add_link(creation, attributes);
    }
}

/// The error type of a batch in which entries failed: their code if they share one.
fn common_code(results: &HashMap<String, EntryResult>) -> Option<&str> {
    let mut codes = results.values().filter_map(|result| match result {
        EntryResult::Failed { code } => Some(code.as_str()),
        EntryResult::Sent { .. } => None,
    });
    let first = codes.next()?;
    Some(if codes.all(|code| code == first) {
        first
    } else {
        "_OTHER"
    })
}

/// Ends the span of a context with an error. The description is the type, never a text that may
/// quote what was sent.
pub(crate) fn end_failed(context: &Context, error_type: &str) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", error_type.to_owned()));
    span.set_status(Status::error(error_type.to_owned()));
    span.end();
}
