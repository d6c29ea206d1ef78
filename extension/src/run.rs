//! One loop around everything: what happens becomes an event, and the lifecycle says what to do about it.
//!
//! This is the only place that waits for more than one thing.

mod report;
mod start;
mod survive;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::report::Report;
use crate::buffer::Buffer;
use crate::config::{Config, Mistake};
use crate::flush::{Exporter, REQUEST_BYTES_MAX, unix_now};
use crate::lambda::RuntimeApi;
use crate::lambda::extensions_api::{self, Events, Registered};
use crate::lifecycle::{Action, Event, Facts, Lifecycle, Settings, SignalSet};
use crate::log::{self, Level};
use crate::otlp::Signal;
use crate::receiver::Intake;
use crate::upstream::Upstream;

/// Events of the wrapper and the Telemetry API that wait for the loop.
const EVENTS_MAX: usize = 256;

/// The exit code when Lambda does not take us at all.
const EXIT_UNREGISTERED: u8 = 1;
/// The exit code outside a sandbox, `EX_USAGE`.
const EXIT_USAGE: u8 = 64;

/// Runs until SHUTDOWN has been obeyed.
pub async fn run(config: Config, mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        log::line(
            Level::Error,
            "configuration",
            &[("mistake", mistake.to_string().into())],
        );
    }
    let Some(runtime_api) = config.runtime_api.as_deref().map(RuntimeApi::parse) else {
        let fields = [("variable", "AWS_LAMBDA_RUNTIME_API".into())];
        log::line(
            Level::Error,
            "this is a Lambda extension and there is no Lambda around it; see --help",
            &fields,
        );
        return ExitCode::from(EXIT_USAGE);
    };
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let buffer = Arc::new(Mutex::new(Buffer::new(
        config.buffer_bytes,
        REQUEST_BYTES_MAX,
    )));
    let intake = Intake::new(Arc::clone(&buffer), events_in.clone());

    // The order matters: the function starts once everyone has registered, and must find the receiver listening.
    start::listen(&config, &intake).await;
    let registered =
        match extensions_api::register(&config.extension_name, config.managed_instances).await {
            Ok(registered) => registered,
            Err(error) => {
                let fields = [("error", error.to_string().into())];
                log::line(
                    Level::Error,
                    "Lambda does not take the registration",
                    &fields,
                );
                return ExitCode::from(EXIT_UNREGISTERED);
            }
        };
    if let Some(account_id) = &registered.account_id {
        extensions_api::link_account_id(account_id);
    }
    // A subscription is possible between registering and the first request for an event only.
    let subscribed = start::subscribe(&config, &runtime_api, &registered, events_in).await;
    let spare = Events::new(runtime_api.clone(), registered.extension_id.clone());
    let mut session = Session::new(&config, buffer, intake, &registered, runtime_api);
    session.on(Event::Subscribed {
        accepted: subscribed,
    });
    session.act(Action::Next);
    survive::outlive(async move { session.drive(events).await }, spare).await;
    ExitCode::SUCCESS
}

/// What one sandbox's life consists of.
struct Session {
    begun: Instant,
    lifecycle: Lifecycle,
    exporter: Exporter<Upstream>,
    buffer: Arc<Mutex<Buffer>>,
    intake: Intake,
    api: RuntimeApi,
    extension_id: String,
    /// The call for the next event, with the connection it is made on.
    next: JoinSet<(Events, Event)>,
    idle_connection: Option<Events>,
    /// Signals that go somewhere.
    destinations: SignalSet,
    report: Report,
    exited: bool,
}

// === impl Session ===

impl Session {
    fn new(
        config: &Config,
        buffer: Arc<Mutex<Buffer>>,
        intake: Intake,
        registered: &Registered,
        api: RuntimeApi,
    ) -> Self {
        let settings = Settings {
            flush_timeout: config.flush_timeout,
            strategy: config.strategy,
            managed_instances: !registered.invoke_events,
        };
        Self {
            begun: Instant::now(),
            lifecycle: Lifecycle::new(settings),
            exporter: Exporter::new(Arc::clone(&buffer), Upstream::new(config.upstream.clone())),
            buffer,
            intake,
            api,
            extension_id: registered.extension_id.clone(),
            next: JoinSet::new(),
            idle_connection: None,
            destinations: Signal::ALL
                .map(|signal| config.upstream.destinations[signal.index()].is_some()),
            report: Report::default(),
            exited: false,
        }
    }

