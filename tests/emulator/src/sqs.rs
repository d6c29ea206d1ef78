//! An SQS endpoint: the JSON protocol of the SDKs, queues that behave, and SQS's own refusals.
//!
//! Sources: AWS, "Amazon SQS API Reference" and "Developer Guide" (quotas, visibility timeout, FIFO delivery logic,
//! dead-letter queues, message metadata), "AWS JSON 1.0 protocol" of Smithy.

mod api;
mod attribute;
mod batch;
mod queue;
mod receive;
mod refusal;
mod send;
mod settings;

pub use attribute::MessageAttribute;
pub use queue::Message;
pub use settings::QueueSpec;

use crate::{
    clock::Moment,
    http::{self, Server},
    mapping::{EventSourceMapping, MappingSpec},
    sandbox::Sandbox,
    timeline::{Event, Timeline},
};
use queue::{Moved, Queue};
use refusal::Refusal;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch;

/// Account that owns every queue.
pub(crate) const ACCOUNT: &str = "123456789012";
/// Region of every queue.
pub(crate) const REGION: &str = "us-east-1";

/// An SQS endpoint on a loopback port. Cloning shares it; it stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct SqsServer(Arc<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    server: Server,
}

/// What the server's connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    timeline: Timeline,
    source: Arc<str>,
    queues: Mutex<BTreeMap<String, Queue>>,
    /// What `StartMessageMoveTask` did, the latest last.
    moves: Mutex<Vec<serde_json::Value>>,
    changed: watch::Sender<u64>,
    base: OnceLock<String>,
    keep_trace_header: AtomicBool,
}

