//! The same picture as one page: no server, no network, nothing beside the file.

mod details;

use std::collections::HashMap;
use std::fmt::Write as _;

use super::axis::Axis;
use super::model::{Lane, MarkKind, Nanos, Span};
use super::story::{Ending, Message, Row, Story, Trace};
use super::terminal::{lane_notes, short_type};
use super::text::{count, html, length, moment};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The share of the width that one cut takes.
const CUT_WIDTH: f64 = 0.075;

/// Something that was checked, with a word about what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// What was checked.
    pub claim: String,
    /// What is wrong, one finding a line; empty when it holds.
    pub findings: Vec<String>,
}

/// What stands around the picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// The page's heading.
    pub title: String,
    /// A line below it.
    pub about: String,
    /// Checks, shown at the top.
    pub verdicts: Vec<Verdict>,
}

/// Writes the page.
pub fn draw(story: &Story, frame: &Frame) -> String {
    let axis = story.axis(CUT_WIDTH);
    let services: Vec<&str> = story.services();
    let page = Page {
        story,
        axis,
        services,
        rows: row_numbers(story),
    };
    let mut out = String::with_capacity(64 * 1024);
    // The policy lets nothing be loaded: a page that is opened from a file stays a file.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"top\"><h1>{title}</h1><p class=\"sub\">{about}</p>{verdicts}</header>\n<main>\n",
        title = html(&frame.title),
        about = html(&frame.about),
        verdicts = verdicts(&frame.verdicts),
    );
    for (number, trace) in story.traces.iter().enumerate() {
        page.trace(&mut out, number, trace);
    }
    if !story.lanes.is_empty() {
        page.lanes(&mut out);
    }
    let _ = write!(
        out,
        "</main>\n<footer>Drawn from {} that the OTLP sink decoded{}. \
         Idle time is cut out of the axis where it is shaded; the cut's length stands above it.</footer>\n\
         <div id=\"tip\" role=\"tooltip\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        count(story.spans.len(), "span"),
        if story.repeated > 0 {
            format!(
                "; {} came twice and count once",
                count(story.repeated, "span")
            )
        } else {
            String::new()
        },
    );
    out
}

struct Page<'a> {
    story: &'a Story,
    axis: Axis,
    services: Vec<&'a str>,
    /// The row of each span, by trace and span id.
    rows: HashMap<(&'a str, &'a str), usize>,
}

/// Numbers the spans through all traces: the numbers are what the page's ids are made of.
fn row_numbers(story: &Story) -> HashMap<(&str, &str), usize> {
    let spans = story.spans.iter().enumerate();
    spans
        .map(|(number, span)| ((span.trace_id.as_str(), span.span_id.as_str()), number))
        .collect()
}

fn verdicts(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let mut out = String::from("<ul class=\"checks\" aria-label=\"Checks\">");
    for verdict in verdicts {
        let (class, sign) = if verdict.holds {
            ("yes", "✓")
        } else {
            ("no", "✗")
        };
        let _ = write!(out, "<li class=\"{class}\">{sign} {}", html(&verdict.claim));
        if !verdict.findings.is_empty() {
            let _ = write!(out, "<pre>{}</pre>", html(&verdict.findings.join("\n")));
        }
        out.push_str("</li>");
    }
    out.push_str("</ul>");
    out
}

