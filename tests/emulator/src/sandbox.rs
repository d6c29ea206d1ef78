//! The sandbox: real processes between Lambda's three APIs, stopped by the operating system between invocations.
//!
//! Sources are AWS's pages: "Lambda runtime API", "Extensions API", "Telemetry API",
//! "Understanding the Lambda execution environment lifecycle", "Lambda Managed Instances".

mod api;
mod builder;
mod extensions_api;
mod faults;
mod init;
mod invoke;
mod managed;
mod process;
mod runtime_api;
mod shutdown;
mod state;
mod telemetry;
mod telemetry_api;
mod watchdog;

pub use builder::{Builder, Delivery};
pub use faults::{TelemetryFault, TelemetryFaults};
pub use process::{ExitReason, LogLine, LogStream};
pub use shutdown::Shutdown;

use crate::{
    clock::Moment,
    http::Server,
    timeline::{Timeline, Who},
};
use bytes::Bytes;
use state::Shared;
use std::{io, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// How an invocation went, as its caller sees it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Request id.
    pub request_id: String,
    /// Number in this sandbox, from 0.
    pub number: usize,
    /// The trace header the function was given, if any.
    pub trace_header: Option<String>,
    /// What the caller got.
    pub outcome: Outcome,
    /// When Lambda took the call.
    pub began: Moment,
    /// When the caller had its answer.
    pub answered: Moment,
}

/// What the caller of a function gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function's response.
    Answered(Bytes),
    /// The function posted an error: `{"errorType":…,"errorMessage":…}`.
    FunctionError(serde_json::Value),
    /// The function or an extension was not done at the function's timeout, and nothing had been posted.
    TimedOut,
    /// A process ended, or reported that it cannot go on.
    Crashed {
        /// Such as `Runtime.ExitError` or `Extension.Crash`.
        error_type: String,
        /// Text.
        message: String,
    },
}

impl Outcome {
    /// The response, `None` for everything else.
    pub fn response(&self) -> Option<&Bytes> {
        match self {
            Outcome::Answered(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// How an invocation ended for the sandbox, which may be later than for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The runtime and every extension asked for their next event; with freezing on, all are stopped.
    Done,
    /// Somebody had not asked at the function's timeout; the sandbox was reset.
    TimedOut,
    /// A process ended or gave up; the sandbox was reset.
    Crashed {
        /// Such as `Runtime.ExitError` or `Extension.Crash`.
        error_type: String,
        /// Text.
        message: String,
    },
}

/// A call of the function with everything that can be said about it.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The event.
    pub payload: Bytes,
    /// The trace header: `None` makes one up as Lambda does, `Some("")` sends none.
    pub trace_header: Option<String>,
    /// `Lambda-Runtime-Client-Context`.
    pub client_context: Option<String>,
    /// Request id; `None` makes one up. An asynchronous retry uses the same one again.
    pub request_id: Option<String>,
}

/// A sandbox with its processes. Cloning shares it; when the last clone is dropped every process is killed.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    _server: Server,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.kill_everything();
    }
}

impl Sandbox {
    /// A sandbox of a function of that name, nothing started yet.
    pub fn builder(function_name: impl Into<String>) -> Builder {
        Builder::new(function_name.into())
    }

    /// Invokes the function; gives what the caller of Lambda would get, at the moment it would get it.
    /// What the sandbox does after that (extensions, freeze) goes on by itself: see [`Sandbox::wait_frozen`].
    /// A call made while another is under way waits for its end, as there is one environment only
    /// (Managed Instances: as many at once as was said).
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Invocation {
        self.call(Call {
            payload: payload.into(),
            ..Call::default()
        })
        .await
    }

    /// [`Sandbox::invoke`] with everything that can be said about a call.
    pub async fn call(&self, call: Call) -> Invocation {
        let (answer, answered) = oneshot::channel();
        tokio::spawn(invoke::drive(self.0.shared.clone(), call, answer));
        answered
            .await
            .expect("an invocation always gives an outcome")
    }

