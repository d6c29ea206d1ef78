//! Log lines, one JSON object each, in the form Lambda's own log viewers understand.
//!
//! A line has `time`, `level`, `message` and further fields.
//! Nothing here is ever given a header's value.

use std::fmt;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Level {
    /// Every event.
    Trace,
    /// What a person who looks for a fault wants to see.
    Debug,
    /// The ledger at shutdown, and nothing else while all is well.
    #[default]
    Info,
    /// Something was lost, refused or is late.
    Warn,
    /// Something does not work at all.
    Error,
    /// No lines.
    Off,
}

static THRESHOLD: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Keys of [`once`] that have been said.
static SAID: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

// === impl Level ===

impl Level {
    /// The values of `THROUGHLINE_LOG_LEVEL`.
    pub const NAMES: &[(&str, Self)] = &[
        ("trace", Self::Trace),
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
        ("off", Self::Off),
    ];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Off => "OFF",
        })
    }
}

/// Sets the least important level that is written.
pub fn set_level(level: Level) {
    THRESHOLD.store(level as u8, Ordering::Relaxed);
}

/// Whether a line of this level would be written, for callers whose fields cost something.
pub fn enabled(level: Level) -> bool {
    level != Level::Off && level as u8 >= THRESHOLD.load(Ordering::Relaxed)
}

/// Writes one line.
pub fn line(level: Level, message: &str, fields: &[(&str, Value)]) {
    if !enabled(level) {
        return;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let text = format_line(now, level, message, fields);
    // A closed stdout is no reason to fail the function.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes one line, the first time this key is used.
pub fn once(key: &'static str, level: Level, message: &str, fields: &[(&str, Value)]) {
    let mut said = SAID
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !said.contains(&key) {
        said.push(key);
        drop(said);
        line(level, message, fields);
    }
}

/// Turns a panic's message into a line; the task that panicked is lost, the extension goes on.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("no message");
        line(
            Level::Error,
            "a part of the extension failed",
            &[("panic", text.into()), ("at", place.into())],
        );
    }));
}

fn format_line(now: Duration, level: Level, message: &str, fields: &[(&str, Value)]) -> String {
    let mut object = Map::new();
    object.insert("time".into(), timestamp(now).into());
    object.insert("level".into(), level.to_string().into());
    object.insert("message".into(), message.into());
    object.extend(
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    format!("{}\n", Value::Object(object))
}

/// RFC 3339 in UTC with milliseconds, from the time since 1970.
pub(crate) fn timestamp(unix: Duration) -> String {
    let (days, seconds) = (unix.as_secs() / 86_400, unix.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        unix.subsec_millis()
    )
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_338_764_194, "2026-11-22T09:12:44.194Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(timestamp(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_line_is_one_json_object() {
        let line = format_line(
            Duration::ZERO,
            Level::Warn,
            "a \"quoted\"\nmessage",
            &[("port", 4318.into())],
        );
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["message"], "a \"quoted\"\nmessage");
        assert_eq!(value["port"], 4318);
    }
}
