//! Scripted faults of the Telemetry API.

use std::time::Duration;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TelemetryFault {
    /// Events of that type never come.
    Lose(String),
    /// Events of that type reach the buffer so much later.
    Delay(String, Duration),
    /// A `platform.runtimeDone` comes twice.
    Duplicate,
    /// Before each `platform.runtimeDone` comes one of another request, dated a minute earlier.
    OlderFirst,
    /// The events of a batch come in the opposite order.
    Reversed,
    /// Types, fields and shapes that nobody has heard of come with each `platform.start`.
    Unknown,
    /// Events of a SnapStart restore come with each `platform.start`.
    Restore,
    /// Whole numbers come as fractions.
    Fractional,
    /// Batches are cut in the middle.
    InvalidJson,
}

/// The faults of a sandbox; none by default.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TelemetryFaults {
    pub(super) refused: bool,
    pub(super) silent: bool,
    pub(super) at_once: bool,
    always: Vec<TelemetryFault>,
    by_invocation: Vec<(usize, TelemetryFault)>,
}

impl TelemetryFaults {
    /// The subscription is answered with 202 `Telemetry.NotSupported`, as by AWS's emulator.
    pub fn refuse(mut self) -> Self {
        self.refused = true;
        self
    }

    /// The subscription is answered with 200 and nothing ever comes, as by `cargo lambda watch`.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// No fault but a help for measuring: events are delivered without buffering.
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Events of that type never come.
    pub fn lose(self, kind: impl Into<String>) -> Self {
        self.always(TelemetryFault::Lose(kind.into()))
    }

    /// Events of that type reach the buffer so much later.
    pub fn delay(self, kind: impl Into<String>, by: Duration) -> Self {
        self.always(TelemetryFault::Delay(kind.into(), by))
    }

    /// Before each `platform.runtimeDone` comes one of another request, dated a minute earlier.
    pub fn older_request_first(self) -> Self {
        self.always(TelemetryFault::OlderFirst)
    }

    /// The events of a batch come in the opposite order.
    pub fn reversed(self) -> Self {
        self.always(TelemetryFault::Reversed)
    }

    /// Types, fields and shapes that nobody has heard of come with each `platform.start`.
    pub fn unknown_events(self) -> Self {
        self.always(TelemetryFault::Unknown)
    }

    /// Events of a SnapStart restore come with each `platform.start`.
    pub fn restore_events(self) -> Self {
        self.always(TelemetryFault::Restore)
    }

    /// Whole numbers come as fractions.
    pub fn fractional_numbers(self) -> Self {
        self.always(TelemetryFault::Fractional)
    }

    /// Batches are cut in the middle.
    pub fn invalid_json(self) -> Self {
        self.always(TelemetryFault::InvalidJson)
    }

    /// A fault of every invocation.
    pub fn always(mut self, fault: TelemetryFault) -> Self {
        self.always.push(fault);
        self
    }

    /// A fault of one invocation, by its number in the sandbox, from 0.
    pub fn for_invocation(mut self, number: usize, fault: TelemetryFault) -> Self {
        self.by_invocation.push((number, fault));
        self
    }

    /// Those that apply to an event of that invocation (`None`: of none, such as those of init).
    pub(super) fn of(&self, invocation: Option<usize>) -> impl Iterator<Item = &TelemetryFault> {
        let own = self
            .by_invocation
            .iter()
            .filter(move |(number, _)| Some(*number) == invocation);
        self.always.iter().chain(own.map(|(_, fault)| fault))
    }

    pub(super) fn has(&self, invocation: Option<usize>, fault: &TelemetryFault) -> bool {
        self.of(invocation).any(|one| one == fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_one_invocation_stay_with_it() {
        let faults = TelemetryFaults::default()
            .reversed()
            .for_invocation(2, TelemetryFault::InvalidJson);
        assert!(faults.has(None, &TelemetryFault::Reversed));
        assert!(faults.has(Some(2), &TelemetryFault::InvalidJson));
        assert!(!faults.has(Some(1), &TelemetryFault::InvalidJson));
        assert!(!faults.has(None, &TelemetryFault::InvalidJson));
    }
}
