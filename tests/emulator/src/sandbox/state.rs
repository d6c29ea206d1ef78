//! What the parts of a sandbox share: one state behind one lock, and a signal that it changed.

use super::{
    Completion, Outcome,
    builder::Config,
    process::{ExitReason, LogLine},
    telemetry::Telemetry,
    watchdog::Watchdog,
};
use crate::timeline::{Event, Timeline, Who};
use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Shared by the API server, the processes' readers and the task that drives an invocation.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) timeline: Timeline,
    pub(super) source: Arc<str>,
    pub(super) telemetry: Telemetry,
    pub(super) watchdog: Watchdog,
    /// One invocation at a time (Managed Instances: so many); a shutdown takes all.
    pub(super) turns: Arc<tokio::sync::Semaphore>,
    state: Mutex<State>,
    pub(super) changed: watch::Sender<u64>,
    api: OnceLock<SocketAddr>,
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Number of the init whose processes are alive; what belongs to older ones is ignored.
    pub(super) generation: u64,
    /// Processes have been through init and were not reset.
    pub(super) initialised: bool,
    /// Init is under way: extensions may register and subscribe.
    pub(super) initialising: bool,
    /// Inits, invocations and shutdowns under way.
    pub(super) busy: usize,
    pub(super) frozen: bool,
    /// Shut down, or a Managed Instances environment that lost a process: for good.
    pub(super) ended: bool,
    pub(super) init_error: Option<String>,
    /// For the report of the next invocation.
    pub(super) init_took: Option<Duration>,
    pub(super) runtime: Runtime,
    pub(super) extensions: Vec<Extension>,
    pub(super) logs: Vec<LogLine>,
    /// Pipes of processes that are still being read.
    pub(super) open_pipes: usize,
    pub(super) invocations: usize,
    pub(super) completions: HashMap<String, Completion>,
    pub(super) overheads: HashMap<String, Duration>,
}

/// A process of this generation.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) pid: u32,
    pub(super) exited: Option<ExitReason>,
}

/// The function's process and its conversation.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    pub(super) life: Option<Life>,
    /// Long polls that wait for an event.
    pub(super) waiting: usize,
    pub(super) asked_at: Option<Instant>,
    pub(super) queue: VecDeque<Work>,
    /// Invocations it was given, by request id.
    pub(super) given: HashMap<String, Option<Outcome>>,
    /// What it posted to `/init/error`.
    pub(super) init_error: Option<(String, String)>,
}

/// An invocation for the runtime.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) request_id: String,
    pub(super) deadline_ms: u64,
    pub(super) trace_header: Option<String>,
    pub(super) client_context: Option<String>,
    pub(super) payload: Bytes,
}

/// An extension.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) name: String,
    /// External extensions have a file, and a process once it is started; internal ones live in the runtime's.
    pub(super) external: bool,
    pub(super) life: Option<Life>,
    /// Given by register.
    pub(super) id: Option<String>,
    pub(super) events: Vec<String>,
    pub(super) waiting: bool,
    pub(super) asked_at: Option<Instant>,
    pub(super) queue: VecDeque<serde_json::Value>,
    /// What it posted to `/init/error` or `/exit/error`.
    pub(super) failure: Option<(String, String)>,
}

/// A process that can no longer take part, in Lambda's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error_type: String,
    pub(super) message: String,
}

// === impl State ===

impl State {
    pub(super) fn pid(&self, who: &Who) -> Option<u32> {
        self.life(who)
            .filter(|life| life.exited.is_none())
            .map(|life| life.pid)
    }

    fn life(&self, who: &Who) -> Option<&Life> {
        match who {
            Who::Runtime => self.runtime.life.as_ref(),
            Who::Extension(name) => self
                .extensions
                .iter()
                .find(|e| e.name == *name)?
                .life
                .as_ref(),
        }
    }

    pub(super) fn life_mut(&mut self, who: &Who) -> Option<&mut Life> {
        match who {
            Who::Runtime => self.runtime.life.as_mut(),
            Who::Extension(name) => self
                .extensions
                .iter_mut()
                .find(|e| e.name == *name)?
                .life
                .as_mut(),
        }
    }

