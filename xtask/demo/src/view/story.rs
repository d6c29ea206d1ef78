//! What happened, worked out of the spans: trees, waits in queues, attempts, and what became of each message.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::axis::{self, Axis};
use super::model::{Capture, Flush, Lane, MarkKind, Nanos, Span};

/// How deep a tree is drawn; what hangs lower is drawn at this depth. Chosen: spans are hostile input.
const DEPTH_MAX: usize = 32;

/// A run, ready to be drawn.
#[derive(Clone, Debug)]
pub struct Story {
    /// Every span once, in no order.
    pub spans: Vec<Span>,
    /// Traces by their first span.
    pub traces: Vec<Trace>,
    /// Sandboxes in the order they started.
    pub lanes: Vec<Lane>,
    /// Requests at the sink in their order.
    pub flushes: Vec<Flush>,
    /// When something happened: what an axis for all of it has to show.
    busy: Vec<(Nanos, Nanos)>,
    /// How many spans came a second time: the wire promises at least once.
    pub repeated: usize,
}

/// One trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// 32 hex digits.
    pub id: String,
    /// Its spans, parents before children.
    pub rows: Vec<Row>,
    /// Its messages, by their first delivery.
    pub messages: Vec<Message>,
    /// First start.
    pub from: Nanos,
    /// Last end.
    pub to: Nanos,
}

/// A line of the waterfall.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which of [`Story::spans`].
    pub span: usize,
    /// For each level above whether more siblings follow there, then for the row itself.
    pub more: Vec<bool>,
    /// Its time in the queue, when it handles a message whose sender is known.
    pub wait: Option<(Nanos, Nanos)>,
    /// Whether it ran in the first invocation of a sandbox.
    pub cold: bool,
    /// Whether it names a parent that was not received.
    pub stray: bool,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id as its first consumer saw it, empty when unknown.
    pub id: String,
    /// The queue it was sent to, empty when unknown.
    pub queue: String,
    /// Spans that handled it, in their order.
    pub deliveries: Vec<usize>,
    /// Its waits in queues, together.
    pub waited: Nanos,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// A consumer took it.
    Handled,
    /// The consumer of the dead-letter queue took it.
    DeadLettered,
    /// The last we saw of it was a failure.
    Failed,
}

impl Story {
    /// Works it out.
    pub fn of(capture: Capture) -> Self {
        let received = capture.spans.len();
        let mut seen = HashSet::new();
        let spans: Vec<Span> = capture
            .spans
            .into_iter()
            .filter(|span| seen.insert((span.trace_id.clone(), span.span_id.clone())))
            .collect();
        let repeated = received - spans.len();
        let mut lanes = capture.lanes;
        lanes.sort_by_key(|lane| lane.marks.first().map(|mark| mark.from));
        let busy = spans
            .iter()
            .map(|span| (span.start, span.end))
            .chain(lanes.iter().flat_map(|lane| {
                let ran = lane
                    .marks
                    .iter()
                    .filter(|mark| mark.kind == MarkKind::Invocation);
                ran.map(|mark| (mark.from, mark.to))
            }))
            .chain(
                capture
                    .flushes
                    .iter()
                    .map(|flush| (flush.arrived, flush.acknowledged.unwrap_or(flush.arrived))),
            )
            .chain(cold_ends(&lanes));
        let busy = busy.collect();
        let traces = traces(&spans, &lanes);
        Self {
            spans,
            traces,
            lanes,
            flushes: capture.flushes,
            busy,
            repeated,
        }
    }

    /// One axis for all of it, see [`Axis::of`].
    pub fn axis(&self, cut_width: f64) -> Axis {
        Axis::of(self.busy.iter().copied(), cut_width)
    }

    /// The span of a row.
    pub fn span(&self, row: &Row) -> &Span {
        &self.spans[row.span]
    }

    /// How a message ended.
    pub fn ending(&self, message: &Message) -> Ending {
        let deliveries = message.deliveries.iter().map(|&span| &self.spans[span]);
        match deliveries.max_by_key(|span| span.end) {
            Some(last) if last.error => Ending::Failed,
            Some(last) if last.dead_letter_of().is_some() => Ending::DeadLettered,
            _ => Ending::Handled,
        }
    }

    /// All services, by their first span, each with a place in the list.
    pub fn services(&self) -> Vec<&str> {
        let mut first: BTreeMap<&str, Nanos> = BTreeMap::new();
        for span in &self.spans {
            let start = first.entry(span.service()).or_insert(span.start);
            *start = (*start).min(span.start);
        }
        let mut services: Vec<_> = first.into_iter().collect();
        services.sort_by_key(|(_, start)| *start);
        services.into_iter().map(|(service, _)| service).collect()
    }
}

/// The ends of the cold starts, each as a moment: what lies inside of one may be cut, for a start takes many
/// times as long as the spans that everybody wants to see. Those that overlap count as one.
fn cold_ends(lanes: &[Lane]) -> Vec<(Nanos, Nanos)> {
    let marks = lanes.iter().flat_map(|lane| &lane.marks);
    let starts = marks.filter(|mark| mark.kind == MarkKind::ColdStart);
    axis::merge(starts.map(|mark| (mark.from, mark.to)))
        .into_iter()
        .flat_map(|(from, to)| [(from, from), (to, to)])
        .collect()
}

