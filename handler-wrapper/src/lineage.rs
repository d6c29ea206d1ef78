//! The X-Ray header of the invocation that is running, for what must not be lost from it.
//!
//! Its trace is never a message's parent (semantics of SQS: it is a different trace); only the
//! `Lineage` in it is passed on, in which Lambda counts the hops of recursive loops.

use std::sync::Arc;

use opentelemetry::Context;

/// The invocation's header in an OpenTelemetry context; the wrapper puts it there from
/// `lambda_runtime::Context::xray_trace_id`, which holds under concurrency too.
#[derive(Clone, Debug)]
pub(crate) struct InvocationHeader(pub(crate) Arc<str>);

/// Puts the invocation's header into a context.
pub(crate) fn carry(context: Context, trace_header: Option<&str>) -> Context {
    match trace_header.filter(|header| !header.is_empty()) {
        Some(header) => context.with_value(InvocationHeader(header.into())),
        None => context,
    }
}

/// Where the program is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// Not inside a Lambda function.
    Outside,
    /// Inside one; the header of the invocation, where it can be told.
    Inside { trace_header: Option<Arc<str>> },
}

impl Invocation {
    /// Looks into the context, then into the two variables that Lambda sets (the header's is not
    /// set while invocations run concurrently).
    pub(crate) fn of(context: &Context) -> Self {
        if let Some(InvocationHeader(header)) = context.get::<InvocationHeader>() {
            return Self::Inside {
                trace_header: Some(header.clone()),
            };
        }
        if std::env::var_os("AWS_LAMBDA_FUNCTION_NAME").is_none() {
            return Self::Outside;
        }
        let header = std::env::var("_X_AMZN_TRACE_ID")
            .ok()
            .filter(|header| !header.is_empty());
        Self::Inside {
            trace_header: header.map(Into::into),
        }
    }
}
