//! What a sandbox is made of.

use super::{Running, Sandbox, api, faults::TelemetryFaults, init, state::Shared};
use crate::{http, ids, timeline::Timeline};
use std::{
    fmt, io,
    path::{Path, PathBuf, absolute},
    sync::Arc,
    time::Duration,
};

/// Order in which the runtime and the extensions get an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Both long polls are answered at the same time, as Lambda does.
    #[default]
    Together,
    /// The runtime gets it only after every extension has.
    ExtensionFirst,
    /// Extensions get it only when the function has posted its answer.
    ExtensionAfterResponse,
    /// Extensions get it only when the runtime has asked for its next event.
    ExtensionAfterRuntimeNext,
}

/// What a deadline becomes on its way to the processes: true milliseconds since 1970 in, told ones out.
pub(super) type DeadlineLie = Arc<dyn Fn(u64) -> u64 + Send + Sync>;

/// How much of the log the error of a failed init holds.
const LOG_CHARS_TOLD: usize = 10_000;

/// Describes a sandbox; [`Builder::start`] starts it.
#[derive(Clone)]
#[must_use]
pub struct Builder(Config);

#[derive(Clone)]
pub(super) struct Config {
    pub(super) function_name: String,
    pub(super) bootstrap: PathBuf,
    pub(super) bootstrap_args: Vec<String>,
    pub(super) extensions: Vec<PathBuf>,
    pub(super) both_env: Vec<(String, String)>,
    pub(super) function_env: Vec<(String, String)>,
    pub(super) extension_env: Vec<(String, String)>,
    pub(super) timeout: Duration,
    pub(super) init_timeout: Duration,
    pub(super) memory_mb: u32,
    pub(super) freeze: bool,
    pub(super) faults: TelemetryFaults,
    pub(super) delivery: Delivery,
    pub(super) deadline_lie: Option<DeadlineLie>,
    pub(super) sampled: bool,
    pub(super) concurrency: Option<usize>,
    pub(super) http_port: u16,
    pub(super) grpc_port: u16,
    pub(super) timeline: Option<Timeline>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("function_name", &self.function_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Config {
    pub(super) fn arn(&self) -> String {
        format!(
            "arn:aws:lambda:us-east-1:123456789012:function:{}",
            self.function_name
        )
    }

    pub(super) fn initialization_type(&self) -> &'static str {
        if self.concurrency.is_some() {
            "lambda-managed-instances"
        } else {
            "on-demand"
        }
    }

    /// What a process is told instead of the true deadline.
    pub(super) fn told_deadline(&self, unix_ms: u64) -> u64 {
        self.deadline_lie
            .as_ref()
            .map_or(unix_ms, |lie| lie(unix_ms))
    }
}

impl Builder {
    pub(super) fn new(function_name: String) -> Self {
        Self(Config {
            function_name,
            bootstrap: PathBuf::new(),
            bootstrap_args: Vec::new(),
            extensions: Vec::new(),
            both_env: Vec::new(),
            function_env: Vec::new(),
            extension_env: Vec::new(),
            timeout: Duration::from_secs(3),
            init_timeout: Duration::from_secs(10),
            memory_mb: 128,
            freeze: true,
            faults: TelemetryFaults::default(),
            delivery: Delivery::default(),
            deadline_lie: None,
            sampled: false,
            concurrency: None,
            http_port: 0,
            grpc_port: 0,
            timeline: None,
        })
    }

    /// The function's executable; it has to ask the Runtime API for its events.
    pub fn bootstrap(mut self, path: impl AsRef<Path>) -> Self {
        self.0.bootstrap = path.as_ref().to_owned();
        self
    }

    /// Arguments of the function's executable; none by default.
    pub fn bootstrap_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.bootstrap_args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an extension; it has to register under its file name.
    pub fn extension(mut self, path: impl AsRef<Path>) -> Self {
        self.0.extensions.push(path.as_ref().to_owned());
        self
    }

    /// A variable of the function's configuration, which the extensions see too.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.both_env.push((name.into(), value.into()));
        self
    }