/// Splits spans by trace.
fn traces(spans: &[Span], lanes: &[Lane]) -> Vec<Trace> {
    let mut by_trace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, span) in spans.iter().enumerate() {
        by_trace.entry(&span.trace_id).or_default().push(index);
    }
    let mut traces: Vec<Trace> = by_trace
        .into_iter()
        .map(|(id, members)| trace(id, &members, spans, lanes))
        .collect();
    traces.sort_by_key(|trace| trace.from);
    traces
}

fn trace(id: &str, members: &[usize], spans: &[Span], lanes: &[Lane]) -> Trace {
    let family = Family::of(members, spans);
    let rows = family.rows(spans, lanes);
    let messages = messages(&rows, spans);
    Trace {
        id: id.to_owned(),
        from: members
            .iter()
            .map(|&span| spans[span].start)
            .min()
            .unwrap_or(0),
        to: members
            .iter()
            .map(|&span| spans[span].end)
            .max()
            .unwrap_or(0),
        rows,
        messages,
    }
}

/// Who is whose child, within one trace.
struct Family<'a> {
    members: Vec<usize>,
    by_id: HashMap<&'a str, usize>,
    children: HashMap<usize, Vec<usize>>,
    /// Spans that send a batch, by the ids of the spans they link to.
    senders: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Family<'a> {
    fn of(members: &[usize], spans: &'a [Span]) -> Self {
        let mut members = members.to_vec();
        members.sort_by_key(|&span| (spans[span].start, spans[span].end));
        let by_id: HashMap<&str, usize> = members
            .iter()
            .map(|&span| (spans[span].span_id.as_str(), span))
            .collect();
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut senders: HashMap<&str, Vec<usize>> = HashMap::new();
        for &span in &members {
            if let Some(&parent) = by_id.get(spans[span].parent_span_id.as_str()) {
                children.entry(parent).or_default().push(span);
            }
            if !spans[span].consumes() {
                for link in &spans[span].links {
                    senders.entry(&link.span_id).or_default().push(span);
                }
            }
        }
        Self {
            members,
            by_id,
            children,
            senders,
        }
    }

    /// Parents before children. Every member comes once, even when parents form a circle.
    fn rows(&self, spans: &[Span], lanes: &[Lane]) -> Vec<Row> {
        let is_root = |span: &usize| {
            !self
                .by_id
                .contains_key(spans[*span].parent_span_id.as_str())
        };
        let roots = self.members.iter().copied().filter(is_root);
        // Members of a circle hang under no root: each not yet drawn then starts a tree.
        let starts: Vec<usize> = roots.chain(self.members.iter().copied()).collect();
        let mut drawn = HashSet::new();
        let mut rows = Vec::new();
        for start in starts {
            let mut open = vec![(start, Vec::new())];
            while let Some((span, more)) = open.pop() {
                if !drawn.insert(span) {
                    continue;
                }
                let children = self.children.get(&span).map_or(&[][..], Vec::as_slice);
                for (left, &child) in children.iter().rev().enumerate() {
                    let mut deeper = more.clone();
                    deeper.truncate(DEPTH_MAX);
                    deeper.push(left > 0);
                    open.push((child, deeper));
                }
                rows.push(Row {
                    span,
                    more,
                    wait: self.wait(span, spans),
                    cold: is_cold(&spans[span], lanes),
                    stray: is_root(&span) && !spans[span].parent_span_id.is_empty(),
                });
            }
        }
        rows
    }

    /// From the moment the message was sent, or its last delivery ended, to the start of this delivery.
    fn wait(&self, span: usize, spans: &[Span]) -> Option<(Nanos, Nanos)> {
        let own = &spans[span];
        let &parent = self.by_id.get(own.parent_span_id.as_str())?;
        if !own.consumes() || spans[parent].consumes() {
            return None;
        }
        let sent = std::iter::once(&parent)
            .chain(
                self.senders
                    .get(own.parent_span_id.as_str())
                    .into_iter()
                    .flatten(),
            )
            .map(|&span| spans[span].end)
            .filter(|&end| end <= own.start)
            .max();
        let earlier = self.children.get(&parent).into_iter().flatten();
        let tried = earlier
            .filter(|&&other| other != span && spans[other].consumes())
            .filter(|&&other| same_message(&spans[other], own))
            .map(|&other| spans[other].end)
            .filter(|&end| end <= own.start)
            .max();
        // The attempt before it comes last in the message's life. Without either, the sender's clock is ahead or
        // the message was quicker than the answer to its sender.
        let from = tried.or(sent).unwrap_or(spans[parent].start);
        (from < own.start).then_some((from, own.start))
    }
}

/// Deliveries of one message have one parent; where several messages share it, the message's id tells them apart.
fn same_message(a: &Span, b: &Span) -> bool {
    let id = |span: &Span| span.attribute("messaging.message.id").map(str::to_owned);
    a.parent_span_id == b.parent_span_id
        && (id(a) == id(b) || a.dead_letter_of().is_some() != b.dead_letter_of().is_some())
}

