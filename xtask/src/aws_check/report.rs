//! Compares what was observed with what the sandbox promised, and writes it down.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::Options;
use super::observe::{self, Span};
use super::plan::{TRIES, XRAY_HEADER};

/// Everything that came back.
#[derive(Debug, Default)]
pub(super) struct Observations {
    /// Answers by the name of their call.
    pub(super) answers: BTreeMap<&'static str, Value>,
    /// Calls that failed, in one line each.
    pub(super) failures: Vec<String>,
    /// When the check began and ended, in UTC.
    pub(super) began: String,
    pub(super) ended: String,
}

/// How an observation stands to its promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    AsPromised,
    Differs,
    /// There is no promise, only a question that the sandbox cannot answer.
    Measured,
    NotSeen,
}

/// One line of the report.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) question: &'static str,
    pub(super) promised: String,
    pub(super) seen: String,
    pub(super) verdict: Verdict,
}

/// The whole report as Markdown.
pub(super) fn written(options: &Options, observed: &Observations) -> String {
    let mut text = format!(
        "# What AWS did with the demo's orders\n\nFrom {} to {} UTC, stack `{}`, {}, `THROUGHLINE_FLUSH=end`, {} orders and one that fails.\n\n\
         | question | the sandbox says | seen | verdict |\n|---|---|---|---|\n",
        observed.began, observed.ended, options.stack, options.architecture, options.orders
    );
    for finding in findings(options, observed) {
        writeln!(
            text,
            "| {} | {} | {} | {} |",
            finding.question,
            cell(&finding.promised),
            cell(&finding.seen),
            finding.verdict.word()
        )
        .expect("a String takes everything");
    }
    if !observed.failures.is_empty() {
        text.push_str("\n## Calls that failed\n\n");
        for failure in &observed.failures {
            writeln!(text, "- {}", cell(failure)).expect("a String takes everything");
        }
    }
    text
}

/// What was found, question by question.
pub(super) fn findings(options: &Options, observed: &Observations) -> Vec<Finding> {
    let spans = observed
        .answers
        .get("trace")
        .map(observe::spans)
        .unwrap_or_default();
    let events = observed
        .answers
        .get("log")
        .map(observe::log_events)
        .unwrap_or_default();
    let mut findings = trace(options, &spans);
    findings.extend(flushes(&events));
    findings.extend(durations(&events, observed.answers.get("post-runtime")));
    findings.push(ledger(&events));
    findings.extend(header(observed));
    findings
}

fn trace(options: &Options, spans: &[Span]) -> Vec<Finding> {
    let nothing = spans.is_empty();
    let consumed: Vec<&Span> = observe::records(spans, "orders-consumer").collect();
    let failed = consumed
        .iter()
        .filter(|span| span.attributes.contains_key("error.type"))
        .count();
    let dead: Vec<&Span> = observe::records(spans, "orders-dead-letters").collect();
    let named = dead
        .iter()
        .filter(|span| {
            span.attributes
                .contains_key("throughline.dead_letter.source")
        })
        .count();
    let orphans = observe::orphans(spans).len();
    let expected = options.orders + TRIES;
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let gaps: Vec<f64> = consumed
        .iter()
        .filter_map(|span| Some(span.start_ms - by_id.get(span.parent.as_deref()?)?.end_ms))
        .collect();
    vec![
        compared(
            nothing,
            "records in the producer's trace",
            expected.to_string(),
            consumed.len().to_string(),
        ),
        compared(
            nothing,
            "of these, with an error (the tries of the order that fails)",
            TRIES.to_string(),
            failed.to_string(),
        ),
        compared(
            nothing,
            "dead letters in the same trace, naming their queue",
            "1".into(),
            named.to_string(),
        ),
        compared(
            nothing,
            "spans whose parent is missing",
            "0".into(),
            orphans.to_string(),
        ),
        measured(
            "from the producer's span to the record's, ms (negative: clocks differ)",
            &gaps,
        ),
    ]
}

/// The extension says at debug level that an invocation's flush ended; Lambda's REPORT follows the freeze.
fn flushes(events: &[(f64, String)]) -> Vec<Finding> {
    let frozen: BTreeMap<&str, f64> = events
        .iter()
        .filter_map(|(at, line)| Some((observe::report_request(line)?, *at)))
        .collect();
    let flushed: Vec<(f64, Value)> = observe::own_lines(events, "flushed").collect();
    let pairs: Vec<(f64, f64)> = flushed
        .iter()
        .filter_map(|(at, line)| Some((*at, *frozen.get(line["request_id"].as_str()?)?)))
        .collect();
    let in_time = pairs
        .iter()
        .filter(|(flush, freeze)| flush <= freeze)
        .count();
    let latency: Vec<f64> = flushed
        .iter()
        .filter_map(|(_, line)| line["telemetry_ms"].as_f64())
        .collect();
    let held: Vec<f64> = flushed
        .iter()
        .filter_map(|(_, line)| line["held_ms"].as_f64())
        .collect();
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for (_, line) in &flushed {
        let end = line["ended_by"].as_str().unwrap_or("not told");
        *ends.entry(end.to_owned()).or_default() += 1;
    }
    let ends: Vec<String> = ends
        .iter()
        .map(|(end, count)| format!("{end}: {count}"))
        .collect();
    vec![
        told(
            "what ended the invocations",
            (!ends.is_empty()).then(|| ends.join(", ")),
        ),
        compared(
            pairs.is_empty(),
            "flushes that ended before the invocation's REPORT",
            format!("{0} of {0}", pairs.len()),
            format!("{in_time} of {}", pairs.len()),
        ),
        measured("from the end signal to `/next`, ms", &held),
        measured(
            "the function's end as the Telemetry API tells it, later by ms",
            &latency,
        ),
    ]
}

