//! The SDK's hooks. None of them returns an error, and none of them panics into the caller's call.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aws_sdk_sqs::operation::send_message::{SendMessageInput, SendMessageOutput};
use aws_sdk_sqs::operation::send_message_batch::{SendMessageBatchInput, SendMessageBatchOutput};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef, Input, Output,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use opentelemetry::{Context, KeyValue};

use super::call::{Call, EntryResult, Open};
use super::error_type::error_type;
use super::message::Outgoing;
use super::span::Queue;
use super::{Interceptor, Settings, send};

impl Intercept for Interceptor {
    fn name(&self) -> &'static str {
        "throughline"
    }

    /// Starts the spans and writes the contexts: once a call, before anything is serialised or signed.
    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        guarded(|| {
            if bag.load::<Call>().is_some() {
                return; // attached twice: the first has done it
            }
            if let Some(open) = open(&self.settings, context.input_mut(), &Context::current()) {
                bag.interceptor_state().store_put(Call::new(open));
            }
        });
        Ok(())
    }

    /// Where the call really goes is known only here.
    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        guarded(|| {
            if let Some(call) = bag.load::<Call>() {
                call.set_attributes(server(context.request().uri()));
            }
        });
        Ok(())
    }

    /// Ends the spans, after the last retry, whatever came of it.
    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        guarded(|| {
            let Some(call) = bag.load::<Call>() else {
                return;
            };
            let request_id = context
                .response()
                .and_then(|response| response.headers().get("x-amzn-requestid"));
            call.set_attributes(
                request_id
                    .map(|id| KeyValue::new("aws.request_id", id.to_owned()))
                    .into_iter()
                    .collect(),
            );
            let Some(open) = call.take() else { return };
            match context.output_or_error() {
                Some(Ok(output)) => close(open, output),
                Some(Err(error)) => open.fail(&error_type(error)),
                None => open.fail("_OTHER"),
            }
        });
        Ok(())
    }
}

/// Runs a hook's body. A bug of ours must not become the caller's failed send.
fn guarded(body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        tracing::error!(
            "throughline: a hook of the SQS interceptor panicked; the call goes on without it"
        );
    }
}

/// Starts what the operation calls for.
fn open(settings: &Settings, input: &mut Input, parent: &Context) -> Option<Open> {
    if let Some(input) = input.downcast_mut::<SendMessageInput>() {
        let queue = Queue::new(input.queue_url.as_deref());
        return Some(send::single(
            settings,
            Outgoing::single(input),
            &queue,
            parent,
        ));
    }
    if let Some(input) = input.downcast_mut::<SendMessageBatchInput>() {
        let queue = Queue::new(input.queue_url.as_deref());
        let messages = input
            .entries
            .iter_mut()
            .flatten()
            .map(Outgoing::entry)
            .collect();
        return Some(send::batch(settings, messages, &queue, parent));
    }
    None
}

/// Ends what was started, by SQS's answer.
fn close(open: Open, output: &Output) {
    if let Some(output) = output.downcast_ref::<SendMessageOutput>() {
        let id = output
            .message_id()
            .map(|id| KeyValue::new("messaging.message.id", id.to_owned()));
        open.succeed(id.into_iter().collect());
    } else if let Some(output) = output.downcast_ref::<SendMessageBatchOutput>() {
        open.answered(&results(output));
    } else {
        open.succeed(Vec::new());
    }
}

fn results(output: &SendMessageBatchOutput) -> HashMap<String, EntryResult> {
    let sent = output.successful().iter().map(|entry| {
        (
            entry.id().to_owned(),
            EntryResult::Sent {
                message_id: entry.message_id().to_owned(),
            },
        )
    });
    let failed = output.failed().iter().map(|entry| {
        (
            entry.id().to_owned(),
            EntryResult::Failed {
                code: entry.code().to_owned(),
            },
        )
    });
    sent.chain(failed).collect()
}

/// `server.address` and `server.port`: the host that is asked, not the queue's URL.
fn server(uri: &str) -> Vec<KeyValue> {
    let Ok(uri) = uri.parse::<http::Uri>() else {
        return Vec::new();
    };
    let Some(host) = uri.host() else {
        return Vec::new();
    };
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        });
    vec![
        KeyValue::new("server.address", host.to_owned()),
        KeyValue::new("server.port", i64::from(port)),
    ]
}
