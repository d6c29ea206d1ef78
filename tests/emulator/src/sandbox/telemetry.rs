//! The Telemetry API's events: made, buffered for each subscriber and delivered while the sandbox is not frozen.

mod delivery;

use self::delivery::Delivery;
use super::faults::{TelemetryFault, TelemetryFaults};
use crate::{
    client::Client,
    clock::iso8601,
    ids,
    timeline::{Event, Timeline, Who},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A subscription as it was accepted.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) extension: String,
    pub(super) schema: String,
    pub(super) types: Vec<String>,
    pub(super) items_max: usize,
    pub(super) bytes_max: usize,
    pub(super) timeout: Duration,
    pub(super) port: u16,
    pub(super) path: String,
}

/// The side that makes events.
#[derive(Debug)]
pub(super) struct Telemetry {
    timeline: Timeline,
    source: Arc<str>,
    faults: TelemetryFaults,
    frozen: watch::Sender<bool>,
    /// Events in buffers or on their way.
    pending: Arc<watch::Sender<usize>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    subscribers: Vec<Subscriber>,
    initialising: bool,
    /// Events of this init, for who subscribes in the course of it.
    past: Vec<Made>,
}

#[derive(Debug)]
struct Subscriber {
    subscription: Subscription,
    queue: mpsc::UnboundedSender<Item>,
    flush: Arc<watch::Sender<u64>>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event before it is written for a subscriber.
#[derive(Clone, Debug)]
struct Made {
    time: SystemTime,
    kind: String,
    record: Value,
    invocation: Option<usize>,
}

/// An event in a subscriber's buffer.
#[derive(Debug)]
struct Item {
    kind: String,
    request_id: Option<String>,
    invocation: Option<usize>,
    text: String,
    queued: Instant,
}

impl Telemetry {
    pub(super) fn new(timeline: Timeline, source: Arc<str>, faults: TelemetryFaults) -> Self {
        Self {
            timeline,
            source,
            faults,
            frozen: watch::Sender::new(false),
            pending: Arc::new(watch::Sender::new(0)),
            inner: Mutex::default(),
        }
    }

    pub(super) fn faults(&self) -> &TelemetryFaults {
        &self.faults
    }

    /// Holds deliveries back while the processes are stopped.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Forgets subscribers and the past: a new init begins.
    pub(super) fn restart(&self) {
        *self.lock() = Inner {
            initialising: true,
            ..Inner::default()
        };
        self.pending.send_replace(0);
        self.frozen.send_replace(false);
    }

    /// The time of init is over: the past is not kept any longer.
    pub(super) fn end_of_init(&self) {
        let mut inner = self.lock();
        inner.initialising = false;
        inner.past = Vec::new();
    }

    /// Delivers what is buffered without waiting for the buffer's time: the environment is about to end.
    pub(super) fn flush(&self) {
        for subscriber in &self.lock().subscribers {
            subscriber.flush.send_modify(|count| *count += 1);
        }
    }

    /// [`Telemetry::flush`], then waits until everything was delivered or given up, or for the limit.
    pub(super) async fn flush_whole(&self, within: Duration) {
        self.flush();
        let mut pending = self.pending.subscribe();
        let _ = tokio::time::timeout(within, pending.wait_for(|count| *count == 0)).await;
    }

    /// Adds a subscriber and gives it what has happened in this init.
    pub(super) fn subscribe(&self, subscription: Subscription) {
        let (queue, items) = mpsc::unbounded_channel();
        let flush = Arc::new(watch::Sender::new(0));
        let delivery = Delivery {
            subscription: subscription.clone(),
            timeline: self.timeline.clone(),
            source: self.source.clone(),
            faults: self.faults.clone(),
            frozen: self.frozen.subscribe(),
            flush: flush.subscribe(),
            pending: self.pending.clone(),
            client: Client::new("127.0.0.1", subscription.port),
        };
        let name = subscription.extension.clone();
        let types = subscription.types.clone();
        let task = tokio::spawn(delivery.run(items));
        let subscriber = Subscriber {
            subscription,
            queue,
            flush,
            task,
        };
        let mut inner = self.lock();
        for made in inner.past.clone() {
            self.queue(&subscriber, &made);
        }
        inner
            .subscribers
            .retain(|old| old.subscription.extension != name);
        inner.subscribers.push(subscriber);
        drop(inner);
        let record = json!({"name": name, "state": "Subscribed", "types": types});
        self.emit("platform.telemetrySubscription", record, None);
    }

    /// A line a process has written.
    pub(super) fn log_line(&self, who: &Who, text: &str) {
        let kind = match who {
            Who::Runtime => "function",
            Who::Extension(_) => "extension",
        };
        self.emit(kind, json!(text), None);
    }

