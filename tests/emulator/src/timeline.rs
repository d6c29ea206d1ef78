//! The timeline: one ordered record of what the sandbox, its processes, the sink and the queues did.

mod event;

pub use event::{Event, Who};

use crate::clock::{Moment, iso8601};
use serde::{Serialize, Serializer};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// One line of the timeline.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Place in the order, from 0, without gaps.
    pub seq: u64,
    /// When.
    pub at: Moment,
    /// The function name of the sandbox, or `sink`, `sqs`, `test`.
    pub source: Arc<str>,
    /// What.
    pub event: Event,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            seq: u64,
            time: String,
            source: &'a str,
            #[serde(flatten)]
            event: &'a Event,
        }
        let line = Line {
            seq: self.seq,
            time: iso8601(self.at.wall),
            source: &self.source,
            event: &self.event,
        };
        line.serialize(serializer)
    }
}

/// The record, shared by everything that takes part. Cloning shares it.
///
/// The order of entries is an order of causes: what writes an entry holds the lock while it does the thing
/// or before it does it, so that a consequence is never written ahead of its cause.
#[derive(Clone)]
pub struct Timeline(Arc<Inner>);

struct Inner {
    origin: Moment,
    entries: Mutex<Vec<Entry>>,
    grown: watch::Sender<u64>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timeline({} entries)", self.lock().len())
    }
}

impl Timeline {
    /// An empty one; its origin is now.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            origin: Moment::now(),
            entries: Mutex::default(),
            grown: watch::Sender::new(0),
        }))
    }

    /// Writes down an event of the test itself, with the source `test`.
    pub fn note(&self, text: impl Into<String>) {
        self.record(&Arc::from("test"), Event::Note { text: text.into() });
    }

    /// Everything so far, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// The entries `wanted` says yes to, in order.
    pub fn select(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        self.lock()
            .iter()
            .filter(|entry| wanted(entry))
            .cloned()
            .collect()
    }

    /// The first entry `wanted` says yes to.
    pub fn first(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        self.lock().iter().find(|entry| wanted(entry)).cloned()
    }

    /// Waits for an entry `wanted` says yes to, those already written included; `None` when it does not come `within`.
    pub async fn wait_for(
        &self,
        mut wanted: impl FnMut(&Entry) -> bool,
        within: Duration,
    ) -> Option<Entry> {
        let mut grown = self.0.grown.subscribe();
        let mut seen = 0;
        let search = async {
            loop {
                {
                    let entries = self.lock();
                    let found = entries
                        .get(seen..)
                        .unwrap_or_default()
                        .iter()
                        .find(|entry| wanted(entry))
                        .cloned();
                    seen = entries.len();
                    if found.is_some() {
                        return found;
                    }
                }
                // The sender lives as long as we do.
                if grown.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(within, search).await.ok().flatten()
    }

    /// When the timeline was made.
    pub fn origin(&self) -> Moment {
        self.0.origin
    }

    /// All entries as a JSON list, times in ISO 8601 and in milliseconds since the origin.
    pub fn to_json(&self) -> serde_json::Value {
        let rows = self.entries().into_iter().map(|entry| {
            let ms = entry.at.since(self.0.origin).as_secs_f64() * 1e3;
            let mut row = serde_json::to_value(&entry).expect("an entry is plain data");
            row["ms"] = ms.into();
            row
        });
        rows.collect()
    }

    /// The timeline as text, one line an entry: what a failing test prints.
    pub fn to_text(&self) -> String {
        use fmt::Write;
        let mut text = String::new();
        for entry in self.entries() {
            let ms = entry.at.since(self.0.origin).as_secs_f64() * 1e3;
            let _ = writeln!(text, "{ms:10.3} {:14} {:?}", entry.source, entry.event);
        }
        text
    }

    /// Writes an event down and gives its moment.
    pub(crate) fn record(&self, source: &Arc<str>, event: Event) -> Moment {
        self.record_after(|| Some(((), source.clone(), event)))
            .expect("something was given")
            .1
    }

    /// Does something and writes it down in one step, so that nothing it causes can be written ahead of it.
    /// `act` must not wait. `None` writes nothing.
    pub(crate) fn record_after<T>(
        &self,
        act: impl FnOnce() -> Option<(T, Arc<str>, Event)>,
    ) -> Option<(T, Moment)> {
        let mut entries = self.lock();
        let (value, source, event) = act()?;
        let at = Moment::now();
        let seq = entries.len() as u64;
        entries.push(Entry {
            seq,
            at,
            source,
            event,
        });
        drop(entries);
        self.0.grown.send_modify(|count| *count += 1);
        Some((value, at))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_see_entries_of_before_and_after() {
        let timeline = Timeline::new();
        timeline.note("before");
        let is = |text: &'static str| {
            move |entry: &Entry| entry.event == Event::Note { text: text.into() }
        };
        assert_eq!(
            timeline
                .wait_for(is("before"), Duration::from_secs(5))
                .await
                .unwrap()
                .seq,
            0
        );
        let (found, ()) = tokio::join!(
            timeline.wait_for(is("after"), Duration::from_secs(5)),
            async { timeline.note("after") }
        );
        assert_eq!(found.unwrap().seq, 1);
        assert!(
            timeline
                .wait_for(is("never"), Duration::from_millis(1))
                .await
                .is_none()
        );
        assert_eq!(timeline.to_json()[1]["text"], "after");
    }
}