impl Page<'_> {
    fn trace(&self, out: &mut String, number: usize, trace: &Trace) {
        let mut services: Vec<&str> = Vec::new();
        for row in &trace.rows {
            let service = self.story.span(row).service();
            if !services.contains(&service) {
                services.push(service);
            }
        }
        if !trace.messages.is_empty() {
            self.messages(out, number, trace);
        }
        let _ = write!(
            out,
            "<section class=\"panel fall\" aria-labelledby=\"t{number}\">\n<header><h2 id=\"t{number}\">Trace \
             <span class=\"mono\">{id}</span></h2><span class=\"sub\">{facts}</span><span class=\"grow\"></span>\
             <span class=\"tools\"><span class=\"keys\"><kbd>↑</kbd> <kbd>↓</kbd> move <kbd>Enter</kbd> details \
             <kbd>Esc</kbd> close</span><label><input type=\"checkbox\" class=\"errors\"> only errors</label></span>\
             <div class=\"legend\" style=\"flex-basis:100%\">",
            id = html(&trace.id),
            facts = format_args!(
                "{}, {}, {}",
                count(trace.rows.len(), "span"),
                count(services.len(), "service"),
                length(trace.to - trace.from)
            ),
        );
        for service in &services {
            let name = if service.is_empty() {
                "unnamed service"
            } else {
                service
            };
            let _ = write!(
                out,
                "<span class=\"{}\"><i></i>{}</span>",
                self.colour(service),
                html(name)
            );
        }
        out.push_str("<span><i class=\"wait\"></i>in a queue</span></div></header>\n");
        self.axis(out);
        out.push_str("<ul class=\"rows\">\n");
        let failing = failing_lines(self.story, trace);
        for (row, failing) in trace.rows.iter().zip(failing) {
            self.row(out, row, failing);
        }
        out.push_str("</ul>\n</section>\n");
    }

    /// What became of each message, before any bar: the first thing that somebody on call asks.
    fn messages(&self, out: &mut String, number: usize, trace: &Trace) {
        let _ = write!(
            out,
            "<section class=\"panel\" aria-labelledby=\"m{number}\"><header><h2 id=\"m{number}\">Messages</h2>\
             <span class=\"sub\">{}</span></header><div class=\"scroll\"><table class=\"messages\"><thead><tr>\
             <th>Message</th><th>Queue</th><th>What became of it</th><th class=\"n\">Deliveries</th>\
             <th class=\"n\">In queues</th><th>Last error</th></tr></thead><tbody>",
            count(trace.messages.len(), "message")
        );
        for message in &trace.messages {
            self.message(out, message);
        }
        out.push_str("</tbody></table></div></section>\n");
    }

    fn message(&self, out: &mut String, message: &Message) {
        let spans: Vec<&Span> = message
            .deliveries
            .iter()
            .map(|&span| &self.story.spans[span])
            .collect();
        let failures = spans.iter().filter(|span| span.error).count();
        let (class, fate) = match self.story.ending(message) {
            Ending::Handled if failures == 0 => ("good", "✓ handled".to_owned()),
            Ending::Handled => (
                "warn",
                format!("✓ handled after {}", count(failures, "failure")),
            ),
            Ending::DeadLettered => (
                "bad",
                format!("☠ dead letter after {}", count(failures, "failure")),
            ),
            Ending::Failed => ("bad", "✗ failed".to_owned()),
        };
        let last = spans.iter().rev().find(|span| span.error);
        let error = last.map_or("", |span| {
            span.attribute("error.type").unwrap_or(&span.status_message)
        });
        let first = message.deliveries.first().copied().unwrap_or(0);
        let id = if message.id.is_empty() {
            "no id"
        } else {
            &message.id
        };
        let _ = write!(
            out,
            "<tr><td><a class=\"mono\" href=\"#r{first}\">{}</a></td><td>{}</td><td class=\"fate {class}\">{fate}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"mono\">{}</td></tr>",
            html(id),
            html(&message.queue),
            spans.len(),
            if message.waited > 0 {
                length(message.waited)
            } else {
                "–".to_owned()
            },
            html(short_type(error)),
        );
    }

    fn axis(&self, out: &mut String) {
        let _ = write!(
            out,
            "<div class=\"line axis\" aria-hidden=\"true\" style=\"{0}\"><span></span><span class=\"track\">",
            self.cuts()
        );
        let mut free_from = 0.0;
        for piece in self.axis.pieces() {
            if piece.cut {
                let middle = (piece.left + piece.right) / 2.0 * 100.0;
                let _ = write!(
                    out,
                    "<span class=\"skip\" style=\"left:{middle:.3}%\">{}</span>",
                    length(piece.to - piece.from)
                );
            } else if piece.right - piece.left > 0.09 && piece.left >= free_from {
                let offset = piece.from - self.axis.start();
                let text = if offset == 0 {
                    "0".to_owned()
                } else {
                    format!("+{}", length(offset))
                };
                let _ = write!(
                    out,
                    "<span class=\"tick\" style=\"left:{:.3}%\">{text}</span>",
                    piece.left * 100.0
                );
                free_from = piece.left + 0.08;
            }
        }
        out.push_str("</span><span></span></div>\n");
    }

    /// The shaded stripes of the cuts, as one background that every line shares.
    fn cuts(&self) -> String {
        let mut stops = String::new();
        for piece in self.axis.pieces().iter().filter(|piece| piece.cut) {
            let (left, right) = (piece.left * 100.0, piece.right * 100.0);
            let _ = write!(
                stops,
                ",transparent {left:.3}%,var(--cut) {left:.3}%,var(--cut) {right:.3}%,transparent {right:.3}%"
            );
        }
        if stops.is_empty() {
            String::new()
        } else {
            format!("--cuts:linear-gradient(90deg{stops})")
        }
    }

    fn row(&self, out: &mut String, row: &Row, failing: bool) {
        let span = self.story.span(row);
        let number = row.span;
        let classes = [
            "row",
            self.colour(span.service()),
            if span.error { "err" } else { "" },
            if failing { "has-err" } else { "" },
        ]
        .join(" ");
        let _ = write!(
            out,
            "<li class=\"{}\"><button type=\"button\" class=\"line\" id=\"r{number}\" aria-expanded=\"true\" \
             aria-controls=\"d{number}\" style=\"{}\"><span class=\"label\">",
            classes.trim_end(),
            self.cuts()
        );
        for (level, more) in row.more.iter().enumerate() {
            let class = match (level + 1 == row.more.len(), more) {
                (true, true) => "t",
                (true, false) => "l",
                (false, true) => "v",
                (false, false) => "",
            };
            let _ = write!(out, "<span class=\"g {class}\"></span>");
        }
        let _ = write!(
            out,
            "<span class=\"words\"><span class=\"dot\"></span><bdi class=\"name\">{}</bdi>{}</span></span>\
             <span class=\"track\">",
            html(&span.name),
            tags(row, span),
        );
        if let Some((from, to)) = row.wait {
            let tight = self.axis.at(to) - self.axis.at(from) < 0.07;
            let _ = write!(
                out,
                "<i class=\"wait-bar{}\" style=\"{}\"><b><span class=\"hidden-words\">in the queue </span>{}</b></i>",
                if tight { " tight" } else { "" },
                self.place(from, to),
                length(to - from)
            );
        }
        let _ = write!(
            out,
            "<i class=\"bar\" style=\"{}\"></i></span><span class=\"time\">{}</span></button>",
            self.place(span.start, span.end),
            length(span.nanos())
        );
        details::write(out, number, span, &self.axis, &self.rows);
        out.push_str("</li>\n");
    }

    fn lanes(&self, out: &mut String) {
        out.push_str(
            "<section class=\"panel fall lane\" aria-labelledby=\"lanes\"><header><h2 id=\"lanes\">Sandboxes</h2>\
             <span class=\"sub\">what each function's sandbox did, on the same axis</span><span class=\"grow\"></span>\
             <div class=\"legend\"><span><i class=\"cold\"></i>cold start</span><span><i></i>invocation</span>\
             <span><i class=\"sent\"></i>spans acknowledged upstream</span>\
             <span><i class=\"frozen\"></i>frozen</span></div></header>\n",
        );
        self.axis(out);
        out.push_str("<ul class=\"rows\">\n");
        for lane in &self.story.lanes {
            self.lane(out, lane);
        }
        out.push_str("</ul></section>\n");
    }

    fn lane(&self, out: &mut String, lane: &Lane) {
        let _ = write!(
            out,
            "<li class=\"{}\"><div class=\"line\" style=\"{}\"><span class=\"label\"><span class=\"words\">\
             <bdi class=\"name\">{}</bdi><span class=\"facts\">{}</span></span></span><span class=\"track\">",
            self.colour(&lane.name),
            self.cuts(),
            html(&lane.name),
            lane_notes(&lane.marks),
        );
        for mark in &lane.marks {
            let (class, what) = match mark.kind {
                MarkKind::ColdStart => ("cold", "cold start"),
                MarkKind::Invocation => ("run", "invocation"),
                MarkKind::Frozen => ("frozen", "frozen"),
            };
            let _ = write!(
                out,
                "<i class=\"mark {class}\" style=\"{}\" title=\"{what}, {}, from {}\"></i>",
                self.place(mark.from, mark.to),
                length(mark.to - mark.from),
                moment(mark.from),
            );
        }
        for flush in self
            .story
            .flushes
            .iter()
            .filter(|flush| flush.lane == lane.name)
        {
            let at = flush.acknowledged.unwrap_or(flush.arrived);
            let _ = write!(
                out,
                "<i class=\"mark sent\" style=\"left:{:.3}%\" title=\"{} acknowledged upstream at {}{}\"></i>",
                self.axis.at(at) * 100.0,
                count(flush.spans, "span"),
                moment(at),
                before_freeze(lane, at),
            );
        }
        out.push_str("</span><span></span></div></li>\n");
    }

    fn colour(&self, service: &str) -> &'static str {
        let place = self
            .services
            .iter()
            .position(|known| *known == service)
            .unwrap_or(0);
        ["s0", "s1", "s2", "s3", "s4", "s5"][place % 6]
    }

    fn place(&self, from: Nanos, to: Nanos) -> String {
        let left = self.axis.at(from) * 100.0;
        let right = self.axis.at(to.max(from)) * 100.0;
        format!("left:{left:.3}%;width:{:.3}%", (right - left).max(0.0))
    }
}

