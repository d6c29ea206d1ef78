//! Runs a function and sends its spans when nobody waits for them.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::{Duration, SystemTime};

use futures_util::future::Then;
use futures_util::{FutureExt as _, Stream};
use lambda_runtime::{
    Diagnostic, Error, IntoFunctionResponse, LambdaEvent, LambdaInvocation, Runtime,
};
use opentelemetry::Context;
use opentelemetry::context::WithContext;
use opentelemetry::trace::FutureExt as _;
use serde::{Deserialize, Serialize};
use tower::{Layer, Service};

use crate::logs::LogFields;
use crate::telemetry::Telemetry;

/// Runs a Lambda function: `lambda_runtime::run` with exports after the answer.
///
/// Lambda freezes the sandbox as soon as the function asks for its next event. So spans have to be
/// sent before that, but the caller should not wait for it: `run` sends them after the response was
/// posted, and then tells the Throughline extension, if there is one, that no more will come.
///
/// It takes any handler that `lambda_runtime::run` takes, a producer behind HTTP for example. Unlike
/// that it adds no `tracing` span around the invocation, which would be a trace of its own.
///
/// # Errors
///
/// When the Runtime API cannot be reached.
///
/// # Panics
///
/// When the variables that Lambda sets are missing; run it under `cargo lambda watch` or an emulator.
///
/// ```no_run
/// use throughline::{SqsMessage, traced_sqs_handler};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> Result<(), throughline::Error> {
///     throughline::run(traced_sqs_handler(process)).await
/// }
///
/// async fn process(message: SqsMessage) -> Result<(), std::io::Error> {
///     println!("{:?}", message.body);
///     Ok(())
/// }
/// ```
pub async fn run<A, F, R, B, S, D, E>(handler: F) -> Result<(), Error>
where
    F: Service<LambdaEvent<A>, Response = R>,
    F::Future: Future<Output = Result<R, F::Error>>,
    F::Error: Into<Diagnostic> + Debug,
    A: for<'de> Deserialize<'de>,
    R: IntoFunctionResponse<B, S>,
    B: Serialize,
    S: Stream<Item = Result<D, E>> + Unpin + Send + 'static,
    D: Into<bytes::Bytes> + Send,
    E: Into<Error> + Send + Debug,
{
    run_with(Telemetry::global().await, handler).await
}

/// [`run`] with telemetry of your own.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// As [`run`].
pub async fn run_with<A, F, R, B, S, D, E>(telemetry: Telemetry, handler: F) -> Result<(), Error>
where
    F: Service<LambdaEvent<A>, Response = R>,
    F::Future: Future<Output = Result<R, F::Error>>,
    F::Error: Into<Diagnostic> + Debug,
    A: for<'de> Deserialize<'de>,
    R: IntoFunctionResponse<B, S>,
    B: Serialize,
    S: Stream<Item = Result<D, E>> + Unpin + Send + 'static,
    D: Into<bytes::Bytes> + Send,
    E: Into<Error> + Send + Debug,
{
    telemetry.install();
    telemetry.find_extension().await;
    let layer = ExportLayer {
        telemetry: telemetry.clone(),
    };
    until_terminated(&telemetry, Runtime::new(handler).layer(layer).run()).await
}

