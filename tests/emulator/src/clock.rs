//! Moments: one instant read from both clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One instant, read from the wall clock and from the monotonic clock.
///
/// Orderings are taken from `mono`; `wall` is for people and for spans.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall clock.
    pub wall: SystemTime,
    /// Monotonic clock, of this process.
    pub mono: Instant,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            mono: Instant::now(),
        }
    }

    /// Milliseconds since 1970 of the wall clock.
    pub fn unix_ms(&self) -> u64 {
        unix_ms(self.wall)
    }

    /// Time that passed since `earlier`, zero when `earlier` is later.
    pub fn since(&self, earlier: Moment) -> Duration {
        self.mono.saturating_duration_since(earlier.mono)
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.mono == other.mono
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.mono.cmp(&other.mono)
    }
}

/// Milliseconds since 1970, zero for what is before.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    u64::try_from(
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis(),
    )
    .unwrap_or(u64::MAX)
}

/// Writes a time as `2026-11-22T11:28:24.123Z`, the way Lambda's telemetry does.
pub fn iso8601(time: SystemTime) -> String {
    let ms = unix_ms(time);
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second, milli) = (
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000,
    );
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Gregorian date of a count of days since 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Eras of 400 years that begin on March 1st, so that the leap day is the last of its year.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
