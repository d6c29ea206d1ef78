//! Ties `tracing`'s current span to the record's span.
//!
//! The record's span is a raw OpenTelemetry span, which `tracing` does not know. So a future that
//! is spawned with `.in_current_span()` would lose it, unless there is a `tracing` span to be in.

use std::cell::RefCell;

use opentelemetry::{Context, ContextGuard};
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer};
use tracing_subscriber::registry::LookupSpan;

pub(super) const TARGET: &str = "throughline::record";

/// A layer that keeps the record's span current in tasks that are spawned with `in_current_span`.
///
/// Where it is installed each record is processed in a `tracing` span, which remembers the
/// OpenTelemetry context of the record and attaches it whenever it is entered. No other layer
/// needs to see that span: [`is_users_span`](super::is_users_span) leaves it out.
#[derive(Clone, Copy, Debug)]
pub struct Anchor;

/// The context an anchor span stands for.
struct Anchored(Context);

thread_local! {
    /// The contexts that entered anchors have attached on this thread, innermost last.
    static ENTERED: RefCell<Vec<(Id, ContextGuard)>> = const { RefCell::new(Vec::new()) };
}

/// A span for the current context; none where no [`Anchor`] listens.
pub(crate) fn span() -> Span {
    let listening = tracing::dispatcher::get_default(|d| d.downcast_ref::<Anchor>().is_some());
    if listening {
        tracing::error_span!(target: TARGET, parent: None, "record")
    } else {
        Span::none()
    }
}

impl<S> Layer<S> for Anchor
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: LayerContext<'_, S>) {
        if attributes.metadata().target() == TARGET
            && let Some(span) = cx.span(id)
        {
            span.extensions_mut().insert(Anchored(Context::current()));
        }
    }

    fn on_enter(&self, id: &Id, cx: LayerContext<'_, S>) {
        let context = cx.span(id).and_then(|span| {
            let extensions = span.extensions();
            extensions
                .get::<Anchored>()
                .map(|anchored| anchored.0.clone())
        });
        if let Some(context) = context {
            let guard = context.attach();
            let _ = ENTERED.try_with(|stack| stack.borrow_mut().push((id.clone(), guard)));
        }
    }

    fn on_exit(&self, id: &Id, _cx: LayerContext<'_, S>) {
        let guard = ENTERED.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            let position = stack.iter().rposition(|(entered, _)| entered == id)?;
            Some(stack.remove(position))
        });
        // Dropped outside of the borrow: detaching may run foreign code.
        drop(guard);
    }
}
