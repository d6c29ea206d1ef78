//! The task that buffers events for one subscriber and delivers them.

use super::{Item, Subscription};
use crate::{
    client::Client,
    sandbox::faults::{TelemetryFault, TelemetryFaults},
    timeline::{Event, Timeline},
};
use bytes::Bytes;
use http::{Request, header};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// Deliveries of a batch that was not answered with success: this many, the wait doubling from the first.
const DELIVERIES_MAX: u32 = 5;
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(100);

/// The task that buffers and delivers for one subscriber.
pub(super) struct Delivery {
    pub(super) subscription: Subscription,
    pub(super) timeline: Timeline,
    pub(super) source: Arc<str>,
    pub(super) faults: TelemetryFaults,
    pub(super) frozen: watch::Receiver<bool>,
    pub(super) flush: watch::Receiver<u64>,
    pub(super) pending: Arc<watch::Sender<usize>>,
    pub(super) client: Client,
}

impl Delivery {
    pub(super) async fn run(mut self, mut items: mpsc::UnboundedReceiver<Item>) {
        while let Some(first) = items.recv().await {
            let batch = self.fill(first, &mut items).await;
            // The Telemetry API lives outside of what is frozen, its subscriber does not.
            if self.frozen.wait_for(|frozen| !frozen).await.is_err() {
                return;
            }
            let count = batch.len();
            self.deliver(batch).await;
            self.pending
                .send_modify(|pending| *pending = pending.saturating_sub(count));
        }
    }

    /// Collects until the buffer is full, its time is over, or somebody wants it flushed.
    async fn fill(&mut self, first: Item, items: &mut mpsc::UnboundedReceiver<Item>) -> Vec<Item> {
        let wait = if self.faults.at_once {
            Duration::ZERO
        } else {
            self.subscription.timeout
        };
        let deadline = first.queued + wait;
        let mut bytes = first.text.len();
        let mut batch = vec![first];
        while batch.len() < self.subscription.items_max && bytes < self.subscription.bytes_max {
            let next = tokio::select! {
                biased;
                next = items.recv() => next,
                _ = tokio::time::sleep_until(deadline) => None,
                _ = self.flush.changed() => None,
            };
            let Some(next) = next else { break };
            bytes += next.text.len();
            batch.push(next);
        }
        batch
    }

    async fn deliver(&mut self, mut batch: Vec<Item>) {
        let has = |fault| {
            batch
                .iter()
                .any(|item| self.faults.has(item.invocation, &fault))
        };
        let (invalid, reversed) = (
            has(TelemetryFault::InvalidJson),
            has(TelemetryFault::Reversed),
        );
        if reversed {
            batch.reverse();
        }
        let mut body = format!(
            "[{}]",
            batch
                .iter()
                .map(|item| item.text.as_str())
                .collect::<Vec<_>>()
                .join(",")
        );
        if invalid {
            body.truncate(body.len() - body.len() / 3);
        }
        let body = Bytes::from(body);
        let mut wait = RETRY_WAIT_FIRST;
        for _ in 0..DELIVERIES_MAX {
            self.record(&batch, |extension, kind, request_id| Event::TelemetrySent {
                extension,
                kind,
                request_id,
            });
            let status = self.post(body.clone()).await.unwrap_or(0);
            self.record(&batch, |extension, kind, request_id| {
                Event::TelemetryDelivered {
                    extension,
                    kind,
                    request_id,
                    status,
                }
            });
            if (200..300).contains(&status) {
                return;
            }
            sleep(wait).await;
            wait *= 2;
        }
    }

    fn record(&self, batch: &[Item], event: impl Fn(String, String, Option<String>) -> Event) {
        for item in batch {
            let extension = self.subscription.extension.clone();
            let event = event(extension, item.kind.clone(), item.request_id.clone());
            self.timeline.record(&self.source, event);
        }
    }

    async fn post(&mut self, body: Bytes) -> io::Result<u16> {
        let host = format!("sandbox.localdomain:{}", self.subscription.port);
        let request = Request::post(&self.subscription.path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "Go-http-client/1.1")
            .body(body)
            .map_err(io::Error::other)?;
        Ok(self.client.send(request).await?.status().as_u16())
    }
}
