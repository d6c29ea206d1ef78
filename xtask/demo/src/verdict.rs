//! The demo's promises, checked on what was received and on the sandboxes' timeline.

use std::collections::BTreeSet;

use lambda_emulator::{Entry, Event, ReceivedSpan};

use crate::capture::service;
use crate::view::page::Verdict;

/// What must have come of a demo.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The producer's function name.
    pub producer: &'a str,
    /// The consumer's.
    pub consumer: &'a str,
    /// The dead-letter consumer's.
    pub dead_letters: &'a str,
    /// How many orders were sent.
    pub orders: usize,
    /// How many of them always fail.
    pub poisoned: usize,
    /// How often SQS delivers one before it gives it up.
    pub deliveries: usize,
}

/// Checks a whole demo.
pub fn of_demo(spans: &[ReceivedSpan], entries: &[Entry], expected: &Expected<'_>) -> Vec<Verdict> {
    vec![
        verdict(
            "every record is in one trace with its producer",
            strays(spans, expected),
        ),
        verdict(
            "every order was handled, and what always failed as a dead letter",
            fates(spans, expected),
        ),
        verdict(
            "every span was upstream before the freeze that followed it",
            late(spans, entries),
        ),
    ]
}

/// Checks the one invocation of `--event`: `records` record spans, all of them upstream in time.
pub fn of_event(spans: &[ReceivedSpan], entries: &[Entry], records: usize) -> Vec<Verdict> {
    let consumed = spans.iter().filter(|span| is_record(span)).count();
    let findings = match consumed == records {
        true => Vec::new(),
        false => vec![format!(
            "{consumed} record spans arrived for {records} records"
        )],
    };
    vec![
        verdict("every record has its span", findings),
        verdict(
            "every span was upstream before the freeze that followed it",
            late(spans, entries),
        ),
    ]
}

fn verdict(claim: &str, findings: Vec<String>) -> Verdict {
    Verdict {
        holds: findings.is_empty(),
        claim: claim.to_owned(),
        findings,
    }
}

/// A record's span, not a batch's.
fn is_record(span: &ReceivedSpan) -> bool {
    span.kind == "CONSUMER"
        && !span
            .attributes
            .contains_key("messaging.batch.message_count")
}

fn named(span: &ReceivedSpan) -> String {
    format!("{:?} of {} ({})", span.name, service(span), span.span_id)
}

/// Record spans that do not hang on a span of the producer, and traces beside the one.
fn strays(spans: &[ReceivedSpan], expected: &Expected<'_>) -> Vec<String> {
    let mut findings = Vec::new();
    for span in spans.iter().filter(|span| is_record(span)) {
        let parent = spans
            .iter()
            .find(|other| other.trace_id == span.trace_id && other.span_id == span.parent_span_id);
        match parent {
            Some(parent) if service(parent) == expected.producer => {}
            Some(parent) => findings.push(format!("{} hangs on {}", named(span), named(parent))),
            None => findings.push(format!("{} has no parent in its trace", named(span))),
        }
    }
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    if traces.len() > 1 {
        findings.push(format!(
            "{} traces instead of one: {traces:?}",
            traces.len()
        ));
    }
    if spans.is_empty() {
        findings.push("nothing arrived".into());
    }
    findings
}

/// Orders that were not delivered as often, or not with the end, that they should have been.
fn fates(spans: &[ReceivedSpan], expected: &Expected<'_>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut expect = |what: &str, found: usize, wanted: usize| {
        if found != wanted {
            findings.push(format!("{found} {what} instead of {wanted}"));
        }
    };
    let of = |name: &'_ str, failed: bool| {
        spans
            .iter()
            .filter(|span| is_record(span) && service(span) == name)
            .filter(|span| (span.status == "ERROR") == failed)
            .count()
    };
    let good = expected.orders - expected.poisoned;
    expect(
        "orders handled by the consumer",
        of(expected.consumer, false),
        good,
    );
    expect(
        "failed deliveries",
        of(expected.consumer, true),
        expected.poisoned * expected.deliveries,
    );
    expect(
        "dead letters handled",
        of(expected.dead_letters, false),
        expected.poisoned,
    );
    expect("dead letters failed", of(expected.dead_letters, true), 0);
    findings
}

/// Spans whose acknowledgement was not written down before the first freeze after their end.
pub fn late(spans: &[ReceivedSpan], entries: &[Entry]) -> Vec<String> {
    spans
        .iter()
        .filter_map(|span| late_by(span, entries))
        .collect()
}

fn late_by(span: &ReceivedSpan, entries: &[Entry]) -> Option<String> {
    // The span's end is another process's clock, of the same machine; from there on the timeline's order decides.
    let freeze = entries.iter().find(|entry| {
        *entry.source == *service(span)
            && matches!(entry.event, Event::FreezeBegan { .. })
            && entry.at.wall >= span.end
    });
    let Some(freeze) = freeze else {
        return Some(format!("{}: no freeze followed it", named(span)));
    };
    let answered = entries.iter().find(|entry| {
        matches!(entry.event, Event::SinkRequestAnswered { number, .. } if number == span.request)
    });
    match answered {
        Some(answered) if answered.seq < freeze.seq => None,
        Some(answered) => {
            let late = answered.at.since(freeze.at);
            Some(format!(
                "{}: upstream {late:?} after its sandbox had been frozen",
                named(span)
            ))
        }
        None => Some(format!("{}: its request was never answered", named(span))),
    }
}