    /// Something happened.
    pub(super) fn emit(&self, kind: &str, record: Value, invocation: Option<usize>) {
        let mut inner = self.lock();
        for made in self.with_company(kind, record, invocation) {
            for subscriber in &inner.subscribers {
                self.queue(subscriber, &made);
            }
            if inner.initialising {
                inner.past.push(made);
            }
        }
    }

    /// The event together with what faults put beside it.
    fn with_company(&self, kind: &str, record: Value, invocation: Option<usize>) -> Vec<Made> {
        let now = SystemTime::now();
        let make = |kind: &str, record, time| Made {
            time,
            kind: kind.to_owned(),
            record,
            invocation,
        };
        let has = |fault| self.faults.has(invocation, &fault);
        let mut all = Vec::new();
        if kind == "platform.start" {
            if has(TelemetryFault::Unknown) {
                all.push(make(
                    "platform.tomorrow",
                    json!({"requestId": 7, "deep": [[{"x": null}], -0.5e3]}),
                    now,
                ));
                all.push(make("platform.runtimeDone", json!("not an object"), now));
                all.push(make(
                    "platform.runtimeDone",
                    json!({"requestId": null, "status": ["new"]}),
                    now,
                ));
                all.push(make("", Value::Null, now));
            }
            if has(TelemetryFault::Restore) {
                all.push(make(
                    "platform.restoreStart",
                    json!({"functionName": &*self.source}),
                    now,
                ));
                all.push(make(
                    "platform.restoreRuntimeDone",
                    json!({"status": "success"}),
                    now,
                ));
                let report = json!({"status": "success", "metrics": {"durationMs": 17.25}});
                all.push(make("platform.restoreReport", report, now));
            }
        }
        if kind == "platform.runtimeDone" && has(TelemetryFault::OlderFirst) {
            let old = json!({"requestId": ids::uuid(), "status": "timeout", "metrics": {"durationMs": 1.0}});
            all.push(make(kind, old, now - Duration::from_secs(60)));
        }
        let record = if has(TelemetryFault::Fractional) {
            fractional(record)
        } else {
            record
        };
        all.push(make(kind, record, now));
        if kind == "platform.runtimeDone" && has(TelemetryFault::Duplicate) {
            all.extend(all.last().cloned());
        }
        all
    }

    /// Puts an event into a buffer, if the subscriber asked for it and no fault forbids.
    fn queue(&self, subscriber: &Subscriber, made: &Made) {
        let class = made.kind.split('.').next().unwrap_or_default();
        let class = if class.is_empty() { "platform" } else { class };
        if self.faults.silent
            || !subscriber
                .subscription
                .types
                .iter()
                .any(|kind| kind == class)
        {
            return;
        }
        let request_id = made.record["requestId"].as_str().map(str::to_owned);
        let mut delay = Duration::ZERO;
        for fault in self.faults.of(made.invocation) {
            match fault {
                TelemetryFault::Lose(kind) if *kind == made.kind => {
                    let extension = subscriber.subscription.extension.clone();
                    let lost = Event::TelemetryLost {
                        extension,
                        kind: made.kind.clone(),
                        request_id,
                    };
                    self.timeline.record(&self.source, lost);
                    return;
                }
                TelemetryFault::Delay(kind, by) if *kind == made.kind => delay += *by,
                _ => {}
            }
        }
        let text = match made.kind.as_str() {
            "" => json!({"surprise": true}).to_string(),
            kind => {
                json!({"time": iso8601(made.time), "type": kind, "record": made.record}).to_string()
            }
        };
        let mut item = Item {
            kind: made.kind.clone(),
            request_id,
            invocation: made.invocation,
            text,
            queued: Instant::now(),
        };
        let queue = subscriber.queue.clone();
        self.pending.send_modify(|count| *count += 1);
        // A subscriber whose task has ended hears nothing any more.
        if delay.is_zero() {
            let _ = queue.send(item);
        } else {
            tokio::spawn(async move {
                sleep(delay).await;
                item.queued = Instant::now();
                let _ = queue.send(item);
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same with every whole number a fraction.
fn fractional(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap_or_default().trunc() + 0.5),
        Value::Array(list) => list.into_iter().map(fractional).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, fractional(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_everywhere() {
        let record = fractional(json!({"metrics": {"producedBytes": 4}, "list": [1, "two"]}));
        assert_eq!(
            record,
            json!({"metrics": {"producedBytes": 4.5}, "list": [1.5, "two"]})
        );
    }
}