fn tags(row: &Row, span: &Span) -> String {
    let mut tags = String::new();
    let mut tag = |class: &str, text: &str| {
        let _ = write!(tags, "<span class=\"tag {class}\">{}</span>", html(text));
    };
    if row.stray {
        tag("", "parent not received");
    }
    if span.consumes() {
        if let Some(source) = span.dead_letter_of() {
            tag("dead", &format!("☠ dead letter of {source}"));
        } else if let Some(attempt) = span.attempt() {
            tag("", &format!("attempt {attempt}"));
        }
    }
    if span.error {
        let kind = span.attribute("error.type").unwrap_or(&span.status_message);
        tag("bad", format!("✗ {}", short_type(kind)).trim_end());
    }
    if row.cold {
        tag("cold", "cold start");
    }
    tags
}

/// For each row whether it failed or something below it did: the rows that "only errors" leaves.
fn failing_lines(story: &Story, trace: &Trace) -> Vec<bool> {
    let mut failing = vec![false; trace.rows.len()];
    let mut deepest_failure = None;
    for (index, row) in trace.rows.iter().enumerate().rev() {
        let depth = row.more.len();
        failing[index] =
            story.span(row).error || deepest_failure.is_some_and(|failed| depth < failed);
        if failing[index] {
            deepest_failure = Some(depth);
        } else if deepest_failure.is_some_and(|failed| depth < failed) {
            deepest_failure = None;
        }
    }
    failing
}

