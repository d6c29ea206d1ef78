use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LineFormat, work: impl FnOnce()) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = fmt::layer()
        .event_format(Lines::new(format))
        .with_writer(move || writer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
    String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
}

fn in_record(work: impl FnOnce()) {
    let span = SpanContext::new(
        TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128),
        SpanId::from(0xb7ad_6b71_6920_3331_u64),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    );
    let fields = LogFields {
        request_id: "req-1".into(),
        message_id: Some("m-1".into()),
    };
    let cx = Context::new()
        .with_remote_span_context(span)
        .with_value(fields);
    let _guard = cx.attach();
    work();
}

#[test]
fn a_json_line_carries_the_ids_of_its_record() {
    let text = logged(LineFormat::Json, || {
        in_record(|| {
            tracing::info!(
                count = 3,
                ok = true,
                ratio = f64::NAN,
                name = "a \"b\"\nc",
                "hello"
            );
        });
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["message"], "hello");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["count"], 3);
    assert_eq!(line["ok"], true);
    assert_eq!(line["ratio"], Value::Null);
    assert_eq!(line["name"], "a \"b\"\nc");
    assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(line["span_id"], "b7ad6b7169203331");
    assert_eq!(line["trace_flags"], "01");
    assert_eq!(line["requestId"], "req-1");
    assert_eq!(line["messageId"], "m-1");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_field_named_like_ours_does_not_make_a_second_key() {
    let text = logged(LineFormat::Json, || {
        in_record(|| tracing::info!(trace_id = "theirs", level = 9, "x"));
    });
    assert_eq!(text.matches("\"trace_id\"").count(), 1);
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["fields.trace_id"], "theirs");
    assert_eq!(line["fields.level"], 9);
}

#[test]
fn without_a_span_there_are_no_ids() {
    let text = logged(LineFormat::Json, || tracing::warn!("alone"));
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line.get("trace_id"), None);
    assert_eq!(line["level"], "WARN");
}

#[test]
fn a_text_line_stays_one_line() {
    let text = logged(LineFormat::Text, || {
        in_record(|| tracing::info!(id = 7, "two\nlines"));
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains(" id=7 ") && text.contains("span_id=b7ad6b7169203331"),
        "{text}"
    );
}

#[test]
fn times_are_written_in_utc() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.007Z"),
        (951_782_400, "2000-02-29T00:00:00.007Z"),
        (1_795_346_906, "2026-11-22T11:28:26.007Z"),
        (4_102_444_799, "2099-12-31T23:59:59.007Z"),
    ] {
        let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(7);
        assert_eq!(lines::rfc3339(time), expected);
    }
}
