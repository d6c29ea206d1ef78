//! Where every item is: received = exported + rejected + dropped + buffered + in flight, at every moment.
//!
//! Items are spans, data points and log records.
//! Each method moves items from one column to another, so that the identity cannot be broken by a caller;
//! [`Account::balances`] is asserted after each move in tests.

use serde_json::{Map, Value, json};

use crate::otlp::Signal;

/// Why items were dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The buffer was full and these were the oldest.
    Overflow,
    /// One item alone is larger than the buffer or than upstream takes.
    TooLarge,
    /// The sandbox ended before upstream had taken them.
    Shutdown,
}

/// The columns of one signal.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Account {
    /// Items that clients handed over.
    pub received: u64,
    /// Items that upstream acknowledged.
    pub exported: u64,
    /// Items that upstream refused for good.
    pub rejected: u64,
    /// Items dropped because the buffer was full.
    pub overflow: u64,
    /// Items dropped because they were too large.
    pub too_large: u64,
    /// Items dropped because the sandbox ended.
    pub shutdown: u64,
    /// Items waiting here.
    pub buffered: u64,
    /// Items on their way, not acknowledged yet.
    pub in_flight: u64,
}

/// The accounts of all signals.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ledger {
    accounts: [Account; 3],
}

// === impl Account ===

impl Account {
    /// Items dropped, whatever the cause.
    pub fn dropped(&self) -> u64 {
        self.overflow + self.too_large + self.shutdown
    }

    /// Whether the identity holds.
    pub fn balances(&self) -> bool {
        self.received
            == self.exported + self.rejected + self.dropped() + self.buffered + self.in_flight
    }

    fn to_json(self) -> Value {
        json!({
            "received": self.received,
            "exported": self.exported,
            "rejected": self.rejected,
            "dropped": { "overflow": self.overflow, "too_large": self.too_large, "shutdown": self.shutdown },
            "buffered": self.buffered,
            "in_flight": self.in_flight,
        })
    }
}

// === impl Ledger ===

impl Ledger {
    /// The columns of one signal.
    pub fn account(&self, signal: Signal) -> &Account {
        &self.accounts[signal.index()]
    }

    /// Items dropped of all signals.
    pub fn dropped(&self) -> u64 {
        self.accounts.iter().map(Account::dropped).sum()
    }

    /// Whether the identity holds for every signal.
    pub fn balances(&self) -> bool {
        self.accounts.iter().all(Account::balances)
    }

    /// The value of `ledger` in the ledger line.
    pub fn to_json(&self) -> Value {
        let rows = Signal::ALL
            .map(|signal| (item_name(signal).to_owned(), self.account(signal).to_json()));
        Value::Object(Map::from_iter(rows))
    }

    pub(crate) fn received(&mut self, signal: Signal, items: u64) {
        let account = self.change(signal);
        account.received += items;
        account.buffered += items;
    }

    pub(crate) fn sent(&mut self, signal: Signal, items: u64) {
        let account = self.change(signal);
        account.buffered -= items;
        account.in_flight += items;
    }

    pub(crate) fn put_back(&mut self, signal: Signal, items: u64) {
        let account = self.change(signal);
        account.in_flight -= items;
        account.buffered += items;
    }

    /// Of `items` in flight upstream took all but `rejected`, which may be more than there are: a server's mistake.
    pub(crate) fn acknowledged(&mut self, signal: Signal, items: u64, rejected: u64) {
        let rejected = rejected.min(items);
        let account = self.change(signal);
        account.in_flight -= items;
        account.rejected += rejected;
        account.exported += items - rejected;
    }

    pub(crate) fn dropped_from_buffer(&mut self, signal: Signal, items: u64, cause: Cause) {
        let account = self.change(signal);
        account.buffered -= items;
        match cause {
            Cause::Overflow => account.overflow += items,
            Cause::TooLarge => account.too_large += items,
            Cause::Shutdown => account.shutdown += items,
        }
    }

    fn change(&mut self, signal: Signal) -> &mut Account {
        &mut self.accounts[signal.index()]
    }
}

/// What one item of a signal is called in the ledger.
pub fn item_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "spans",
        Signal::Metrics => "data_points",
        Signal::Logs => "log_records",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_every_column() {
        let mut ledger = Ledger::default();
        ledger.received(Signal::Traces, 10);
        ledger.sent(Signal::Traces, 4);
        ledger.acknowledged(Signal::Traces, 3, 1);
        ledger.dropped_from_buffer(Signal::Traces, 2, Cause::Overflow);
        assert!(ledger.balances());
        assert_eq!(
            ledger.to_json()["spans"],
            json!({
                "received": 10, "exported": 2, "rejected": 1,
                "dropped": { "overflow": 2, "too_large": 0, "shutdown": 0 },
                "buffered": 4, "in_flight": 1,
            })
        );
        let names: Vec<String> = ledger
            .to_json()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(names, ["data_points", "log_records", "spans"]);
    }

    #[test]
    fn a_server_cannot_reject_more_than_it_was_sent() {
        let mut ledger = Ledger::default();
        ledger.received(Signal::Logs, 3);
        ledger.sent(Signal::Logs, 3);
        ledger.acknowledged(Signal::Logs, 3, u64::MAX);
        assert!(ledger.balances());
        assert_eq!(ledger.account(Signal::Logs).rejected, 3);
    }
}
