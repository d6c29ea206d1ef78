//! The SDK's hooks. None of them returns an error, and none of them panics into the caller's call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use opentelemetry::{Context, KeyValue};

use super::Interceptor;
use super::call::{Call, End};
use super::error_type::error_type;
use super::operations;

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
            let started = (Instant::now(), SystemTime::now());
            let settings = Arc::clone(&self.settings);
            let parent = Context::current();
            if let Some(open) = operations::open(settings, context.input_mut(), parent, started) {
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
                call.update(|open| open.server = server(context.request().uri()));
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
            let Some(mut open) = call.take() else { return };
            let headers = context.response().map(|response| response.headers());
            open.request_id = headers
                .and_then(|headers| headers.get("x-amzn-requestid"))
                .map(str::to_owned);
            let end = match context.output_or_error() {
                Some(Ok(output)) => operations::end(&open.settings, output),
                Some(Err(error)) => End::Failed(error_type(error).into_owned()),
                None => End::Failed("_OTHER".to_owned()),
            };
            open.end(&end);
        });
        Ok(())
    }
}

/// Runs a hook's body. A bug of ours must not become the caller's failed send.
fn guarded(body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        tracing::error!(
            "throughline: a hook of the interceptor panicked; the call goes on without it"
        );
    }
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
