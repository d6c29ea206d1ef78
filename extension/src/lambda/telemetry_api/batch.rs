//! One batch of the Telemetry API as events of the lifecycle: tolerant, and pure.

use std::time::Duration;

use serde_json::Value;

use crate::lifecycle::Event;

/// Braces without an end that are passed over in one batch.
const UNCLOSED_MAX: u32 = 16;

/// Reads a batch event by event; what cannot be read is skipped, and what follows it is not.
pub(super) fn parse(batch: &[u8]) -> Vec<Event> {
    let mut events: Vec<Event> = objects(batch)
        .filter_map(|object| serde_json::from_slice(object).ok())
        .map(|event| parse_event(&event))
        .collect();
    if events.is_empty() && !batch.is_empty() {
        // Not one event could be read, but somebody spoke.
        events.push(Event::Telemetry);
    }
    events
}

fn parse_event(event: &Value) -> Event {
    let record = &event["record"];
    match (event["type"].as_str(), record["requestId"].as_str()) {
        (Some("platform.runtimeDone"), Some(request)) => Event::RuntimeDone {
            request: request.to_owned(),
            success: record["status"].as_str() == Some("success"),
            time: event["time"].as_str().and_then(parse_time),
        },
        _ => Event::Telemetry,
    }
}

/// The outermost `{…}` of a text, whether or not the rest of it is JSON.
/// Behind an object that is never closed the search goes on a few times: each one reads to the end.
fn objects(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut at, mut unclosed) = (0, 0);
    std::iter::from_fn(move || {
        while unclosed < UNCLOSED_MAX {
            let begin = at + text.get(at..)?.iter().position(|byte| *byte == b'{')?;
            if let Some(length) = object_length(&text[begin..]) {
                at = begin + length;
                return Some(&text[begin..at]);
            }
            at = begin + 1;
            unclosed += 1;
        }
        None
    })
}

fn object_length(text: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (index, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// `2026-11-22T11:28:24.123Z` as Unix time, any number of digits behind the point.
fn parse_time(text: &str) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let valid =
        (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid
        || hour > 23
        || minute > 59
        || second > 60
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Duration::new(seconds, nanos))
}

/// Days from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(request: &str, success: bool) -> Event {
        let time = parse_time("2026-11-22T09:12:44.194Z");
        Event::RuntimeDone {
            request: request.into(),
            success,
            time,
        }
    }

    fn event(kind: &str, record: &str) -> String {
        format!("{{\"time\":\"2026-11-22T09:12:44.194Z\",\"type\":\"{kind}\",\"record\":{record}}}")
    }

    #[test]
    fn a_batch_as_lambda_sends_it() {
        let batch = format!(
            "[{},{},{}]",
            event("platform.start", r#"{"requestId":"r1"}"#),
            event(
                "platform.runtimeDone",
                r#"{"requestId":"r1","status":"success","metrics":{"durationMs":1.5}}"#
            ),
            event(
                "platform.runtimeDone",
                r#"{"requestId":"r2","status":"timeout"}"#
            ),
        );
        assert_eq!(
            parse(batch.as_bytes()),
            [Event::Telemetry, done("r1", true), done("r2", false)]
        );
    }

    #[test]
    fn unknown_events_and_records_do_not_hide_the_others() {
        let good = event(
            "platform.runtimeDone",
            r#"{"requestId":"r","status":"success","metrics":{"durationMs":"1,5"}}"#,
        );
        for odd in [
            "null",
            "7",
            "\"}{\"",
            "{}",
            "{\"type\":7}",
            "{\"type\":\"platform.new\",\"record\":[1.5,{}]}",
            "{bad}",
        ] {
            let batch = format!("[{odd},{good}]");
            assert_eq!(
                parse(batch.as_bytes()).last(),
                Some(&done("r", true)),
                "{odd}"
            );
        }
    }

    #[test]
    fn a_batch_that_is_cut_off_keeps_its_whole_events() {
        let good = event(
            "platform.runtimeDone",
            r#"{"requestId":"r","status":"success"}"#,
        );
        let batch = format!("[{good},{good}");
        for end in 0..batch.len() {
            let events = parse(&batch.as_bytes()[..end]);
            let whole = events
                .iter()
                .filter(|event| **event == done("r", true))
                .count();
            assert_eq!(whole, usize::from(end > good.len()), "{end}");
        }
        assert_eq!(parse(b"]["), [Event::Telemetry]);
        assert_eq!(parse(b""), []);
    }

    #[test]
    fn a_hostile_batch_is_read_in_bounded_time() {
        let braces = vec![b'{'; 20_000];
        assert_eq!(parse(&braces), [Event::Telemetry]);
    }

    #[test]
    fn times() {
        let millis = |text| parse_time(text).map(|time| time.as_millis());
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2000-02-29T00:00:00.000Z"), Some(951_782_400_000));
        assert_eq!(millis("2026-11-22T09:12:44.194Z"), Some(1_795_338_764_194));
        assert_eq!(
            millis("2026-11-22T09:12:44.194999999Z"),
            Some(1_795_338_764_194)
        );
        for odd in [
            "",
            "2026-11-22",
            "2026-11-22T09:12:44",
            "2026-13-22T09:12:44Z",
            "0000-01-01T00:00:00Z",
            "T:Z",
        ] {
            assert_eq!(millis(odd), None, "{odd}");
        }
    }
}