impl SqsServer {
    /// Starts one with a timeline of its own.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(&Timeline::new()).await
    }

    /// Starts one that writes to a shared timeline.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn start_on(timeline: &Timeline) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            timeline: timeline.clone(),
            source: Arc::from("sqs"),
            queues: Mutex::default(),
            moves: Mutex::default(),
            changed: watch::Sender::new(0),
            base: OnceLock::new(),
            keep_trace_header: AtomicBool::new(true),
        });
        let served = shared.clone();
        let server = http::serve(move |call| api::answer(served.clone(), call)).await?;
        shared
            .base
            .get_or_init(|| format!("http://{}", server.address));
        Ok(Self(Arc::new(Running { shared, server })))
    }

    /// What `AWS_ENDPOINT_URL_SQS` wants; any credentials do.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.0.server.address)
    }

    /// Creates a queue and gives its URL.
    ///
    /// # Panics
    /// When SQS would refuse it: odd name, unknown dead-letter queue, a FIFO queue with a standard dead-letter queue.
    pub fn create_queue(&self, spec: QueueSpec) -> String {
        let shared = &self.0.shared;
        match shared.create(spec) {
            Ok(url) => url,
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// URL of a queue of that name, whether or not there is one.
    pub fn queue_url(&self, name: &str) -> String {
        self.0.shared.url(name)
    }

    /// Whether `AWSTraceHeader` survives a move to a dead-letter queue and a redrive.
    /// It does by default; AWS does not document it, so both worlds are to be tested.
    pub fn keep_trace_header(&self, keep: bool) {
        self.0
            .shared
            .keep_trace_header
            .store(keep, std::sync::atomic::Ordering::Relaxed);
    }

    /// Every message of a queue, those in flight included, in the order of their arrival.
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        self.0
            .shared
            .lock()
            .get(queue)
            .map(|queue| queue.messages().to_vec())
            .unwrap_or_default()
    }

    /// Waits until a queue holds nothing, neither visible nor in flight nor delayed.
    pub async fn wait_empty(&self, queue: &str, within: Duration) -> bool {
        self.wait_until(within, |server| server.messages(queue).is_empty())
            .await
    }

    /// Waits until a queue holds so many messages, those in flight included.
    pub async fn wait_for_messages(&self, queue: &str, count: usize, within: Duration) -> bool {
        self.wait_until(within, |server| server.messages(queue).len() >= count)
            .await
    }

    /// Moves every message of a dead-letter queue back to where SQS took it from, as `StartMessageMoveTask` does;
    /// gives how many. Messages nobody moved stay.
    ///
    /// # Panics
    /// When there is no such queue.
    pub fn redrive(&self, dead_letter_queue: &str) -> usize {
        match self.0.shared.move_all(dead_letter_queue, None) {
            Ok(count) => count,
            Err(refusal) => panic!("{refusal}"),
        }
    }

    /// Polls a queue and invokes a function with what comes, as Lambda's event source mapping does.
    pub fn event_source_mapping(
        &self,
        queue: &str,
        sandbox: &Sandbox,
        spec: MappingSpec,
    ) -> EventSourceMapping {
        EventSourceMapping::start(&self.endpoint_url(), &self.queue_url(queue), sandbox, spec)
    }

    /// The timeline it writes to.
    pub fn timeline(&self) -> &Timeline {
        &self.0.shared.timeline
    }

    async fn wait_until(&self, within: Duration, met: impl Fn(&Self) -> bool) -> bool {
        let mut changed = self.0.shared.changed.subscribe();
        let wait = async {
            while !met(self) {
                // The sender lives as long as we do, so this never fails.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(within, wait).await.is_ok()
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, name: &str) -> String {
        format!(
            "{}/{ACCOUNT}/{name}",
            self.base.get().map(String::as_str).unwrap_or_default()
        )
    }

    /// Does something with a queue by its URL or name, and tells who waits.
    fn with<T>(
        &self,
        url: &str,
        act: impl FnOnce(&mut Queue, Moment) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let name = url.rsplit('/').next().unwrap_or_default();
        let mut queues = self.lock();
        let queue = queues.get_mut(name).ok_or_else(Refusal::no_queue)?;
        let done = act(queue, Moment::now());
        drop(queues);
        self.changed.send_modify(|count| *count += 1);
        done
    }

    fn create(&self, spec: QueueSpec) -> Result<String, Refusal> {
        spec.check()?;
        let mut queues = self.lock();
        if let Some(redrive) = &spec.redrive {
            let target = queues.get(&redrive.queue).ok_or_else(Refusal::no_queue)?;
            if target.spec.fifo() != spec.fifo() {
                return Err(Refusal::parameter(
                    "a dead-letter queue is of the same type as its source",
                ));
            }
        }
        let url = self.url(&spec.name);
        if let Some(old) = queues.get(&spec.name) {
            return if old.spec == spec {
                Ok(url)
            } else {
                Err(Refusal::exists())
            };
        }
        queues.insert(spec.name.clone(), Queue::new(spec));
        Ok(url)
    }

    /// Takes messages that are visible; those that were received too often go to the dead-letter queue instead.
    fn receive(
        &self,
        url: &str,
        count: usize,
        visibility: Option<Duration>,
    ) -> Result<Vec<Message>, Refusal> {
        let name = url.rsplit('/').next().unwrap_or_default();
        let mut queues = self.lock();
        let queue = queues.get_mut(name).ok_or_else(Refusal::no_queue)?;
        let (taken, moved) = queue.receive(count, visibility, Moment::now());
        let something = !taken.is_empty() || !moved.is_empty();
        self.bury(&mut queues, name, moved);
        for message in &taken {
            let (queue, message_id) = (name.to_owned(), message.id.clone());
            let receive_count = message.receive_count;
            self.record(Event::MessageReceived {
                queue,
                message_id,
                receive_count,
            });
        }
        drop(queues);
        if something {
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(taken)
    }

    /// Puts messages into the dead-letter queue of the queue they come from.
    fn bury(&self, queues: &mut BTreeMap<String, Queue>, from: &str, moved: Vec<Moved>) {
        for Moved { to, mut message } in moved {
            if !self
                .keep_trace_header
                .load(std::sync::atomic::Ordering::Relaxed)
            {
                message.trace_header = None;
            }
            let (queue, message_id) = (from.to_owned(), message.id.clone());
            if let Some(target) = queues.get_mut(&to) {
                target.put_dead(message);
                self.record(Event::MessageMoved {
                    queue,
                    to,
                    message_id,
                });
            }
        }
    }

    /// Redrive: every message gets a new id and a new time, and keeps its body and its attributes.
    fn move_all(&self, from: &str, to: Option<&str>) -> Result<usize, Refusal> {
        let mut queues = self.lock();
        let queue = queues.get_mut(from).ok_or_else(Refusal::no_queue)?;
        let messages = queue.take_all();
        let mut count = 0;
        for mut message in messages {
            let source = message
                .dead_letter_source
                .as_deref()
                .and_then(|arn| arn.rsplit(':').next());
            let target = to.or(source).unwrap_or(from).to_owned();
            if !queues.contains_key(&target) || target == from {
                queues
                    .get_mut(from)
                    .ok_or_else(Refusal::no_queue)?
                    .put_dead(message);
                continue;
            }
            let old = message.id.clone();
            if !self
                .keep_trace_header
                .load(std::sync::atomic::Ordering::Relaxed)
            {
                message.trace_header = None;
            }
            let target_queue = queues.get_mut(&target).ok_or_else(Refusal::no_queue)?;
            target_queue.put_redriven(message, Moment::now());
            count += 1;
            self.record(Event::MessageMoved {
                queue: from.to_owned(),
                to: target,
                message_id: old,
            });
        }
        drop(queues);
        self.changed.send_modify(|count| *count += 1);
        Ok(count)
    }

    fn record(&self, event: Event) {
        self.timeline.record(&self.source, event);
    }
}