    /// Every process that was started in this generation.
    pub(super) fn everybody(&self) -> Vec<(Who, Life)> {
        let runtime = self.runtime.life.clone().map(|life| (Who::Runtime, life));
        let extensions = self.extensions.iter().filter_map(|extension| {
            Some((
                Who::Extension(extension.name.clone()),
                extension.life.clone()?,
            ))
        });
        runtime.into_iter().chain(extensions).collect()
    }

    pub(super) fn by_id(&mut self, id: &str) -> Option<&mut Extension> {
        self.extensions
            .iter_mut()
            .find(|extension| extension.id.as_deref() == Some(id))
    }

    pub(super) fn all_registered(&self) -> bool {
        self.extensions
            .iter()
            .all(|extension| extension.id.is_some())
    }

    /// The runtime waits for an event and none is on its way to it.
    pub(super) fn runtime_ready(&self) -> bool {
        self.runtime.waiting > 0 && self.runtime.queue.is_empty()
    }

    /// Every extension waits for an event and none is on its way.
    pub(super) fn extensions_ready(&self) -> bool {
        self.extensions
            .iter()
            .all(|extension| extension.waiting && extension.queue.is_empty())
    }

    /// The first process that is gone or gave up.
    pub(super) fn failure(&self) -> Option<Failure> {
        for extension in &self.extensions {
            if let Some((error_type, message)) = extension.failure.clone() {
                return Some(Failure {
                    error_type,
                    message,
                });
            }
            if let Some(exited) = extension
                .life
                .as_ref()
                .and_then(|life| life.exited.as_ref())
            {
                return Some(Failure {
                    error_type: "Extension.Crash".into(),
                    message: format!("Error: {exited}"),
                });
            }
        }
        if let Some((error_type, message)) = self.runtime.init_error.clone() {
            return Some(Failure {
                error_type,
                message,
            });
        }
        let exited = self.runtime.life.as_ref()?.exited.as_ref()?;
        let message = match exited {
            ExitReason::Exited(0) => "Error: Runtime exited without providing a reason".to_owned(),
            other => format!("Error: Runtime exited with error: {other}"),
        };
        Some(Failure {
            error_type: "Runtime.ExitError".into(),
            message,
        })
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(mut config: Config) -> io::Result<Self> {
        let timeline = config.timeline.take().unwrap_or_default();
        let source: Arc<str> = Arc::from(config.function_name.as_str());
        Ok(Self {
            telemetry: Telemetry::new(timeline.clone(), source.clone(), config.faults.clone()),
            turns: Arc::new(tokio::sync::Semaphore::new(config.concurrency.unwrap_or(1))),
            timeline,
            source,
            config,
            watchdog: Watchdog::start()?,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            api: OnceLock::new(),
        })
    }

    pub(super) fn set_api(&self, address: SocketAddr) {
        self.api.get_or_init(|| address);
    }

    /// `host:port` of the Lambda APIs.
    pub(super) fn api_address(&self) -> String {
        self.api.get().map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells everybody who waits.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        value
    }

    /// Waits until `met` gives something; it may change the state when it does.
    pub(super) async fn until<T>(&self, mut met: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            let found = met(&mut self.lock());
            if let Some(value) = found {
                self.changed.send_modify(|count| *count += 1);
                return value;
            }
            // The sender lives as long as we do, so this never fails.
            let _ = changed.changed().await;
        }
    }

    /// [`Shared::until`] with a limit.
    pub(super) async fn until_or<T>(
        &self,
        deadline: Instant,
        met: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        tokio::time::timeout_at(deadline, self.until(met))
            .await
            .ok()
    }

    pub(super) fn record(&self, event: Event) {
        self.timeline.record(&self.source, event);
    }

    /// Counts something that is under way, until the guard is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.update(|state| state.busy += 1);
        Busy(self.clone())
    }
}

/// Something is under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.update(|state| state.busy -= 1);
    }
}
