//! The waterfall for a terminal.

use std::fmt::Write as _;

use super::axis::Axis;
use super::model::{Mark, MarkKind, Nanos, Span};
use super::story::{Ending, Message, Row, Story, Trace};
use super::text::{columns, count, fit, length, plain};

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether escape sequences for colour may be written.
    pub colour: bool,
}

/// The narrowest picture that can be read.
const WIDTH_MIN: usize = 72;
/// Wider than this, the eye loses the line.
const WIDTH_MAX: usize = 160;
/// Columns of a cut: room for its length.
const CUT_COLUMNS: f64 = 9.0;
/// Columns of the length at the right.
const LENGTH_WIDTH: usize = 10;

/// Draws everything: messages, spans, sandboxes.
pub fn draw(story: &Story, style: Style) -> String {
    let mut canvas = Canvas::new(story, style);
    for trace in &story.traces {
        canvas.trace(trace);
    }
    if !story.lanes.is_empty() {
        canvas.lanes();
    }
    if story.repeated > 0 {
        let _ = writeln!(
            canvas.text,
            "\n  {} came a second time and {} drawn once",
            count(story.repeated, "span"),
            if story.repeated == 1 { "is" } else { "are" }
        );
    }
    canvas.text
}

struct Canvas<'a> {
    story: &'a Story,
    style: Style,
    axis: Axis,
    label_width: usize,
    bar_width: usize,
    text: String,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Paint {
    None,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Service(usize),
}

impl<'a> Canvas<'a> {
    fn new(story: &'a Story, style: Style) -> Self {
        let width = style.width.clamp(WIDTH_MIN, WIDTH_MAX);
        let rows = story.traces.iter().flat_map(|trace| &trace.rows);
        let longest = rows
            .map(|row| columns(&label(story, row).text()))
            .max()
            .unwrap_or(0);
        let label_width = longest.clamp(24, width * 45 / 100);
        let bar_width = width - label_width - LENGTH_WIDTH - 3;
        let axis = story.axis(CUT_COLUMNS / bar_width as f64);
        Self {
            story,
            style,
            axis,
            label_width,
            bar_width,
            text: String::new(),
        }
    }

    fn trace(&mut self, trace: &Trace) {
        let mut services: Vec<&str> = Vec::new();
        for row in &trace.rows {
            let service = self.story.span(row).service();
            if !services.contains(&service) {
                services.push(service);
            }
        }
        let title = format!("trace {}", plain(&trace.id));
        let facts = format!(
            "{}, {}, {}",
            count(trace.rows.len(), "span"),
            count(services.len(), "service"),
            length(trace.to - trace.from)
        );
        let _ = writeln!(
            self.text,
            "\n{}  {}",
            self.paint(Paint::Bold, &title),
            self.paint(Paint::Dim, &facts)
        );
        let legend: Vec<String> = services
            .iter()
            .map(|service| {
                let name = if service.is_empty() {
                    "unnamed service"
                } else {
                    service
                };
                format!("{} {}", self.paint(self.service(service), "■"), plain(name))
            })
            .collect();
        let _ = writeln!(self.text, "{}", legend.join("   "));
        for (number, message) in trace.messages.iter().enumerate() {
            self.message(number + 1, message);
        }
        self.scale();
        for row in &trace.rows {
            self.row(row);
        }
    }

    /// One line that says what became of a message.
    fn message(&mut self, number: usize, message: &Message) {
        let spans: Vec<&Span> = message
            .deliveries
            .iter()
            .map(|&span| &self.story.spans[span])
            .collect();
        let failures = spans.iter().filter(|span| span.error).count();
        let error = spans
            .iter()
            .rev()
            .find_map(|span| span.attribute("error.type"));
        let error = error.map_or(String::new(), |kind| {
            format!(" ({})", short_type(&plain(kind)))
        });
        let (paint, fate) = match self.story.ending(message) {
            Ending::Handled if failures == 0 => (Paint::Green, "handled".to_owned()),
            Ending::Handled => (
                Paint::Yellow,
                format!("handled after {}{error}", count(failures, "failure")),
            ),
            Ending::DeadLettered => (
                Paint::Red,
                format!(
                    "dead letter after {}{error}, handled there",
                    count(failures, "failure")
                ),
            ),
            Ending::Failed => (Paint::Red, format!("failed {}{error}", times(failures))),
        };
        let id: String = plain(&message.id).chars().take(8).collect();
        let sign = if paint == Paint::Green { "✓" } else { "✗" };
        let line = format!("  {sign} message {number} {id}: {fate}");
        let wait = format!("  {} in queues", length(message.waited));
        let _ = writeln!(
            self.text,
            "{}{}",
            self.paint(paint, &line),
            if message.waited > 0 {
                self.paint(Paint::Dim, &wait)
            } else {
                String::new()
            }
        );
    }

