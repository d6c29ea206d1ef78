//! The event source mapping: from a queue to a function and back.
//!
//! Sources: AWS Lambda, "Using Lambda with Amazon SQS" and "Handling errors for an SQS event source in Lambda".
//! It is a client of the SQS JSON protocol, so that it works with any endpoint.

mod event;
mod poller;
mod verdict;

pub use event::sqs_event;
pub use verdict::Verdict;

use crate::sandbox::{Outcome, Sandbox};
use poller::Poller;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// How a mapping works; the defaults are Lambda's.
#[derive(Clone, Debug)]
#[must_use]
pub struct MappingSpec {
    batch_size: usize,
    report_batch_item_failures: bool,
    retry_at_once: bool,
    wait: Duration,
    concurrency: usize,
}

impl Default for MappingSpec {
    fn default() -> Self {
        Self {
            batch_size: 10,
            report_batch_item_failures: false,
            retry_at_once: false,
            wait: Duration::from_secs(20),
            concurrency: 1,
        }
    }
}

impl MappingSpec {
    /// Most messages of an invocation, 10 by default, up to 10,000.
    pub fn batch_size(mut self, size: usize) -> Self {
        self.batch_size = size.clamp(1, 10_000);
        self
    }

    /// Whether the function's answer names the messages that failed; off by default.
    pub fn report_batch_item_failures(mut self, on: bool) -> Self {
        self.report_batch_item_failures = on;
        self
    }

    /// Makes failed messages visible again at once instead of leaving them to the queue's visibility timeout,
    /// which is what Lambda does.
    pub fn retry_at_once(mut self, on: bool) -> Self {
        self.retry_at_once = on;
        self
    }

    /// Long polling time, 20 s by default. Foreign servers that answer long polls late want 1 s or 0.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Batches under way at the same time, 1 by default as there is one environment;
    /// more are of use with Managed Instances.
    pub fn concurrency(mut self, batches: usize) -> Self {
        self.concurrency = batches.max(1);
        self
    }
}

/// One invocation of a mapping.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Request id of the invocation.
    pub request_id: String,
    /// Message ids in the order of the event.
    pub message_ids: Vec<String>,
    /// What the caller got.
    pub outcome: Outcome,
    /// What became of the messages.
    pub verdict: Verdict,
}

/// A mapping at work; dropping it stops it at once, [`EventSourceMapping::stop`] in an orderly way.
#[derive(Debug)]
pub struct EventSourceMapping {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    batches: Mutex<Vec<Batch>>,
    errors: Mutex<Vec<String>>,
    changed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

impl Drop for EventSourceMapping {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.abort();
        }
    }
}

impl EventSourceMapping {
    /// Starts polling the queue at any endpoint of the SQS JSON protocol, `http` only, with dummy credentials.
    pub fn start(
        endpoint_url: &str,
        queue_url: &str,
        sandbox: &Sandbox,
        spec: MappingSpec,
    ) -> Self {
        let shared = Arc::new(Shared {
            batches: Mutex::default(),
            errors: Mutex::default(),
            changed: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        });
        let workers = (0..spec.concurrency).map(|_| {
            let poller = Poller::new(endpoint_url, queue_url, &spec);
            tokio::spawn(work(poller, sandbox.clone(), spec.clone(), shared.clone()))
        });
        Self {
            workers: workers.collect(),
            shared,
        }
    }

    /// Invocations so far, in the order of their ends.
    pub fn batches(&self) -> Vec<Batch> {
        self.shared
            .batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What went wrong between the mapping and the queue, in words.
    pub fn errors(&self) -> Vec<String> {
        self.shared
            .errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until so many invocations have ended and their messages were settled.
    pub async fn wait_for_batches(&self, count: usize, within: Duration) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            while self.batches().len() < count {
                // The sender lives as long as we do, so this never fails.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(within, wait).await.is_ok()
    }

    /// Takes no more messages, and waits for the batches under way.
    pub async fn stop(mut self) -> Vec<Batch> {
        self.shared.stop.send_replace(true);
        for worker in self.workers.drain(..) {
            // A worker ends by itself; only a panic in it could be reported here, and it was printed.
            let _ = worker.await;
        }
        self.batches()
    }
}

/// Receives, invokes, settles, again and again.
async fn work(mut poller: Poller, sandbox: Sandbox, spec: MappingSpec, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    loop {
        let batch = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            batch = poller.receive() => batch,
        };
        let done = match batch {
            Ok(messages) if messages.is_empty() => Ok(()),
            Ok(messages) => handle(&mut poller, &sandbox, &spec, &shared, messages).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            shared
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(error.to_string());
            shared.changed.send_modify(|count| *count += 1);
            // A server that is away comes back or does not; nothing else can be waited for.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    poller.leave().await;
}

async fn handle(
    poller: &mut Poller,
    sandbox: &Sandbox,
    spec: &MappingSpec,
    shared: &Shared,
    messages: Vec<serde_json::Value>,
) -> std::io::Result<()> {
    let event = sqs_event(&messages, &poller.queue_arn, &poller.region);
    let text = |key: &str| -> Vec<String> {
        messages
            .iter()
            .map(|message| message[key].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let message_ids = text("MessageId");
    let invocation = sandbox.invoke(event.to_string()).await;
    let verdict = verdict::of(
        &invocation.outcome,
        spec.report_batch_item_failures,
        &message_ids,
    );
    let handles = text("ReceiptHandle");
    let settled = poller.settle(&handles, &verdict, spec.retry_at_once).await;
    let batch = Batch {
        request_id: invocation.request_id,
        message_ids,
        outcome: invocation.outcome,
        verdict,
    };
    shared
        .batches
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(batch);
    shared.changed.send_modify(|count| *count += 1);
    settled
}
