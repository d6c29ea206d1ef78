//! Reads what comes back: traces of Jaeger and Tempo, messages of SQS, lines of Lambda's log.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// One span as a query API tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Span {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) service: String,
    pub(super) name: String,
    pub(super) start_ms: f64,
    pub(super) end_ms: f64,
    /// String and boolean attributes.
    pub(super) attributes: BTreeMap<String, String>,
}

/// What a `REPORT` line of Lambda says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Report {
    pub(super) duration_ms: f64,
    pub(super) billed_ms: f64,
    pub(super) init_ms: Option<f64>,
    pub(super) memory_mb: f64,
}

/// The spans of one trace, in Jaeger's or Tempo's form; none when it is neither.
pub(super) fn spans(answer: &Value) -> Vec<Span> {
    if let Some(traces) = answer.get("data").and_then(Value::as_array) {
        return traces.iter().flat_map(jaeger).collect();
    }
    let trace = answer.get("trace").unwrap_or(answer);
    let resources = trace.get("batches").or_else(|| trace.get("resourceSpans"));
    list(resources).flat_map(otlp).collect()
}

fn jaeger(trace: &Value) -> Vec<Span> {
    let service = |span: &Value| {
        let process = span["processID"].as_str().unwrap_or_default();
        text(&trace["processes"][process]["serviceName"])
    };
    let parent = |span: &Value| {
        list(span.get("references"))
            .find(|reference| reference["refType"] == "CHILD_OF")
            .map(|reference| text(&reference["spanID"]))
    };
    list(trace.get("spans"))
        .map(|span| {
            // Jaeger counts microseconds.
            let start_ms = span["startTime"].as_f64().unwrap_or_default() / 1e3;
            Span {
                id: text(&span["spanID"]),
                parent: parent(span),
                service: service(span),
                name: text(&span["operationName"]),
                start_ms,
                end_ms: start_ms + span["duration"].as_f64().unwrap_or_default() / 1e3,
                attributes: list(span.get("tags"))
                    .map(|tag| (text(&tag["key"]), text(&tag["value"])))
                    .collect(),
            }
        })
        .collect()
}

fn otlp(resource: &Value) -> Vec<Span> {
    let service = attributes(resource["resource"].get("attributes"))
        .remove("service.name")
        .unwrap_or_default();
    // Nanoseconds as strings, as every 64-bit number of proto3 JSON.
    let millis = |value: &Value| text(value).parse::<f64>().unwrap_or_default() / 1e6;
    list(resource.get("scopeSpans"))
        .flat_map(|scope| list(scope.get("spans")))
        .map(|span| Span {
            id: text(&span["spanId"]),
            parent: Some(text(&span["parentSpanId"])).filter(|id| !id.is_empty()),
            service: service.clone(),
            name: text(&span["name"]),
            start_ms: millis(&span["startTimeUnixNano"]),
            end_ms: millis(&span["endTimeUnixNano"]),
            attributes: attributes(span.get("attributes")),
        })
        .collect()
}

fn attributes(found: Option<&Value>) -> BTreeMap<String, String> {
    list(found)
        .map(|attribute| {
            let value = attribute["value"]
                .as_object()
                .and_then(|value| value.values().next());
            (text(&attribute["key"]), value.map(text).unwrap_or_default())
        })
        .collect()
}

/// The spans whose parent is named and not in the trace.
pub(super) fn orphans(spans: &[Span]) -> Vec<&Span> {
    let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    spans
        .iter()
        .filter(|span| {
            span.parent
                .as_deref()
                .is_some_and(|parent| !known.contains(parent))
        })
        .collect()
}

/// Record spans of a service: those that name their message.
pub(super) fn records<'a>(spans: &'a [Span], service: &'a str) -> impl Iterator<Item = &'a Span> {
    spans.iter().filter(move |span| {
        span.service == service && span.attributes.contains_key("messaging.message.id")
    })
}

/// The first message of a `receive-message` answer.
pub(super) fn message(answer: &Value) -> Option<&Value> {
    answer.pointer("/Messages/0")
}

/// A `REPORT` line, as it stands in the log.
pub(super) fn report_line(line: &str) -> Option<Report> {
    if !line.starts_with("REPORT RequestId:") {
        return None;
    }
    let field = |name: &str| {
        line.split('\t')
            .find_map(|part| part.trim().strip_prefix(name))
            .and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok())
    };
    Some(Report {
        duration_ms: field("Duration:")?,
        billed_ms: field("Billed Duration:")?,
        init_ms: field("Init Duration:"),
        memory_mb: field("Max Memory Used:")?,
    })
}

