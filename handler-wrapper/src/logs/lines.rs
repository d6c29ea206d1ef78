//! One line of log per event, with the ids of the span it belongs to.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFields;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object a line, as CloudWatch expects it with Lambda's JSON log format. The default.
    #[default]
    Json,
    /// Words, and `key=value` pairs behind them.
    Text,
}

/// An event format for `tracing_subscriber::fmt` whose lines carry `trace_id`, `span_id`, the
/// request id and the message id of the record they were written for.
///
/// The ids are those of OpenTelemetry's current context, so they are right inside record spans,
/// `#[instrument]` functions and spans of the OpenTelemetry API alike, with any set of layers.
/// A field of the event that is called like one of ours is written as `fields.<name>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    format: LineFormat,
}

impl Lines {
    /// Lines in the given format.
    #[must_use]
    pub fn new(format: LineFormat) -> Self {
        Self { format }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::new(self.format);
        let metadata = event.metadata();
        line.head(SystemTime::now(), metadata.level().as_str());
        event.record(&mut line);
        line.text("target", metadata.target());
        Context::map_current(|cx| line.ids(cx));
        writeln!(writer, "{}", line.finish())
    }
}

/// The keys that are ours.
const OURS: [&str; 8] = [
    "timestamp",
    "level",
    "target",
    "trace_id",
    "span_id",
    "trace_flags",
    "requestId",
    "messageId",
];

struct Line {
    format: LineFormat,
    message: String,
    out: String,
}

impl Line {
    fn new(format: LineFormat) -> Self {
        Self {
            format,
            message: String::new(),
            out: String::with_capacity(256),
        }
    }

    fn head(&mut self, now: SystemTime, level: &str) {
        let time = Rfc3339(now);
        // Writing to a string does not fail.
        let _ = match self.format {
            LineFormat::Json => write!(self.out, r#"{{"timestamp":"{time}","level":"{level}""#),
            LineFormat::Text => write!(self.out, "{time} {level}"),
        };
    }

    fn ids(&mut self, cx: &Context) {
        let span = cx.span();
        let context = span.span_context();
        if context.is_valid() {
            self.text("trace_id", &context.trace_id().to_string());
            self.text("span_id", &context.span_id().to_string());
            self.text(
                "trace_flags",
                &format!("{:02x}", context.trace_flags().to_u8()),
            );
        }
        if let Some(fields) = cx.get::<LogFields>() {
            // A worker that polls has no invocation.
            if !fields.request_id.is_empty() {
                self.text("requestId", &fields.request_id);
            }
            if let Some(id) = &fields.message_id {
                self.text("messageId", id);
            }
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        match self.format {
            LineFormat::Json => self.raw(key, &quoted(value)),
            LineFormat::Text if value.contains([' ', '"', '=']) => self.raw(key, &quoted(value)),
            LineFormat::Text => self.raw(key, value),
        }
    }

    fn raw(&mut self, key: &str, value: &str) {
        let _ = match self.format {
            LineFormat::Json => write!(self.out, ",{}:{value}", quoted(key)),
            LineFormat::Text => write!(self.out, " {key}={value}"),
        };
    }

    fn user(&mut self, field: &Field, value: &str, is_text: bool) {
        let name = field.name();
        if name == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let renamed;
        let key = if OURS.contains(&name) {
            renamed = format!("fields.{name}");
            &renamed
        } else {
            name
        };
        if is_text {
            self.text(key, value);
        } else {
            self.raw(key, value);
        }
    }

    fn finish(mut self) -> String {
        let message = std::mem::take(&mut self.message);
        match self.format {
            LineFormat::Json => {
                self.raw("message", &quoted(&message));
                self.out.push('}');
            }
            // A line is one line: what would end it is written as an escape.
            LineFormat::Text => {
                let _ = write!(self.out, " {message}");
                self.out = self.out.replace('\n', "\\n").replace('\r', "\\r");
            }
        }
        self.out
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.user(field, &format!("{value:?}"), true);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.user(field, value, true);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.user(field, &value.to_string(), true);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.user(field, &value.to_string(), false);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.user(field, &value.to_string(), false);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.user(field, if value { "true" } else { "false" }, false);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        self.user(field, &serde_json::Value::from(value).to_string(), false);
    }
}

/// A time in UTC to the millisecond, as `2026-11-22T11:28:26.123Z`.
struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // The civil date of a day number; eras of 400 years are 146,097 days, beginning in March.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_millis()
        )
    }
}

#[cfg(test)]
pub(super) fn rfc3339(time: SystemTime) -> String {
    Rfc3339(time).to_string()
}