    /// Waits until that invocation is over for the sandbox: everybody asked for the next event and,
    /// with freezing on, every process was seen stopped; or the sandbox was reset.
    pub async fn wait_frozen(&self, request_id: &str) -> Completion {
        self.0
            .shared
            .until(|state| state.completions.get(request_id).cloned())
            .await
    }

    /// Waits until no invocation, init or shutdown is under way.
    pub async fn wait_idle(&self) {
        self.0
            .shared
            .until(|state| (state.busy == 0).then_some(()))
            .await;
    }

    /// Ends the sandbox in Lambda's order and tells how each process ended.
    pub async fn shutdown(&self, reason: &str) -> Shutdown {
        shutdown::run(&self.0.shared, reason).await
    }

    /// Why init failed, `None` when it did not.
    pub fn init_error(&self) -> Option<String> {
        self.0.shared.lock().init_error.clone()
    }

    /// The function's name.
    pub fn function_name(&self) -> &str {
        &self.0.shared.config.function_name
    }

    /// The function's ARN.
    pub fn function_arn(&self) -> String {
        self.0.shared.config.arn()
    }

    /// `THROUGHLINE_HTTP_PORT` of its processes.
    pub fn http_port(&self) -> u16 {
        self.0.shared.config.http_port
    }

    /// `THROUGHLINE_GRPC_PORT` of its processes.
    pub fn grpc_port(&self) -> u16 {
        self.0.shared.config.grpc_port
    }

    /// `AWS_LAMBDA_RUNTIME_API` of its processes.
    pub fn runtime_api(&self) -> String {
        self.0.shared.api_address()
    }

    /// The timeline it writes to.
    pub fn timeline(&self) -> &Timeline {
        &self.0.shared.timeline
    }

    /// Whether every process is stopped.
    pub fn is_frozen(&self) -> bool {
        self.0.shared.lock().frozen
    }

    /// What the processes have written so far, in the order it was read.
    pub fn logs(&self) -> Vec<LogLine> {
        self.0.shared.lock().logs.clone()
    }

    /// [`Sandbox::logs`] as text, for a failing test.
    pub fn log_text(&self) -> String {
        self.logs()
            .iter()
            .map(|line| format!("[{}] {}\n", line.who, line.text))
            .collect()
    }

    /// Waits for a line, those already written included; `None` when it does not come `within`.
    pub async fn wait_for_log(
        &self,
        wanted: impl Fn(&LogLine) -> bool,
        within: Duration,
    ) -> Option<LogLine> {
        let search = self
            .0
            .shared
            .until(|state| state.logs.iter().find(|line| wanted(line)).cloned());
        tokio::time::timeout(within, search).await.ok()
    }

    /// Process id of a process that is running, which is its process group too.
    pub fn pid(&self, who: &Who) -> Option<u32> {
        self.0.shared.lock().pid(who)
    }

    /// Kills a process (SIGKILL, also while frozen), as the out-of-memory killer would, and waits for its end.
    ///
    /// # Errors
    /// When there is no such process.
    pub async fn kill(&self, who: &Who) -> io::Result<()> {
        let shared = &self.0.shared;
        let pid = self
            .pid(who)
            .ok_or_else(|| io::Error::other(format!("{who} is not running")))?;
        process::signal(shared, who, pid, process::Signal::Kill);
        shared
            .until(|state| (state.pid(who) != Some(pid)).then_some(()))
            .await;
        Ok(())
    }

    /// Extra time that extensions took of an invocation: from the runtime's `/next` to the last extension's,
    /// Lambda's `PostRuntimeExtensionsDuration`. `None` while it is not over or when it was cut off.
    pub fn post_runtime_extensions(&self, request_id: &str) -> Option<Duration> {
        self.0.shared.lock().overheads.get(request_id).copied()
    }
}