/// Log events in the order of their time: milliseconds and text.
pub(super) fn log_events(answer: &Value) -> Vec<(f64, String)> {
    let mut events: Vec<(f64, String)> = list(answer.get("events"))
        .map(|event| {
            (
                event["timestamp"].as_f64().unwrap_or_default(),
                text(&event["message"]),
            )
        })
        .collect();
    events.sort_by(|left, right| left.0.total_cmp(&right.0));
    events
}

/// The JSON lines of the extension with this message.
pub(super) fn own_lines<'a>(
    events: &'a [(f64, String)],
    message: &'a str,
) -> impl Iterator<Item = (f64, Value)> + 'a {
    events.iter().filter_map(move |(at, line)| {
        let parsed: Value = serde_json::from_str(line.trim()).ok()?;
        (parsed["message"] == message).then_some((*at, parsed))
    })
}

/// The request id of a `REPORT` line.
pub(super) fn report_request(line: &str) -> Option<&str> {
    line.strip_prefix("REPORT RequestId:")?
        .split_whitespace()
        .next()
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// A string as it is, anything else as JSON writes it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jaeger_and_tempo_tell_the_same_spans() {
        let jaeger = json!({"data": [{
            "traceID": "0af7651916cd43dd8448eb211c80319c",
            "processes": {"p1": {"serviceName": "orders-consumer"}},
            "spans": [{
                "spanID": "b7ad6b7169203331", "processID": "p1", "operationName": "process orders",
                "references": [{"refType": "CHILD_OF", "spanID": "00f067aa0ba902b7"}],
                "startTime": 1_700_000_000_000_000_u64, "duration": 2500,
                "tags": [{"key": "messaging.message.id", "type": "string", "value": "m"}, {"key": "n", "value": 3}]
            }]
        }]});
        let resource = json!({
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "orders-consumer"}}]},
            "scopeSpans": [{"spans": [{
                "spanId": "b7ad6b7169203331", "parentSpanId": "00f067aa0ba902b7", "name": "process orders",
                "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000002500000",
                "attributes": [{"key": "messaging.message.id", "value": {"stringValue": "m"}}, {"key": "n", "value": {"intValue": "3"}}]
            }]}]
        });
        let tempo = json!({"batches": [resource.clone()]});
        let tempo_v2 = json!({"trace": {"resourceSpans": [resource]}});
        let expected = spans(&jaeger);
        assert_eq!(expected.len(), 1);
        assert_eq!(expected[0].parent.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(expected[0].attributes["n"], "3");
        assert!((expected[0].end_ms - expected[0].start_ms - 2.5).abs() < 1e-3);
        assert_eq!(spans(&tempo), expected);
        assert_eq!(spans(&tempo_v2), expected);
        assert_eq!(orphans(&expected).len(), 1);
        assert_eq!(records(&expected, "orders-consumer").count(), 1);
        assert_eq!(spans(&json!({"error": "not found"})), []);
    }

    #[test]
    fn report_lines_are_read_and_others_are_not() {
        let line = "REPORT RequestId: 3f6c\tDuration: 12.34 ms\tBilled Duration: 101 ms\tMemory Size: 256 MB\tMax Memory Used: 31 MB\tInit Duration: 88.01 ms\t\n";
        assert_eq!(
            report_line(line),
            Some(Report {
                duration_ms: 12.34,
                billed_ms: 101.0,
                init_ms: Some(88.01),
                memory_mb: 31.0
            })
        );
        assert_eq!(report_request(line), Some("3f6c"));
        let warm = line.split("\tInit").next().unwrap();
        assert_eq!(report_line(warm).unwrap().init_ms, None);
        for other in [
            "START RequestId: 3f6c Version: $LATEST",
            "REPORT RequestId: 3f6c\tDuration: x ms",
            "",
        ] {
            assert_eq!(report_line(other), None, "{other}");
        }
    }

    #[test]
    fn log_lines_come_in_order_and_our_own_are_found() {
        let answer = json!({"events": [
            {"timestamp": 20, "message": "{\"message\":\"ledger\",\"ledger\":{}}\n"},
            {"timestamp": 10, "message": "START"},
        ]});
        let events = log_events(&answer);
        assert_eq!(events[0].1, "START");
        assert_eq!(own_lines(&events, "ledger").count(), 1);
        assert_eq!(own_lines(&events, "flushed").count(), 0);
    }
}