    /// The line above the bars: where each busy stretch begins, and how long each cut is.
    fn scale(&mut self) {
        let mut line = vec![' '; self.bar_width + LENGTH_WIDTH + 2];
        let mut free_from = 0;
        for piece in self.axis.pieces() {
            let left = self.column(piece.from);
            let right = self.column(piece.to);
            let text: Vec<char> = if piece.cut {
                format!("⫽ {} ⫽", length(piece.to - piece.from))
                    .chars()
                    .collect()
            } else {
                let offset = piece.from - self.axis.start();
                let text = if offset == 0 {
                    "0".to_owned()
                } else {
                    format!("+{}", length(offset))
                };
                text.chars().collect()
            };
            // A cut's length stands in its middle; it matters more than where the next stretch begins.
            let at = match piece.cut {
                true => ((left + right) / 2)
                    .saturating_sub(text.len() / 2)
                    .max(free_from),
                false => left.max(free_from),
            };
            let fits = at + text.len() <= line.len() && (piece.cut || at <= left + 1);
            if fits {
                line[at..at + text.len()].copy_from_slice(&text);
                free_from = at + text.len() + 1;
            }
        }
        let line: String = line.into_iter().collect();
        let _ = writeln!(
            self.text,
            "{} {}",
            " ".repeat(self.label_width),
            self.paint(Paint::Dim, line.trim_end())
        );
    }

    fn row(&mut self, row: &Row) {
        let span = self.story.span(row);
        let label = label(self.story, row);
        let paint = if span.error {
            Paint::Red
        } else {
            self.service(span.service())
        };
        let mut cells = self.empty_cells();
        if let Some((from, to)) = row.wait {
            self.fill(&mut cells, from, to, '┈', Paint::Dim);
            self.write(&mut cells, from, to, &length(to - from), Paint::Yellow);
        }
        self.fill(&mut cells, span.start, span.end, '█', paint);
        let bars = self.cells(&cells);
        // The label is cut as a whole, then painted part by part.
        let fitted = fit(&label.text(), self.label_width);
        let painted = label.paint(&fitted, self);
        let error = if span.error { Paint::Red } else { Paint::None };
        let taken = format!("{:>LENGTH_WIDTH$}", length(span.nanos()));
        let _ = writeln!(self.text, "{painted} {bars}  {}", self.paint(error, &taken));
    }

    fn lanes(&mut self) {
        let legend = "▒ cold start  ━ invocation  ▲ spans taken upstream  ░ frozen";
        let _ = writeln!(
            self.text,
            "\n{}  {}",
            self.paint(Paint::Bold, "sandboxes"),
            self.paint(Paint::Dim, legend)
        );
        for lane in &self.story.lanes {
            let mut cells = self.empty_cells();
            for mark in &lane.marks {
                let (sign, paint) = match mark.kind {
                    MarkKind::Frozen => ('░', Paint::Dim),
                    MarkKind::ColdStart => ('▒', Paint::Yellow),
                    MarkKind::Invocation => ('━', self.service(&lane.name)),
                };
                self.fill(&mut cells, mark.from, mark.to, sign, paint);
            }
            for flush in self
                .story
                .flushes
                .iter()
                .filter(|flush| flush.lane == lane.name)
            {
                let at = flush.acknowledged.unwrap_or(flush.arrived);
                self.fill(&mut cells, at, at, '▲', Paint::Green);
            }
            let bars = self.cells(&cells);
            let name = fit(&format!(" {}", plain(&lane.name)), self.label_width);
            let _ = writeln!(self.text, "{name} {bars}");
            let notes = lane_notes(lane.marks.as_slice());
            let width = self.style.width.clamp(WIDTH_MIN, WIDTH_MAX);
            let under_bars = self.label_width + 1 + columns(&notes) <= width;
            let indent = " ".repeat(if under_bars { self.label_width + 1 } else { 3 });
            let notes = fit(&notes, width - indent.len());
            let notes = notes.trim_end();
            let _ = writeln!(self.text, "{indent}{}", self.paint(Paint::Dim, notes));
        }
    }

