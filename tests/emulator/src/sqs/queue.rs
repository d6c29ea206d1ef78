//! One queue: pure, time is an argument.

use super::{
    attribute::MessageAttributes,
    refusal::Refusal,
    settings::{QueueSpec, arn},
};
use crate::{clock::Moment, ids};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

/// How long a FIFO queue remembers a deduplication id.
const DEDUPLICATION: Duration = Duration::from_secs(300);

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Message {
    /// Message id.
    pub id: String,
    /// Body.
    pub body: String,
    /// Message attributes.
    pub attributes: MessageAttributes,
    /// `AWSTraceHeader`.
    pub trace_header: Option<String>,
    /// `MessageGroupId`.
    pub group: Option<String>,
    /// `MessageDeduplicationId`.
    pub deduplication_id: Option<String>,
    /// `SequenceNumber`, of FIFO queues.
    pub sequence: Option<String>,
    /// When it was sent.
    pub sent: Moment,
    /// When it was first received.
    pub first_received: Option<Moment>,
    /// How many times it was received.
    pub receive_count: u32,
    /// ARN of the queue SQS itself took it from.
    pub dead_letter_source: Option<String>,
    /// Handle of the last receive.
    pub receipt_handle: Option<String>,
    visible_at: Instant,
}

/// A message on its way to the dead-letter queue.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) to: String,
    pub(super) message: Message,
}

/// A message that is to be sent, already judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) body: String,
    pub(super) attributes: MessageAttributes,
    pub(super) trace_header: Option<String>,
    pub(super) group: Option<String>,
    pub(super) deduplication_id: Option<String>,
    pub(super) delay: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) spec: QueueSpec,
    messages: Vec<Message>,
    /// When a deduplication id was used, by which message, with which sequence number.
    seen: HashMap<String, (Instant, String, Option<String>)>,
    sequence: u64,
}