/// Whether a span began in its sandbox's first invocation.
fn is_cold(span: &Span, lanes: &[Lane]) -> bool {
    let entry = matches!(span.kind.as_str(), "SERVER" | "CONSUMER");
    entry
        && lanes
            .iter()
            .filter(|lane| lane.name == span.service())
            .any(|lane| {
                // A sandbox is started anew after a crash: every start has its own first invocation.
                let starts = lane
                    .marks
                    .iter()
                    .enumerate()
                    .filter(|(_, mark)| mark.kind == MarkKind::ColdStart);
                starts.into_iter().any(|(index, _)| {
                    let first = lane.marks[index..]
                        .iter()
                        .find(|mark| mark.kind == MarkKind::Invocation);
                    first.is_some_and(|mark| (mark.from..=mark.to).contains(&span.start))
                })
            })
}

fn messages(rows: &[Row], spans: &[Span]) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let consumed = rows.iter().filter(|row| {
        let span = &spans[row.span];
        span.consumes() && span.attribute("messaging.batch.message_count").is_none()
    });
    for row in consumed {
        let span = &spans[row.span];
        let known = messages.iter_mut().find(|message| {
            message
                .deliveries
                .iter()
                .any(|&other| same_message(&spans[other], span))
        });
        let waited = row.wait.map_or(0, |(from, to)| to - from);
        match known {
            Some(message) => {
                message.deliveries.push(row.span);
                message.waited += waited;
            }
            None => messages.push(Message {
                id: span
                    .attribute("messaging.message.id")
                    .unwrap_or_default()
                    .to_owned(),
                queue: span
                    .attribute("messaging.destination.name")
                    .unwrap_or_default()
                    .to_owned(),
                deliveries: vec![row.span],
                waited,
            }),
        }
    }
    for message in &mut messages {
        message.deliveries.sort_by_key(|&span| spans[span].start);
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    #[test]
    fn the_demo_is_one_trace_with_its_messages() {
        let story = Story::of(samples::demo());
        assert_eq!(story.traces.len(), 1);
        let trace = &story.traces[0];
        assert_eq!(trace.rows.len(), story.spans.len());
        assert_eq!(trace.messages.len(), 3);
        let endings: Vec<_> = trace
            .messages
            .iter()
            .map(|message| story.ending(message))
            .collect();
        assert_eq!(
            endings,
            [Ending::Handled, Ending::DeadLettered, Ending::Handled]
        );
        assert_eq!(trace.messages[1].deliveries.len(), 4);
        assert_eq!(
            story.services(),
            ["orders-producer", "orders-consumer", "orders-dead-letters"]
        );
    }

    #[test]
    fn a_retry_waits_since_the_attempt_before_it() {
        let story = Story::of(samples::demo());
        let trace = &story.traces[0];
        let waits: Vec<_> = trace
            .rows
            .iter()
            .filter(|row| trace.messages[1].deliveries.contains(&row.span))
            .map(|row| row.wait.map(|(from, to)| (to - from) / 1_000_000))
            .collect();
        assert_eq!(waits, [Some(108), Some(1_046), Some(1_044), Some(1_086)]);
    }

    #[test]
    fn only_the_first_invocation_is_cold() {
        let story = Story::of(samples::demo());
        let cold = story.traces[0].rows.iter().filter(|row| row.cold);
        let names: Vec<_> = cold.map(|row| story.span(row).service()).collect();
        assert_eq!(
            names
                .iter()
                .filter(|name| **name == "orders-consumer")
                .count(),
            3
        );
        assert_eq!(
            names
                .iter()
                .filter(|name| **name == "orders-producer")
                .count(),
            1
        );
    }

    #[test]
    fn circles_and_strangers_are_drawn_once() {
        let span = |id: &str, parent: &str| Span {
            trace_id: "t".into(),
            span_id: id.into(),
            parent_span_id: parent.into(),
            ..Span::default()
        };
        let spans = vec![
            span("a", "b"),
            span("b", "a"),
            span("c", "gone"),
            span("d", "d"),
            span("c", "gone"),
        ];
        let story = Story::of(Capture {
            spans,
            ..Capture::default()
        });
        assert_eq!(story.repeated, 1);
        assert_eq!(story.traces[0].rows.len(), 4);
        let stray: Vec<_> = story.traces[0]
            .rows
            .iter()
            .filter(|row| row.stray)
            .map(|row| &story.span(row).span_id)
            .collect();
        assert_eq!(stray, ["c"]);
    }

    #[test]
    fn a_chain_of_ten_thousand_does_not_overflow() {
        let spans = (0..10_000)
            .map(|n| Span {
                trace_id: "t".into(),
                span_id: format!("{n}"),
                parent_span_id: format!("{}", n + 1),
                ..Span::default()
            })
            .collect();
        let story = Story::of(Capture {
            spans,
            ..Capture::default()
        });
        assert_eq!(story.traces[0].rows.len(), 10_000);
        assert!(
            story.traces[0]
                .rows
                .iter()
                .all(|row| row.more.len() <= DEPTH_MAX + 1)
        );
    }
}