    async fn drive(&mut self, mut events: mpsc::Receiver<Event>) {
        while !self.exited {
            let event = {
                let wake_at = self.lifecycle.wake_at().map(|at| self.begun + at);
                let tick = async {
                    match wake_at {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                // In this order: a bound is kept even under a flood, and what can flood comes last.
                tokio::select! {
                    biased;
                    () = tick => Event::Tick,
                    Some(asked) = self.next.join_next() => match asked {
                        Ok((connection, event)) => {
                            self.idle_connection = Some(connection);
                            event
                        }
                        // The task panicked: whatever the event was, ask again.
                        Err(_) => Event::Unknown,
                    },
                    event = self.exporter.step() => event,
                    Some(event) = events.recv() => event,
                    () = self.intake.arrived() => Event::Arrival,
                }
            };
            self.on(event);
        }
    }

    fn on(&mut self, event: Event) {
        let facts = self.facts();
        let before = self.lifecycle.state().clone();
        let actions = self.lifecycle.on(&event, &facts);
        if log::enabled(Level::Trace) && (event != Event::Arrival || !actions.is_empty()) {
            let fields = [
                ("event", format!("{event:?}").into()),
                ("actions", format!("{actions:?}").into()),
                ("state", format!("{:?}", self.lifecycle.state()).into()),
            ];
            log::line(Level::Trace, "lifecycle", &fields);
        }
        for action in actions {
            self.act(action);
        }
        let buffer = lock(&self.buffer);
        self.report
            .on_event(&before, &event, self.lifecycle.state(), &buffer);
        self.report
            .on_breakers(&self.lifecycle, |signal| self.exporter.failure(signal));
        if !self.exited {
            self.report.on_drops(&buffer);
        }
    }

    fn facts(&self) -> Facts {
        let buffer = lock(&self.buffer);
        let mut facts = Facts {
            elapsed: self.begun.elapsed(),
            unix: unix_now(),
            oldest: buffer.oldest(),
            ..Facts::default()
        };
        for signal in Signal::ALL {
            // What goes nowhere is never worth waiting for.
            if self.destinations[signal.index()] {
                facts.waiting_bytes[signal.index()] = buffer.waiting_bytes(signal);
            }
        }
        drop(buffer);
        self.exporter.fill_facts(&mut facts);
        facts
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Next => {
                let (api, id) = (&self.api, &self.extension_id);
                let mut connection = self
                    .idle_connection
                    .take()
                    .unwrap_or_else(|| Events::new(api.clone(), id.clone()));
                self.next.spawn(async move {
                    let event = connection.next().await;
                    (connection, event)
                });
            }
            Action::Warm => {
                let (used, breakers) = (self.in_use(), self.lifecycle.breakers());
                let closed = |signal| !breakers.of(signal).is_open();
                self.exporter
                    .warm(Signal::ALL.map(|signal| used[signal.index()] && closed(signal)));
            }
            Action::Recall => self.exporter.recall(),
            Action::Cancel => self.exporter.cancel(),
            Action::Export(purpose, signals) => {
                let signals =
                    Signal::ALL.map(|s| signals[s.index()] && self.destinations[s.index()]);
                self.exporter.export(purpose, signals);
            }
            Action::Probe(signals) => self.exporter.probe(signals),
            Action::Exit => self.exit(),
        }
    }

    /// Signals that have come so far and go somewhere; spans are expected from the beginning.
    fn in_use(&self) -> SignalSet {
        let buffer = lock(&self.buffer);
        let received =
            |signal| signal == Signal::Traces || buffer.ledger().account(signal).received > 0;
        Signal::ALL.map(|signal| self.destinations[signal.index()] && received(signal))
    }

    fn exit(&mut self) {
        self.exporter.recall();
        let mut buffer = lock(&self.buffer);
        buffer.drop_all();
        report::say_ledger(&buffer);
        self.exited = true;
    }
}

fn lock(buffer: &Mutex<Buffer>) -> MutexGuard<'_, Buffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}
