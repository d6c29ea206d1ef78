//! The end of an environment: the runtime first, then the extensions, then whoever is left.
//! Sources: AWS, "Understanding the Lambda execution environment lifecycle", section "Shutdown phase",
//! and the order its own emulator keeps.

use super::{
    process::{ExitReason, Signal, signal},
    state::Shared,
};
use crate::{
    clock::unix_ms,
    timeline::{Event, Who},
};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Time for an environment with an external extension.
const BUDGET: Duration = Duration::from_secs(2);
/// What the runtime may take of it after SIGTERM, when there is an extension: 30 %.
const RUNTIME_SHARE: Duration = Duration::from_millis(600);
/// Longest wait of Managed Instances for telemetry to have been delivered before extensions are told.
const TELEMETRY_WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest wait for the readers of pipes that nobody writes to any more.
const PIPES_WAIT_MAX: Duration = Duration::from_secs(1);

/// How a shutdown went.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Reason the extensions were told.
    pub reason: String,
    /// From its beginning until no process was left.
    pub took: Duration,
    /// How each process ended.
    pub processes: Vec<(Who, ExitReason)>,
}

impl Shutdown {
    /// How a process ended, `None` for one that was not running.
    pub fn of(&self, who: &Who) -> Option<ExitReason> {
        self.processes
            .iter()
            .find(|(name, _)| name == who)
            .map(|(_, reason)| *reason)
    }
}

/// A planned end: SIGTERM to the runtime, SHUTDOWN to the extensions. It waits for what is under way.
pub(super) async fn run(shared: &Arc<Shared>, reason: &str) -> Shutdown {
    let _busy = shared.busy();
    let all = u32::try_from(shared.config.concurrency.unwrap_or(1)).unwrap_or(1);
    let turns = shared.turns.clone();
    let _turns = turns
        .acquire_many_owned(all)
        .await
        .expect("the semaphore is never closed");
    shared.update(|state| state.ended = true);
    end(shared, reason, true).await
}

/// An unplanned end: the runtime is killed at once, extensions hear of it.
pub(super) async fn reset(shared: &Arc<Shared>, reason: &str) -> Shutdown {
    end(shared, reason, false).await
}

async fn end(shared: &Arc<Shared>, reason: &str, gently: bool) -> Shutdown {
    let began = Instant::now();
    let deadline = began + BUDGET;
    shared.record(Event::ShutdownBegan {
        reason: reason.to_owned(),
    });
    shared.thaw();
    shared.telemetry.flush();
    let managed = shared.config.concurrency.is_some();
    let extensions = !shared.lock().extensions.is_empty();
    if gently && extensions {
        // Without extensions there is no time for a runtime: it is killed.
        tell(shared, &Who::Runtime, Signal::Term);
        gone(shared, began + RUNTIME_SHARE, |who| *who == Who::Runtime).await;
    }
    tell(shared, &Who::Runtime, Signal::Kill);
    if managed {
        shared.telemetry.flush_whole(TELEMETRY_WAIT_MAX).await;
    }
    offer_shutdown(
        shared,
        reason,
        unix_ms(SystemTime::now() + deadline.duration_since(Instant::now())),
    );
    gone(shared, deadline, |_| true).await;
    let everybody = shared.lock().everybody();
    for (who, _) in &everybody {
        tell(shared, who, Signal::Kill);
    }
    shared
        .until(|state| {
            state
                .everybody()
                .iter()
                .all(|(_, life)| life.exited.is_some())
                .then_some(())
        })
        .await;
    shared
        .until_or(Instant::now() + PIPES_WAIT_MAX, |state| {
            (state.open_pipes == 0).then_some(())
        })
        .await;
    let everybody = shared.update(|state| {
        state.initialised = false;
        state.everybody()
    });
    shared.record(Event::ShutdownEnded);
    let processes = everybody
        .into_iter()
        .filter_map(|(who, life)| Some((who, life.exited?)))
        .collect();
    Shutdown {
        reason: reason.to_owned(),
        took: began.elapsed(),
        processes,
    }
}

/// Queues the SHUTDOWN event for those who asked for it; the others are killed at once.
fn offer_shutdown(shared: &Arc<Shared>, reason: &str, deadline_ms: u64) {
    let event = json!({
        "eventType": "SHUTDOWN",
        "shutdownReason": reason,
        "deadlineMs": shared.config.told_deadline(deadline_ms),
    });
    let others: Vec<Who> = shared.update(|state| {
        let mut others = Vec::new();
        for extension in &mut state.extensions {
            // An INVOKE nobody fetched is void now.
            extension.queue.clear();
            if extension.events.iter().any(|wanted| wanted == "SHUTDOWN") {
                extension.queue.push_back(event.clone());
            } else {
                others.push(Who::Extension(extension.name.clone()));
            }
        }
        others
    });
    for who in &others {
        tell(shared, who, Signal::Kill);
    }
}

/// Sends a signal to a process that is running.
fn tell(shared: &Shared, who: &Who, what: Signal) {
    let pid = shared.lock().pid(who);
    if let Some(pid) = pid {
        signal(shared, who, pid, what);
    }
}

/// Waits until those processes are gone, or for the limit.
async fn gone(shared: &Shared, deadline: Instant, wanted: impl Fn(&Who) -> bool) {
    let gone = shared.until_or(deadline, |state| {
        let left = state
            .everybody()
            .iter()
            .any(|(who, life)| wanted(who) && life.exited.is_none());
        (!left).then_some(())
    });
    // At the limit they are killed.
    let _ = gone.await;
}
