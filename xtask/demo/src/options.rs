//! The command line of the demo.
//!
//! Also compiled into `xtask`, which reads it before it builds anything: nothing but the standard library here.

use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
cargo xtask demo [options]

Sends a batch of orders from a producer function through SQS to a consumer function. One of
the orders always fails, goes through its retries to the dead-letter queue, and is handled by
that queue's consumer. Each function runs for real in a sandbox that freezes between
invocations, beside the real extension. Then the trace is drawn, here and as a page under
target/demo/, from nothing but what arrived upstream.

  --queue standard|fair|fifo  the kind of queue (standard)
  --mixed                     send ten orders: seven good ones, one that always fails, one whose
                              processing panics, one whose body cannot be read
  --event FILE                instead invoke a consumer once with this SQS event; it takes any
                              body, and every record must give one span
  --sqs-endpoint URL          use an SQS server that is already running (LocalStack,
                              local-aws-sqs, ElasticMQ); makes its own queues there and
                              deletes them in the end
  --otlp-endpoint URL         pass every export on to this OTLP/HTTP server as well (a
                              collector, Jaeger, Tempo); the picture is still drawn from
                              what the demo's own sink received
  --verbose                   when a check fails, show all logs and not only complaints
  --help

Exit codes: 0 everything held; 1 a check failed, and which; 2 FILE is not an SQS event;
64 the command line is wrong.
";

/// What was asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// The kind of queue.
    pub queue: QueueKind,
    /// Ten orders that go wrong in every way, instead of four.
    pub mixed: bool,
    /// An event to invoke a consumer with.
    pub event: Option<PathBuf>,
    /// An SQS server that is already running.
    pub sqs_endpoint: Option<String>,
    /// An OTLP server that gets everything too.
    pub otlp_endpoint: Option<String>,
    /// Whether logs are shown whole.
    pub verbose: bool,
}

/// A kind of queue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum QueueKind {
    /// No order, no groups.
    #[default]
    Standard,
    /// A standard queue whose messages carry a group, so that no group starves the others.
    Fair,
    /// In order within a group, each once.
    Fifo,
}

impl QueueKind {
    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Fair => "fair",
            Self::Fifo => "fifo",
        }
    }
}

impl Options {
    /// Reads the words after the command's name; `None` asks for help.
    ///
    /// # Errors
    /// The first mistake, in words for the person who made it.
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, mut inline) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut value = || {
                let value = inline.take().or_else(|| words.next());
                value
                    .filter(|value| !value.is_empty() && !value.starts_with("--"))
                    .ok_or_else(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--queue" => options.queue = queue_kind(&value()?)?,
                "--event" => options.event = Some(PathBuf::from(value()?)),
                "--sqs-endpoint" => options.sqs_endpoint = Some(url(&name, value()?)?),
                "--otlp-endpoint" => options.otlp_endpoint = Some(url(&name, value()?)?),
                "--mixed" => options.mixed = true,
                "--verbose" => options.verbose = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("{name:?} is not an option of `cargo xtask demo`")),
            }
            if let Some(left) = inline {
                return Err(format!("{name} takes no value, {left:?} was given"));
            }
        }
        if options.event.is_some()
            && (options.sqs_endpoint.is_some()
                || options.queue != QueueKind::Standard
                || options.mixed)
        {
            return Err("--event invokes the consumer directly: --queue, --mixed and --sqs-endpoint have no part in it".into());
        }
        Ok(Some(options))
    }
}

fn queue_kind(word: &str) -> Result<QueueKind, String> {
    [QueueKind::Standard, QueueKind::Fair, QueueKind::Fifo]
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| format!("--queue is standard, fair or fifo, not {word:?}"))
}

fn url(name: &str, text: String) -> Result<String, String> {
    let rest = text.strip_prefix("http://");
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        _ if text.starts_with("https://") => Err(format!(
            "{name}={text:?}: the demo speaks plain http to local servers only"
        )),
        Some(host) if !host.is_empty() && !text.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "{name}={text:?} is not a URL such as http://127.0.0.1:4318"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Option<Options>, String> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_line_is_read_in_both_ways_of_writing() {
        let expected = Options {
            queue: QueueKind::Fifo,
            mixed: true,
            otlp_endpoint: Some("http://127.0.0.1:4318".into()),
            ..Options::default()
        };
        for line in [
            "--queue fifo --otlp-endpoint http://127.0.0.1:4318/ --mixed",
            "--mixed --queue=fifo --otlp-endpoint=http://127.0.0.1:4318",
        ] {
            assert_eq!(read(line), Ok(Some(expected.clone())), "{line}");
        }
        assert_eq!(read("--queue fair --help"), Ok(None));
    }

    #[test]
    fn mistakes_are_told() {
        for (line, word) in [
            ("--queue", "needs a value"),
            ("--queue --event", "needs a value"),
            ("--queue=", "needs a value"),
            ("--queue quick", "not \"quick\""),
            ("--sqs-endpoint localhost:4566", "is not a URL"),
            ("--otlp-endpoint https://127.0.0.1", "plain http"),
            ("--event a.json --queue fifo", "have no part in it"),
            ("--event a.json --mixed", "have no part in it"),
            ("--fast", "not an option"),
            ("orders", "not an option"),
        ] {
            let mistake = read(line).unwrap_err();
            assert!(mistake.contains(word), "{line}: {mistake}");
        }
    }
}