fn durations(events: &[(f64, String)], metric: Option<&Value>) -> Vec<Finding> {
    let reports: Vec<observe::Report> = events
        .iter()
        .filter_map(|(_, line)| observe::report_line(line))
        .collect();
    let all = |of: fn(&observe::Report) -> Option<f64>| {
        reports.iter().filter_map(of).collect::<Vec<f64>>()
    };
    let points: Vec<f64> = metric
        .and_then(|metric| metric["Datapoints"].as_array())
        .into_iter()
        .flatten()
        .filter_map(|point| point["Average"].as_f64())
        .collect();
    vec![
        measured(
            "the consumer's duration, ms",
            &all(|report| Some(report.duration_ms)),
        ),
        measured(
            "the consumer's billed duration, ms",
            &all(|report| Some(report.billed_ms)),
        ),
        measured("its init, ms", &all(|report| report.init_ms)),
        measured("its memory, MB", &all(|report| Some(report.memory_mb))),
        measured("PostRuntimeExtensionsDuration, hourly average, ms", &points),
    ]
}

fn ledger(events: &[(f64, String)]) -> Finding {
    let lines: Vec<Value> = observe::own_lines(events, "ledger")
        .map(|(_, line)| line)
        .collect();
    let dropped: f64 = lines
        .iter()
        .filter_map(|line| line.pointer("/ledger/spans/dropped")?.as_object())
        .flat_map(|causes| causes.values().filter_map(Value::as_f64))
        .sum();
    compared(
        lines.is_empty(),
        "spans dropped, by the ledgers of ended sandboxes",
        format!("0 in {} ledgers", lines.len()),
        format!("{dropped} in {} ledgers", lines.len()),
    )
}

/// Not documented by AWS, so the sandbox promises nothing.
fn header(observed: &Observations) -> Vec<Finding> {
    let sent_id = observed
        .answers
        .get("header sent")
        .and_then(|answer| answer["MessageId"].as_str());
    let mut findings = Vec::new();
    for (call, kept, id, count) in [
        (
            "dead letter",
            "AWSTraceHeader after the move to the dead-letter queue",
            "message id after the move",
            "receive count after the move",
        ),
        (
            "redriven",
            "AWSTraceHeader after a redrive",
            "message id after the redrive",
            "receive count after the redrive",
        ),
    ] {
        let message = observed.answers.get(call).and_then(observe::message);
        let attribute =
            |name: &str| message.and_then(|message| message["Attributes"][name].as_str());
        findings.push(told(
            kept,
            message.map(|_| match attribute("AWSTraceHeader") {
                Some(XRAY_HEADER) => "unchanged".to_owned(),
                Some(other) => format!("changed to `{other}`"),
                None => "gone".to_owned(),
            }),
        ));
        findings.push(told(
            id,
            message.and_then(|message| {
                let same = message["MessageId"].as_str()? == sent_id?;
                Some(if same { "the same" } else { "another" }.to_owned())
            }),
        ));
        findings.push(told(
            count,
            attribute("ApproximateReceiveCount").map(str::to_owned),
        ));
    }
    findings
}

fn compared(nothing: bool, question: &'static str, promised: String, seen: String) -> Finding {
    let verdict = match (nothing, promised == seen) {
        (true, _) => Verdict::NotSeen,
        (false, true) => Verdict::AsPromised,
        (false, false) => Verdict::Differs,
    };
    Finding {
        question,
        promised,
        seen,
        verdict,
    }
}

fn told(question: &'static str, seen: Option<String>) -> Finding {
    Finding {
        question,
        promised: "nothing".into(),
        verdict: if seen.is_some() {
            Verdict::Measured
        } else {
            Verdict::NotSeen
        },
        seen: seen.unwrap_or_default(),
    }
}

fn measured(question: &'static str, values: &[f64]) -> Finding {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let seen = match sorted.as_slice() {
        [] => None,
        [first, .., last] => Some(format!(
            "{first:.1} to {last:.1}, median {:.1}, {} values",
            sorted[sorted.len() / 2],
            sorted.len()
        )),
        [only] => Some(format!("{only:.1}, one value")),
    };
    told(question, seen)
}

/// Text that cannot break a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

// === impl Verdict ===

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::AsPromised => "as promised",
            Self::Differs => "**differs**",
            Self::Measured => "measured",
            Self::NotSeen => "not seen",
        }
    }
}

#[cfg(test)]
mod tests;