impl Queue {
    pub(super) fn new(spec: QueueSpec) -> Self {
        Self {
            spec,
            messages: Vec::new(),
            seen: HashMap::new(),
            sequence: 0,
        }
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Puts a message in; gives its id and sequence number, and whether it is new.
    pub(super) fn send(&mut self, draft: Draft, now: Moment) -> (String, Option<String>, bool) {
        self.seen
            .retain(|_, (at, ..)| now.mono.duration_since(*at) < DEDUPLICATION);
        if let Some((_, id, sequence)) = draft
            .deduplication_id
            .as_ref()
            .and_then(|id| self.seen.get(id))
        {
            return (id.clone(), sequence.clone(), false);
        }
        let sequence = self.next_sequence();
        let message = Message {
            id: ids::uuid(),
            body: draft.body,
            attributes: draft.attributes,
            trace_header: draft.trace_header,
            group: draft.group,
            deduplication_id: draft.deduplication_id,
            sequence: sequence.clone(),
            sent: now,
            first_received: None,
            receive_count: 0,
            dead_letter_source: None,
            receipt_handle: None,
            visible_at: now.mono + draft.delay.unwrap_or(self.spec.delay),
        };
        let id = message.id.clone();
        if let Some(deduplication_id) = message
            .deduplication_id
            .clone()
            .filter(|_| self.spec.fifo())
        {
            self.seen
                .insert(deduplication_id, (now.mono, id.clone(), sequence.clone()));
        }
        self.messages.push(message);
        (id, sequence, true)
    }

    fn next_sequence(&mut self) -> Option<String> {
        self.sequence += 1;
        // Twenty digits that grow, as SQS's do.
        self.spec
            .fifo()
            .then(|| format!("{:020}", 18_400_000_000_000_000_000 + self.sequence))
    }

    /// Takes visible messages, at most so many, oldest first, and hides them.
    /// SQS, "Dead-letter queues": one that was received as often as allowed is moved instead.
    /// SQS, "FIFO delivery logic": a group with a message in flight gives nothing.
    pub(super) fn receive(
        &mut self,
        count: usize,
        visibility: Option<Duration>,
        now: Moment,
    ) -> (Vec<Message>, Vec<Moved>) {
        let moved = self.give_up(now.mono);
        let locked = self.locked_groups(now.mono);
        let until = now.mono + visibility.unwrap_or(self.spec.visibility_timeout);
        let visible = self.messages.iter_mut().filter(|message| {
            message.visible_at <= now.mono
                && message
                    .group
                    .as_ref()
                    .is_none_or(|group| !locked.contains(group))
        });
        let taken = visible.take(count).map(|message| {
            message.receive_count += 1;
            message.first_received.get_or_insert(now);
            message.receipt_handle = Some(ids::uuid());
            message.visible_at = until;
            message.clone()
        });
        (taken.collect(), moved)
    }

    fn give_up(&mut self, now: Instant) -> Vec<Moved> {
        let Some(redrive) = self.spec.redrive.clone() else {
            return Vec::new();
        };
        let locked = self.locked_groups(now);
        let source = arn(&self.spec.name);
        let gone = self.messages.extract_if(.., |message| {
            message.visible_at <= now
                && message.receive_count >= redrive.receives_max
                && message
                    .group
                    .as_ref()
                    .is_none_or(|group| !locked.contains(group))
        });
        gone.map(|mut message| {
            message.dead_letter_source = Some(source.clone());
            Moved {
                to: redrive.queue.clone(),
                message,
            }
        })
        .collect()
    }

    /// Groups with a message in flight or delayed; standard queues lock none.
    fn locked_groups(&self, now: Instant) -> HashSet<String> {
        let fifo = self.spec.fifo();
        let hidden = self
            .messages
            .iter()
            .filter(|message| fifo && message.visible_at > now);
        hidden.filter_map(|message| message.group.clone()).collect()
    }

    /// Takes in what SQS moved here: id, time and count are kept.
    pub(super) fn put_dead(&mut self, mut message: Message) {
        message.receipt_handle = None;
        message.visible_at = message.sent.mono;
        if self.spec.fifo() {
            message.sequence = self.next_sequence();
            message.deduplication_id = Some(ids::uuid());
        }
        self.messages.push(message);
    }

    /// Takes in what was redriven here: new id, new time, count from the beginning.
    pub(super) fn put_redriven(&mut self, mut message: Message, now: Moment) {
        message.id = ids::uuid();
        message.sent = now;
        message.first_received = None;
        message.receive_count = 0;
        message.dead_letter_source = None;
        self.put_dead(message);
    }

    /// Takes everything that is not in flight.
    pub(super) fn take_all(&mut self) -> Vec<Message> {
        let now = Instant::now();
        self.messages
            .extract_if(.., |message| message.visible_at <= now)
            .collect()
    }

    pub(super) fn purge(&mut self) {
        self.messages.clear();
    }

    /// Deletes by handle; gives the id. A handle that is no longer known is no error.
    pub(super) fn delete(&mut self, handle: &str) -> Result<Option<String>, Refusal> {
        check_handle(handle)?;
        let place = self.place(handle);
        Ok(place.map(|place| self.messages.remove(place).id))
    }

    pub(super) fn change_visibility(
        &mut self,
        handle: &str,
        by: Duration,
        now: Moment,
    ) -> Result<(), Refusal> {
        check_handle(handle)?;
        let place = self
            .place(handle)
            .ok_or_else(|| Refusal::receipt_handle(handle))?;
        let message = &mut self.messages[place];
        if message.visible_at <= now.mono {
            return Err(Refusal::not_in_flight());
        }
        message.visible_at = now.mono + by;
        Ok(())
    }

    fn place(&self, handle: &str) -> Option<usize> {
        self.messages
            .iter()
            .position(|message| message.receipt_handle.as_deref() == Some(handle))
    }

    /// When the next hidden message comes to light.
    pub(super) fn next_visible(&self, now: Instant) -> Option<Instant> {
        self.messages
            .iter()
            .map(|message| message.visible_at)
            .filter(|at| *at > now)
            .min()
    }

    /// Visible, in flight, delayed.
    pub(super) fn counts(&self, now: Instant) -> (usize, usize, usize) {
        let hidden = || {
            self.messages
                .iter()
                .filter(|message| message.visible_at > now)
        };
        let in_flight = hidden()
            .filter(|message| message.receipt_handle.is_some())
            .count();
        let delayed = hidden().count() - in_flight;
        (
            self.messages.len() - in_flight - delayed,
            in_flight,
            delayed,
        )
    }
}

/// Handles are UUIDs here; anything else was never given.
fn check_handle(handle: &str) -> Result<(), Refusal> {
    match handle.len() == 36 && handle.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        true => Ok(()),
        false => Err(Refusal::receipt_handle(handle)),
    }
}

#[cfg(test)]
mod tests;