    /// A variable for the function alone (on Lambda a wrapper script would set it).
    pub fn function_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.function_env.push((name.into(), value.into()));
        self
    }

    /// A variable for the extensions alone (on Lambda a wrapper script would set it).
    pub fn extension_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.extension_env.push((name.into(), value.into()));
        self
    }

    /// The function's timeout, 3 s by default as on Lambda.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = timeout;
        self
    }

    /// Limit of init, 10 s by default as on Lambda.
    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.0.init_timeout = timeout;
        self
    }

    /// The function's memory in MB, 128 by default; it is told, not enforced.
    pub fn memory_mb(mut self, memory_mb: u32) -> Self {
        self.0.memory_mb = memory_mb;
        self
    }

    /// Whether processes are stopped between invocations; they are by default.
    pub fn freeze(mut self, freeze: bool) -> Self {
        self.0.freeze = freeze;
        self
    }

    /// Faults of the Telemetry API; none by default.
    pub fn telemetry(mut self, faults: TelemetryFaults) -> Self {
        self.0.faults = faults;
        self
    }

    /// Order in which an invocation is delivered.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.0.delivery = delivery;
        self
    }

    /// Lies about deadlines: what the processes are told, given the true one, both in milliseconds since 1970.
    /// The emulators of AWS and of cargo-lambda say 0, 600000 and a day next year.
    pub fn deadline_ms(mut self, lie: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Self {
        self.0.deadline_lie = Some(Arc::new(lie));
        self
    }

    /// Whether the trace headers Lambda makes up say `Sampled=1` (active tracing); `Sampled=0` by default.
    pub fn sampled(mut self, sampled: bool) -> Self {
        self.0.sampled = sampled;
        self
    }

    /// Lambda Managed Instances: so many invocations at once, SHUTDOWN only, no freeze, no reset.
    pub fn managed_instances(mut self, concurrency: usize) -> Self {
        self.0.concurrency = Some(concurrency.max(1));
        self.0.freeze = false;
        self
    }

    /// Shares a timeline; by default the sandbox has its own.
    pub fn timeline(mut self, timeline: &Timeline) -> Self {
        self.0.timeline = Some(timeline.clone());
        self
    }

    /// Starts the processes and runs init.
    ///
    /// # Errors
    /// When a process cannot be started or init fails; the text holds what the processes wrote.
    pub async fn start(self) -> io::Result<Sandbox> {
        let sandbox = self.start_anyway().await?;
        match sandbox.init_error() {
            None => Ok(sandbox),
            Some(error) => {
                let logs: String = sandbox.log_text().chars().take(LOG_CHARS_TOLD).collect();
                Err(io::Error::other(format!("init failed: {error}\n{logs}")))
            }
        }
    }

    /// [`Builder::start`], but gives the sandbox also when init failed ([`Sandbox::init_error`]);
    /// the next invocation tries init again, as Lambda does.
    ///
    /// # Errors
    /// When the loopback server cannot be started or a process cannot be found.
    pub async fn start_anyway(self) -> io::Result<Sandbox> {
        let mut config = self.0;
        config.bootstrap = existing(&config.bootstrap)?;
        for path in &mut config.extensions {
            *path = existing(path)?;
        }
        config.http_port = ids::free_port()?;
        config.grpc_port = ids::free_port()?;
        let shared = Arc::new(Shared::new(config)?);
        let api_shared = Arc::downgrade(&shared);
        let server = http::serve(move |call| api::answer(api_shared.clone(), call)).await?;
        shared.set_api(server.address);
        let sandbox = Sandbox(Arc::new(Running {
            shared: shared.clone(),
            _server: server,
        }));
        // A failure is kept in the state; `init_error` tells.
        let _ = init::first(&shared).await;
        Ok(sandbox)
    }
}

fn existing(path: &Path) -> io::Result<PathBuf> {
    let path = absolute(path)?;
    match path.is_file() {
        true => Ok(path),
        false => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no executable {}", path.display()),
        )),
    }
}