    fn service(&self, name: &str) -> Paint {
        let services = self.story.services();
        Paint::Service(
            services
                .iter()
                .position(|known| *known == name)
                .unwrap_or(0),
        )
    }

    /// The column of a moment, from 0.
    fn column(&self, moment: Nanos) -> usize {
        let place = self.axis.at(moment) * (self.bar_width - 1) as f64;
        (place.round().max(0.0) as usize).min(self.bar_width - 1)
    }

    fn empty_cells(&self) -> Vec<(char, Paint)> {
        let mut cells = vec![(' ', Paint::None); self.bar_width];
        for piece in self.axis.pieces().iter().filter(|piece| piece.cut) {
            let middle = self.column(piece.from).midpoint(self.column(piece.to));
            cells[middle] = ('⫽', Paint::Dim);
        }
        cells
    }

    /// From the column of `from` to that of `to`, both included: nothing is too short to be seen.
    fn fill(&self, cells: &mut [(char, Paint)], from: Nanos, to: Nanos, sign: char, paint: Paint) {
        let (left, right) = (self.column(from), self.column(to));
        for cell in &mut cells[left..=right.max(left)] {
            *cell = (sign, paint);
        }
    }

    /// Puts `text` into the middle of a stretch when there is room.
    fn write(&self, cells: &mut [(char, Paint)], from: Nanos, to: Nanos, text: &str, paint: Paint) {
        let (left, right) = (self.column(from), self.column(to));
        let room = right.saturating_sub(left);
        let spaced = if room > columns(text) + 3 {
            format!(" {text} ")
        } else {
            text.to_owned()
        };
        let text: Vec<char> = spaced.chars().collect();
        if room < text.len() {
            return;
        }
        let at = left + (room - text.len()) / 2;
        for (cell, c) in cells[at..].iter_mut().zip(text) {
            *cell = (c, paint);
        }
    }

