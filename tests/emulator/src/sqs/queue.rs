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
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn draft(body: &str, group: Option<&str>) -> Draft {
        Draft {
            body: body.into(),
            group: group.map(str::to_owned),
            ..Draft::default()
        }
    }

    fn bodies(messages: &[Message]) -> Vec<&str> {
        messages
            .iter()
            .map(|message| message.body.as_str())
            .collect()
    }

    fn later(now: Moment, by: Duration) -> Moment {
        Moment {
            wall: now.wall + by,
            mono: now.mono + by,
        }
    }

    #[test]
    fn a_received_message_is_hidden_until_its_time_is_over_or_it_is_deleted() {
        let mut queue = Queue::new(QueueSpec::new("q").visibility_timeout(SECOND));
        let now = Moment::now();
        queue.send(draft("a", None), now);
        let (taken, _) = queue.receive(10, None, now);
        assert_eq!(taken[0].receive_count, 1);
        assert!(queue.receive(10, None, now).0.is_empty());
        assert_eq!(queue.counts(now.mono), (0, 1, 0));
        assert_eq!(queue.next_visible(now.mono), Some(now.mono + SECOND));
        let (again, _) = queue.receive(10, None, later(now, SECOND));
        assert_eq!(again[0].receive_count, 2);
        assert_eq!(again[0].first_received, Some(now));
        let old = taken[0].receipt_handle.clone().unwrap();
        assert_eq!(
            queue.delete(&old).unwrap(),
            None,
            "an old handle deletes nothing"
        );
        let handle = again[0].receipt_handle.clone().unwrap();
        assert_eq!(queue.delete(&handle).unwrap(), Some(again[0].id.clone()));
        assert!(queue.delete("nonsense").is_err());
        assert!(queue.messages().is_empty());
    }

    #[test]
    fn what_was_received_too_often_is_moved_with_its_id_and_count() {
        let mut queue = Queue::new(
            QueueSpec::new("q")
                .visibility_timeout(SECOND)
                .redrive("dlq", 2),
        );
        let mut now = Moment::now();
        let (id, ..) = queue.send(draft("a", None), now);
        for _ in 0..2 {
            let (taken, moved) = queue.receive(10, None, now);
            assert_eq!((taken.len(), moved.len()), (1, 0));
            now = later(now, SECOND);
        }
        let (taken, moved) = queue.receive(10, None, now);
        assert!(taken.is_empty());
        assert_eq!(
            (moved[0].to.as_str(), moved[0].message.id.as_str()),
            ("dlq", id.as_str())
        );
        assert_eq!(
            moved[0].message.dead_letter_source.as_deref(),
            Some("arn:aws:sqs:us-east-1:123456789012:q")
        );
        let mut dead = Queue::new(QueueSpec::new("dlq"));
        dead.put_dead(moved.into_iter().next().unwrap().message);
        assert_eq!(dead.receive(1, None, now).0[0].receive_count, 3);
    }

    #[test]
    fn a_redriven_message_is_a_new_one() {
        let now = Moment::now();
        let mut queue = Queue::new(QueueSpec::new("dlq"));
        queue.send(draft("a", None), now);
        let old = queue.take_all().remove(0);
        let mut target = Queue::new(QueueSpec::new("q"));
        target.put_redriven(old.clone(), later(now, SECOND));
        let new = &target.messages()[0];
        assert_eq!((new.body.as_str(), new.receive_count), ("a", 0));
        assert_ne!(new.id, old.id);
        assert!(new.sent > old.sent);
    }

    #[test]
    fn fifo_groups_are_locked_in_flight_and_keep_their_order() {
        let mut queue = Queue::new(QueueSpec::new("q.fifo").visibility_timeout(SECOND));
        let now = Moment::now();
        for (body, group) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
            queue.send(draft(body, Some(group)), now);
        }
        let (first, _) = queue.receive(1, None, now);
        assert_eq!(bodies(&first), ["a1"]);
        assert_eq!(
            bodies(&queue.receive(10, None, now).0),
            ["b1"],
            "group a is locked"
        );
        queue
            .delete(first[0].receipt_handle.as_deref().unwrap())
            .unwrap();
        assert_eq!(
            bodies(&queue.receive(10, None, now).0),
            ["a2", "a3"],
            "one batch may hold a whole group"
        );
        assert_eq!(
            bodies(&queue.receive(10, None, later(now, SECOND)).0),
            ["a2", "b1", "a3"]
        );
        let numbers: Vec<_> = queue
            .messages()
            .iter()
            .map(|message| message.sequence.clone().unwrap())
            .collect();
        assert!(numbers.is_sorted() && numbers.iter().all(|number| number.len() == 20));
    }

    #[test]
    fn standard_queues_do_not_lock_fair_groups() {
        let mut queue = Queue::new(QueueSpec::new("q"));
        let now = Moment::now();
        for body in ["1", "2"] {
            queue.send(draft(body, Some("tenant")), now);
        }
        assert_eq!(bodies(&queue.receive(1, None, now).0), ["1"]);
        assert_eq!(bodies(&queue.receive(1, None, now).0), ["2"]);
    }

    #[test]
    fn deduplication_lasts_five_minutes() {
        let mut queue = Queue::new(QueueSpec::new("q.fifo"));
        let now = Moment::now();
        let same = || Draft {
            deduplication_id: Some("d".into()),
            ..draft("a", Some("g"))
        };
        let (id, sequence, new) = queue.send(same(), now);
        assert!(new);
        assert_eq!(
            queue.send(same(), later(now, DEDUPLICATION - SECOND)),
            (id, sequence, false)
        );
        assert!(queue.send(same(), later(now, DEDUPLICATION)).2);
        assert_eq!(queue.messages().len(), 2);
    }

    #[test]
    fn visibility_can_be_changed_while_in_flight_only() {
        let mut queue = Queue::new(QueueSpec::new("q").visibility_timeout(SECOND));
        let now = Moment::now();
        queue.send(draft("a", None), now);
        let handle = queue.receive(1, None, now).0[0]
            .receipt_handle
            .clone()
            .unwrap();
        queue
            .change_visibility(&handle, Duration::ZERO, now)
            .unwrap();
        assert_eq!(
            queue.change_visibility(&handle, SECOND, now),
            Err(Refusal::not_in_flight())
        );
        assert_eq!(queue.receive(1, None, now).0.len(), 1);
    }

    #[test]
    fn nothing_is_lost_or_doubled_whatever_the_order_of_calls() {
        // A small deterministic generator; the seed repeats a failure.
        for seed in 0..50_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = move |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                usize::try_from(state % below as u64).unwrap()
            };
            let mut queue = Queue::new(
                QueueSpec::new("q.fifo")
                    .visibility_timeout(SECOND)
                    .redrive("dlq.fifo", 3),
            );
            let mut now = Moment::now();
            let (mut sent, mut deleted, mut dead) = (0, 0, 0);
            let mut handles = Vec::new();
            for _ in 0..300 {
                match random(4) {
                    0 => {
                        let group = ["a", "b", "c"][random(3)];
                        queue.send(draft(&sent.to_string(), Some(group)), now);
                        sent += 1;
                    }
                    1 => {
                        let (taken, moved) = queue.receive(random(10) + 1, None, now);
                        dead += moved.len();
                        let mut last: HashMap<String, usize> = HashMap::new();
                        for message in &taken {
                            let number: usize = message.body.parse().unwrap();
                            let before = last.insert(message.group.clone().unwrap(), number);
                            assert!(
                                before.is_none_or(|before| before < number),
                                "order, seed {seed}"
                            );
                        }
                        handles.extend(
                            taken
                                .into_iter()
                                .filter_map(|message| message.receipt_handle),
                        );
                    }
                    2 if !handles.is_empty() => {
                        let handle = handles.swap_remove(random(handles.len()));
                        deleted += usize::from(queue.delete(&handle).unwrap().is_some());
                    }
                    _ => now = later(now, SECOND / 2),
                }
                assert_eq!(queue.messages().len() + deleted + dead, sent, "seed {seed}");
            }
        }
    }
}
