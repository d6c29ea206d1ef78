//! Turns what the sink and the sandboxes wrote down into what the view draws.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use lambda_emulator::{Attributes, Entry, Event, OtlpSink, ReceivedSpan, Timeline, Value};

use crate::view::model::{Capture, Flush, Lane, Link, Mark, MarkKind, Nanos, Note, Span};

/// Everything that was seen until now.
pub fn take(sink: &OtlpSink, timeline: &Timeline, functions: &[&str]) -> Capture {
    let received = sink.spans();
    let entries = timeline.entries();
    Capture {
        spans: received.iter().map(span).collect(),
        lanes: functions.iter().map(|name| lane(name, &entries)).collect(),
        flushes: flushes(&received),
    }
}

fn span(received: &ReceivedSpan) -> Span {
    Span {
        trace_id: received.trace_id.clone(),
        span_id: received.span_id.clone(),
        parent_span_id: received.parent_span_id.clone(),
        name: received.name.clone(),
        kind: received.kind.to_owned(),
        start: nanos(received.start),
        end: nanos(received.end),
        error: received.status == "ERROR",
        status_message: received.status_message.clone(),
        attributes: pairs(&received.attributes),
        events: received
            .events
            .iter()
            .map(|event| Note {
                name: event.name.clone(),
                at: nanos(event.time),
                attributes: pairs(&event.attributes),
            })
            .collect(),
        links: received
            .links
            .iter()
            .map(|link| Link {
                trace_id: link.trace_id.clone(),
                span_id: link.span_id.clone(),
            })
            .collect(),
        resource: pairs(&received.resource),
        scope: received.scope.clone(),
        arrived: nanos(received.arrived.wall),
        acknowledged: received.acknowledged.map(|moment| nanos(moment.wall)),
    }
}

/// One flush for each request, and for each function whose spans it brought.
fn flushes(received: &[ReceivedSpan]) -> Vec<Flush> {
    let mut flushes: BTreeMap<(usize, String), Flush> = BTreeMap::new();
    for span in received {
        let lane = service(span).to_owned();
        let flush = flushes
            .entry((span.request, lane.clone()))
            .or_insert_with(|| Flush {
                lane,
                spans: 0,
                arrived: nanos(span.arrived.wall),
                acknowledged: span.acknowledged.map(|moment| nanos(moment.wall)),
            });
        flush.spans += 1;
    }
    flushes.into_values().collect()
}

/// What one sandbox did. A stretch that has not ended is drawn to the last thing that was written down.
fn lane(name: &str, entries: &[Entry]) -> Lane {
    let last = entries.last().map_or(0, |entry| nanos(entry.at.wall));
    let mut marks: Vec<Mark> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for entry in entries.iter().filter(|entry| *entry.source == *name) {
        let at = nanos(entry.at.wall);
        let began = match &entry.event {
            Event::InitBegan { .. } => Some(MarkKind::ColdStart),
            Event::InvocationBegan { .. } => Some(MarkKind::Invocation),
            Event::FreezeBegan { .. } => Some(MarkKind::Frozen),
            _ => None,
        };
        let ended = match &entry.event {
            Event::InitEnded { .. } => Some(MarkKind::ColdStart),
            // The freeze is the end that counts: the extension's last `/next` lies before it.
            Event::InvocationEnded { .. } => Some(MarkKind::Invocation),
            Event::FreezeEnded | Event::ShutdownBegan { .. } => Some(MarkKind::Frozen),
            _ => None,
        };
        if let Some(kind) = ended
            && let Some(place) = open.iter().rposition(|&mark| marks[mark].kind == kind)
        {
            marks[open.remove(place)].to = at;
        }
        if let Some(kind) = began {
            open.push(marks.len());
            marks.push(Mark {
                kind,
                from: at,
                to: last.max(at),
            });
        }
    }
    Lane {
        name: name.to_owned(),
        marks,
    }
}

/// Who made a span: its function's name.
pub fn service(span: &ReceivedSpan) -> &str {
    ["faas.name", "service.name"]
        .into_iter()
        .find_map(|name| span.resource.get(name)?.as_str())
        .unwrap_or_default()
}

/// Nanoseconds since 1970, as far as they fit.
pub fn nanos(time: SystemTime) -> Nanos {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Nanos::try_from(since.as_nanos()).unwrap_or(Nanos::MAX),
        Err(before) => {
            Nanos::try_from(before.duration().as_nanos()).map_or(Nanos::MIN, |nanos| -nanos)
        }
    }
}

fn pairs(attributes: &Attributes) -> Vec<(String, String)> {
    attributes
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// A value as a person would write it.
fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::List(list) => {
            format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let members = map
                .iter()
                .map(|(name, value)| format!("{name}: {}", text(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Empty => String::new(),
    }
}