/// [`run`] for Lambda Managed Instances: as many invocations at the same time as
/// `AWS_LAMBDA_MAX_CONCURRENCY` says, one without it.
///
/// Each invocation's spans are sent before its own worker asks for the next event; contexts never
/// mix. Use a `multi_thread` tokio runtime.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// As [`run`].
///
/// ```no_run
/// use throughline::{SqsMessage, traced_sqs_handler};
///
/// # async fn process(_: SqsMessage) -> Result<(), std::io::Error> { Ok(()) }
/// #[tokio::main]
/// async fn main() -> Result<(), throughline::Error> {
///     throughline::run_concurrent(traced_sqs_handler(process)).await
/// }
/// ```
pub async fn run_concurrent<A, F, R, B, S, D, E>(handler: F) -> Result<(), Error>
where
    F: Service<LambdaEvent<A>, Response = R> + Clone + Send + 'static,
    F::Future: Future<Output = Result<R, F::Error>> + Send + 'static,
    F::Error: Into<Diagnostic> + Debug,
    A: for<'de> Deserialize<'de> + Send + 'static,
    R: IntoFunctionResponse<B, S> + Send + 'static,
    B: Serialize + Send + 'static,
    S: Stream<Item = Result<D, E>> + Unpin + Send + 'static,
    D: Into<bytes::Bytes> + Send + 'static,
    E: Into<Error> + Send + Debug + 'static,
{
    let telemetry = Telemetry::global().await;
    telemetry.find_extension().await;
    let layer = ExportLayer {
        telemetry: telemetry.clone(),
    };
    until_terminated(
        &telemetry,
        Runtime::new(handler).layer(layer).run_concurrent(),
    )
    .await
}

/// Runs until the sandbox is taken down. Lambda sends SIGTERM then, if an extension is there, and
/// SIGKILL a fraction of a second later.
async fn until_terminated(
    telemetry: &Telemetry,
    running: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let result = tokio::select! {
        biased;
        result = running => result,
        // What was running is dropped by this, and its spans end as cancelled.
        () = terminated() => Ok(()),
    };
    telemetry.flush_within(FLUSH_AT_EXIT).await;
    result
}

/// Lambda gives the runtime 300 ms or more.
const FLUSH_AT_EXIT: Duration = Duration::from_millis(250);

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

/// Marks the context of an invocation whose spans [`run`] will send.
#[derive(Clone, Debug)]
pub(crate) struct Driven(pub(crate) Telemetry);

/// A layer for `lambda_runtime::Runtime` that exports after each invocation's response was posted.
#[derive(Clone, Debug)]
struct ExportLayer {
    telemetry: Telemetry,
}

impl<S> Layer<S> for ExportLayer {
    type Service = ExportService<S>;

    fn layer(&self, inner: S) -> ExportService<S> {
        ExportService {
            inner,
            telemetry: self.telemetry.clone(),
        }
    }
}

#[derive(Clone, Debug)]
struct ExportService<S> {
    inner: S,
    telemetry: Telemetry,
}

type Outcome = Result<(), Error>;
type Exporting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl<S> Service<LambdaInvocation> for ExportService<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
{
    type Response = ();
    type Error = Error;
    type Future =
        Then<WithContext<S::Future>, Exporting, Box<dyn FnOnce(Outcome) -> Exporting + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Outcome> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let started = SystemTime::now();
        let deadline = invocation.context.deadline();
        let request_id = invocation.context.request_id.clone();
        let telemetry = self.telemetry.clone();
        telemetry.begin_invocation();
        // For the log lines of handlers that are not about SQS; an SQS handler adds the message's id.
        let fields = LogFields {
            request_id: request_id.as_str().into(),
            message_id: None,
        };
        let context = Context::current()
            .with_value(Driven(telemetry.clone()))
            .with_value(fields);
        #[cfg(feature = "producer")]
        let context = crate::lineage::carry(context, invocation.context.xray_trace_id.as_deref());
        // The inner service posts the response; it is done when Lambda has it.
        let answering = {
            let _guard = context.clone().attach();
            self.inner.call(invocation)
        };
        let export = move |outcome: Outcome| -> Exporting {
            Box::pin(async move {
                let limit = telemetry.flush_limit(started, sensible(deadline, started));
                telemetry.end_invocation(&request_id, limit).await;
                outcome
            })
        };
        answering.with_context(context).then(Box::new(export))
    }
}

/// The deadline, unless it cannot be one: emulators send 0, the year 1970, and next year.
pub(crate) fn sensible(deadline: SystemTime, started: SystemTime) -> Option<SystemTime> {
    let limit = deadline.duration_since(started).ok()?;
    (!limit.is_zero() && limit.as_secs() <= 2 * 60 * 60).then_some(deadline)
}