    /// Cells as text, with one escape sequence for each run of a colour.
    fn cells(&self, cells: &[(char, Paint)]) -> String {
        let mut text = String::new();
        for run in cells.chunk_by(|a, b| a.1 == b.1) {
            let signs: String = run.iter().map(|(sign, _)| sign).collect();
            text.push_str(&self.paint(run[0].1, &signs));
        }
        text
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.style.colour {
            return text.to_owned();
        }
        let code = match paint {
            Paint::None => return text.to_owned(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Green => "32",
            Paint::Yellow => "33",
            // Blue, cyan, magenta, then their bright sisters: red, green and yellow mean something.
            Paint::Service(number) => ["34", "36", "35", "94", "96", "95"][number % 6],
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The words at the left of a row, in parts that are painted apart.
struct Label {
    guides: String,
    name: String,
    notes: String,
    error: bool,
}

fn label(story: &Story, row: &Row) -> Label {
    let span = story.span(row);
    let mut guides = String::from(" ");
    for (level, more) in row.more.iter().enumerate() {
        let last = level + 1 == row.more.len();
        guides.push_str(match (last, more) {
            (true, true) => "├─",
            (true, false) => "└─",
            (false, true) => "│ ",
            (false, false) => "  ",
        });
    }
    let mut notes = Vec::new();
    if row.stray {
        notes.push("parent not received".to_owned());
    }
    if span.consumes() {
        if let Some(source) = span.dead_letter_of() {
            notes.push(format!("☠ {}", plain(source)));
        } else if let Some(attempt) = span.attempt() {
            notes.push(format!("#{attempt}"));
        }
    }
    if row.cold {
        notes.push("cold".to_owned());
    }
    if span.error {
        let kind = span.attribute("error.type").unwrap_or(&span.status_message);
        notes.push(
            format!("✗ {}", short_type(&plain(kind)))
                .trim_end()
                .to_owned(),
        );
    }
    Label {
        guides,
        name: plain(&span.name),
        notes: notes.join(" "),
        error: span.error,
    }
}

impl Label {
    fn text(&self) -> String {
        let Self {
            guides,
            name,
            notes,
            ..
        } = self;
        if notes.is_empty() {
            format!("{guides}{name}")
        } else {
            format!("{guides}{name} {notes}")
        }
    }

    /// Paints the parts of what [`fit`] left of the text.
    fn paint(&self, fitted: &str, canvas: &Canvas<'_>) -> String {
        let guides: String = fitted.chars().take(self.guides.chars().count()).collect();
        let rest = &fitted[guides.len()..];
        let name = &rest[..rest.len().min(self.name.len())];
        // An ellipsis may have cut the name in the middle of a character's bytes.
        let (name, notes) = if rest.is_char_boundary(name.len()) {
            rest.split_at(name.len())
        } else {
            (rest, "")
        };
        let paint = if self.error { Paint::Red } else { Paint::Dim };
        format!(
            "{}{}{}",
            canvas.paint(Paint::Dim, &guides),
            name,
            canvas.paint(paint, notes)
        )
    }
}

/// The last part of a path of a type: `example_consumer::OrderError` is `OrderError` to a reader.
pub(super) fn short_type(path: &str) -> &str {
    let plain = !path.contains(['<', ' ', '(']);
    path.rsplit("::").next().filter(|_| plain).unwrap_or(path)
}

/// `once`, `twice`, `3 times`.
pub(super) fn times(number: usize) -> String {
    match number {
        1 => "once".into(),
        2 => "twice".into(),
        number => format!("{number} times"),
    }
}

/// What a sandbox did, in words.
pub(super) fn lane_notes(marks: &[Mark]) -> String {
    let of = |kind| marks.iter().filter(move |mark| mark.kind == kind);
    let lengths =
        |kind| -> Vec<String> { of(kind).map(|mark| length(mark.to - mark.from)).collect() };
    let mut notes = Vec::new();
    let cold = lengths(MarkKind::ColdStart);
    if !cold.is_empty() {
        notes.push(format!("cold start {}", cold.join(", ")));
    }
    notes.push(count(of(MarkKind::Invocation).count(), "invocation"));
    let frozen = lengths(MarkKind::Frozen);
    if !frozen.is_empty() {
        notes.push(format!("frozen {}", frozen.join(", ")));
    }
    notes.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Story, samples};

    fn drawn(width: usize, colour: bool) -> String {
        draw(&Story::of(samples::demo()), Style { width, colour })
    }

    #[test]
    fn the_demo_looks_like_this() {
        let drawn = drawn(120, false);
        println!("{drawn}");
        for part in [
            "trace 4bf92f3577b34da6a3ce929d0e0e4736  14 spans, 3 services",
            "✗ message 2 m-2: dead letter after 3 failures (OrderError), handled there",
            "✓ message 1 m-1: handled",
            "process orders #3 ✗ OrderError",
            "process orders-dlq ☠ orders",
            " 1.04 s ",
            "sandboxes",
            "cold start 46.0 ms · 3 invocations · frozen 1.04 s, 1.04 s, 1.13 s",
        ] {
            assert!(drawn.contains(part), "{part:?} is missing in\n{drawn}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [72, 80, 100, 120, 160] {
            for line in drawn(width, false)
                .lines()
                .filter(|line| !line.contains("message"))
            {
                assert!(
                    columns(line) <= width,
                    "{} > {width}: {line:?}",
                    columns(line)
                );
            }
        }
    }

    #[test]
    fn colour_changes_no_character() {
        let mut without = String::new();
        let mut rest = drawn(100, true);
        while let Some(at) = rest.find("\u{1b}[") {
            without.push_str(&rest[..at]);
            let end = at + rest[at..].find('m').unwrap();
            rest = rest[end + 1..].to_owned();
        }
        without.push_str(&rest);
        assert_eq!(without, drawn(100, false));
    }

    #[test]
    fn hostile_names_cannot_steer_the_terminal() {
        let story = Story::of(samples::hostile());
        let drawn = draw(
            &story,
            Style {
                width: 100,
                colour: false,
            },
        );
        assert!(
            !drawn.chars().any(|c| c.is_control() && c != '\n'),
            "{drawn:?}"
        );
        assert!(!drawn.contains('\u{202e}'));
    }
}
