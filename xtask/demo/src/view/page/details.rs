//! Everything that is known about a span: what opens below its row and hovers beside it.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::view::axis::Axis;
use crate::view::model::Span;
use crate::view::text::{html, length, moment};

/// Writes the details of the span with this number.
pub(super) fn write(
    out: &mut String,
    number: usize,
    span: &Span,
    axis: &Axis,
    rows: &HashMap<(&str, &str), usize>,
) {
    let _ = write!(
        out,
        "<div class=\"detail\" id=\"d{number}\"><div class=\"card\">"
    );
    section(out, "Span", &facts(span, axis));
    section(out, "Attributes", &escaped(&span.attributes));
    if !span.events.is_empty() {
        let events: Vec<(String, String)> = span
            .events
            .iter()
            .map(|event| {
                let attributes: Vec<String> = event
                    .attributes
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let offset = length(event.at - span.start);
                (
                    html(&format!("+{offset} {}", event.name)),
                    html(&attributes.join(" ")),
                )
            })
            .collect();
        section(out, "Events", &events);
    }
    if !span.links.is_empty() {
        let links: Vec<(String, String)> = span
            .links
            .iter()
            .map(|link| {
                let known = rows.get(&(link.trace_id.as_str(), link.span_id.as_str()));
                let id = html(&link.span_id);
                let target = match known {
                    Some(row) => format!("<a href=\"#r{row}\">{id}</a>"),
                    None => format!("{id} of trace {}", html(&link.trace_id)),
                };
                ("links to".to_owned(), target)
            })
            .collect();
        section(out, "Links", &links);
    }
    section(out, "Resource", &escaped(&span.resource));
    out.push_str("</div></div>");
}

/// A table of names and values; both are markup already.
fn section(out: &mut String, title: &str, pairs: &[(String, String)]) {
    let _ = write!(out, "<div><h3>{title}</h3>");
    if pairs.is_empty() {
        out.push_str("<p>none</p>");
    } else {
        out.push_str("<table>");
        for (name, value) in pairs {
            let _ = write!(out, "<tr><th>{name}</th><td>{value}</td></tr>");
        }
        out.push_str("</table>");
    }
    out.push_str("</div>");
}

fn escaped(pairs: &[(String, String)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| (html(name), html(value)))
        .collect()
}

fn facts(span: &Span, axis: &Axis) -> Vec<(String, String)> {
    let mut facts = vec![
        ("kind", html(&span.kind)),
        ("service", html(span.service())),
    ];
    if span.error {
        let text = if span.status_message.is_empty() {
            "error"
        } else {
            &span.status_message
        };
        facts.push(("status", html(&format!("error: {text}"))));
    }
    facts.push((
        "start",
        format!(
            "{} (+{})",
            moment(span.start),
            length(span.start - axis.start())
        ),
    ));
    facts.push(("length", length(span.nanos())));
    facts.push(("trace", html(&span.trace_id)));
    facts.push(("span", html(&span.span_id)));
    if !span.parent_span_id.is_empty() {
        facts.push(("parent", html(&span.parent_span_id)));
    }
    facts.push(("scope", html(&span.scope)));
    let upstream = match span.acknowledged {
        Some(at) => format!("acknowledged {} after its end", length(at - span.end)),
        None => "not acknowledged".to_owned(),
    };
    facts.push(("upstream", upstream));
    facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
