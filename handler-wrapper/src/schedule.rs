//! Which record may start next.
//!
//! A standard queue's records are all processed, whatever fails. A FIFO queue's order is kept: what
//! follows a failure must not overtake it. A queue is FIFO when its name ends in `.fifo`, never
//! because its records have a `MessageGroupId`: since July 2025 fair queues, which are standard
//! queues, have one too.

use std::collections::{HashMap, HashSet};

/// What a failure means for the records that have not been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Standard queue: nothing.
    GoOn,
    /// FIFO: none of them is started.
    Stop,
    /// FIFO: none of the same message group is started.
    SkipGroup,
}

/// The records of one batch that wait to be started.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// The group of each record; empty when order does not matter.
    groups: Vec<usize>,
    started: Vec<bool>,
    /// Everything before it is started or will never be.
    head: usize,
    busy: HashSet<usize>,
    skipped: HashSet<usize>,
    stopped: bool,
    on_failure: OnFailure,
}

impl Schedule {
    /// A standard queue's batch of `records` records.
    pub(crate) fn standard(records: usize) -> Self {
        Self {
            groups: Vec::new(),
            started: vec![false; records],
            head: 0,
            busy: HashSet::new(),
            skipped: HashSet::new(),
            stopped: false,
            on_failure: OnFailure::GoOn,
        }
    }

    /// A FIFO queue's batch, by the message group of each record.
    ///
    /// Records without a group, which SQS does not send, count as one group.
    pub(crate) fn fifo<'a>(
        groups: impl Iterator<Item = Option<&'a str>>,
        on_failure: OnFailure,
    ) -> Self {
        let mut known = HashMap::new();
        let groups: Vec<usize> = groups
            .map(|group| {
                let next = known.len();
                *known.entry(group).or_insert(next)
            })
            .collect();
        Self {
            started: vec![false; groups.len()],
            groups,
            on_failure,
            ..Self::standard(0)
        }
    }

    /// Takes the record to start now; `None` while there is none that may start.
    ///
    /// In a FIFO queue a record waits for the one before it in its group. The caller bounds how
    /// many run at once; with one at a time the order is that of the batch.
    pub(crate) fn next(&mut self) -> Option<usize> {
        if self.stopped {
            return None;
        }
        while self.started.get(self.head).copied().unwrap_or(false) {
            self.head += 1;
        }
        let may_start = |index: &usize| match self.groups.get(*index) {
            _ if self.started[*index] => false,
            None => true,
            Some(group) => !self.busy.contains(group) && !self.skipped.contains(group),
        };
        let index = (self.head..self.started.len()).find(may_start)?;
        self.started[index] = true;
        if let Some(group) = self.groups.get(index) {
            self.busy.insert(*group);
        }
        Some(index)
    }

    /// Tells that a record which [`next`](Self::next) gave out has ended.
    pub(crate) fn on_end(&mut self, index: usize, succeeded: bool) {
        let group = self.groups.get(index).copied();
        if let Some(group) = group {
            self.busy.remove(&group);
        }
        if succeeded {
            return;
        }
        match (self.on_failure, group) {
            (OnFailure::GoOn, _) => {}
            (OnFailure::SkipGroup, Some(group)) => {
                self.skipped.insert(group);
            }
            (OnFailure::Stop | OnFailure::SkipGroup, _) => self.stopped = true,
        }
    }

    /// Starts nothing more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }
}
