//! What the picture is drawn from.

/// Nanoseconds since 1970.
pub type Nanos = i64;

/// A span, its values already turned to text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// 16 hex digits, empty for a root.
    pub parent_span_id: String,
    /// Name; may hold anything.
    pub name: String,
    /// `SERVER`, `PRODUCER`, `CONSUMER`, `CLIENT`, `INTERNAL` or `UNSPECIFIED`.
    pub kind: String,
    /// Start.
    pub start: Nanos,
    /// End.
    pub end: Nanos,
    /// Whether the status is an error.
    pub error: bool,
    /// Text of the status.
    pub status_message: String,
    /// Attributes in the order to show them.
    pub attributes: Vec<(String, String)>,
    /// Events in the order they came.
    pub events: Vec<Note>,
    /// Links.
    pub links: Vec<Link>,
    /// Attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// Name of the instrumentation scope.
    pub scope: String,
    /// When the request that brought it was read by the sink.
    pub arrived: Nanos,
    /// When the sink's answer was written, nothing when it was not.
    pub acknowledged: Option<Nanos>,
}

/// An event of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Note {
    /// Name.
    pub name: String,
    /// When.
    pub at: Nanos,
    /// Attributes.
    pub attributes: Vec<(String, String)>,
}

/// A link of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
}

/// What the sandbox of one function did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// The function's name, as its spans' resource has it.
    pub name: String,
    /// In the order they began.
    pub marks: Vec<Mark>,
}

/// A stretch of a sandbox's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it is.
    pub kind: MarkKind,
    /// When it began.
    pub from: Nanos,
    /// When it ended.
    pub to: Nanos,
}

/// What a sandbox can be at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MarkKind {
    /// From the first process to the first wait for an event.
    ColdStart,
    /// From the delivery of an event to the moment that function and extensions all wait again.
    Invocation,
    /// Stopped.
    Frozen,
}

/// A request that brought spans to the sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flush {
    /// The function whose spans it brought.
    pub lane: String,
    /// Spans in it.
    pub spans: usize,
    /// When it was read.
    pub arrived: Nanos,
    /// When its answer was written.
    pub acknowledged: Option<Nanos>,
}

/// Everything that was seen in one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capture {
    /// Spans as the sink decoded them.
    pub spans: Vec<Span>,
    /// Sandboxes.
    pub lanes: Vec<Lane>,
    /// Requests at the sink.
    pub flushes: Vec<Flush>,
}

impl Span {
    /// The attribute's text.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// Who made it: `faas.name`, else `service.name`, else nothing.
    pub fn service(&self) -> &str {
        find(&self.resource, "faas.name")
            .or_else(|| find(&self.resource, "service.name"))
            .unwrap_or_default()
    }

    /// Which delivery of its message it handles, from 1.
    pub fn attempt(&self) -> Option<u32> {
        self.attribute("throughline.message.receive_count")?
            .parse()
            .ok()
    }

    /// The queue that gave its message up, when it handles a dead letter.
    pub fn dead_letter_of(&self) -> Option<&str> {
        self.attribute("throughline.dead_letter.source")
    }

    /// Whether it handles a message.
    pub fn consumes(&self) -> bool {
        self.kind == "CONSUMER"
    }

    /// Its length; a negative one counts as none.
    pub fn nanos(&self) -> Nanos {
        self.end.saturating_sub(self.start).max(0)
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}