/// How long before the next freeze something was done.
fn before_freeze(lane: &Lane, at: Nanos) -> String {
    let freezes = lane
        .marks
        .iter()
        .filter(|mark| mark.kind == MarkKind::Frozen);
    let next = freezes
        .map(|mark| mark.from)
        .filter(|&from| from >= at)
        .min();
    next.map_or(String::new(), |from| {
        format!(", {} before the freeze", length(from - at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    fn frame() -> Frame {
        Frame {
            title: "Orders, from the request to the dead letter".into(),
            about: "made by hand".into(),
            verdicts: vec![
                Verdict {
                    holds: true,
                    claim: "one trace".into(),
                    findings: vec![],
                },
                Verdict {
                    holds: false,
                    claim: "before the freeze".into(),
                    findings: vec!["b<3".into()],
                },
            ],
        }
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = draw(&Story::of(samples::demo()), &frame());
        for way in [
            "src=", "url(", "@import", "<link", "http://", "https://", "fetch(", "<iframe",
        ] {
            assert!(!page.contains(way), "{way} in the page");
        }
    }

    #[test]
    fn every_span_has_a_row_and_its_details() {
        let story = Story::of(samples::demo());
        let page = draw(&story, &frame());
        for (number, span) in story.spans.iter().enumerate() {
            assert_eq!(page.matches(&format!("id=\"r{number}\"")).count(), 1);
            assert_eq!(page.matches(&format!("id=\"d{number}\"")).count(), 1);
            for (name, value) in &span.attributes {
                assert!(page.contains(name.as_str()) && page.contains(value.as_str()));
            }
        }
        assert!(page.contains("b&lt;3"), "findings are escaped");
    }

    #[test]
    fn hostile_spans_add_no_markup() {
        let frame = frame();
        let tags = |page: &str| {
            let mut tags: Vec<String> = page
                .split('<')
                .skip(1)
                .map(|tag| {
                    tag.split(['>', ' ', '\n'])
                        .next()
                        .unwrap_or("")
                        .to_lowercase()
                })
                .collect();
            tags.sort_unstable();
            tags.dedup();
            tags
        };
        let evil = draw(&Story::of(samples::hostile()), &frame);
        assert_eq!(evil.matches("<script").count(), 1);
        assert_eq!(evil.matches("<style").count(), 1);
        assert!(!evil.contains("<img") && !evil.contains('\u{202e}') && !evil.contains('\u{1b}'));
        let honest = tags(&draw(&Story::of(samples::demo()), &frame));
        assert!(
            tags(&evil).iter().all(|tag| honest.contains(tag)),
            "{:?}",
            tags(&evil)
        );
    }

    #[test]
    fn only_errors_keeps_the_way_to_each_error() {
        let story = Story::of(samples::demo());
        let trace = &story.traces[0];
        let kept: Vec<_> = trace
            .rows
            .iter()
            .zip(failing_lines(&story, trace))
            .filter(|(_, failing)| *failing)
            .map(|(row, _)| story.span(row).span_id.as_str())
            .collect();
        assert_eq!(kept, ["a1", "a3", "c1", "c2", "c3", "c4"]);
    }

    /// `THROUGHLINE_SAMPLE_PAGE=FILE cargo test -p xtask-demo` leaves the page of the hand-made spans to be looked at.
    #[test]
    fn the_page_can_be_looked_at() {
        let page = draw(&Story::of(samples::demo()), &frame());
        assert!(page.len() < 200_000, "{} bytes", page.len());
        if let Some(file) = std::env::var_os("THROUGHLINE_SAMPLE_PAGE") {
            std::fs::write(file, page).unwrap();
        }
    }
}
