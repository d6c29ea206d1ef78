//! P8: any OTLP client can use the layer, here the examples in Python and Node with the stock SDKs.
//!
//! The examples run as they are, but for their limits of time, which a loaded machine would break.
//! Lambda's managed runtimes are stood in for by the two small `bootstrap` files beside this one.

use std::path::PathBuf;
use std::time::Duration;

use it::{binary, tool, workspace};
use lambda_emulator::{
    Completion, Event, OtlpSink, Outcome, ReceivedSpan, Sandbox, SinkAnswer, TelemetryFaults,
    Timeline,
};

use crate::events::{event, record, traceparent};

/// Longer than any of these tests takes; holding an invocation to its end would show.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Language {
    Python,
    Node,
}

// `cargo xtask test` leaves tests with `needs_tools` in their path out where the tools cannot be installed.
mod needs_tools {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn python_with_complete() {
        with_complete(Language::Python).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_with_complete() {
        with_complete(Language::Node).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn python_with_the_lines_of_the_documentation() {
        as_documented(Language::Python).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_with_the_lines_of_the_documentation() {
        as_documented(Language::Node).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn python_with_nothing_but_the_stock_sdk() {
        without_complete(Language::Python).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_with_nothing_but_the_stock_sdk() {
        without_complete(Language::Node).await;
    }
}

/// Telemetry says nothing at all, so only complete can end the invocation before its deadline.
async fn with_complete(language: Language) {
    let copy = Copy::of(language, "complete");
    traced(language, &copy, TelemetryFaults::default().silent()).await;
}

/// The same with the lines that `docs/wire.md` shows, in place of the example's own.
async fn as_documented(language: Language) {
    let copy = Copy::of(language, "documented");
    let page = std::fs::read_to_string(workspace().join("docs/wire.md")).unwrap();
    let fence = match language {
        Language::Python => "```python\n",
        Language::Node => "```js\n",
    };
    let lines = page.split(fence).nth(1).unwrap().split("```").next();
    copy.replace(language, lines.unwrap());
    traced(language, &copy, TelemetryFaults::default().silent()).await;
}

/// Hello and complete are taken out of the example; Lambda's telemetry tells the end.
async fn without_complete(language: Language) {
    let copy = Copy::of(language, "stock");
    copy.replace(
        language,
        match language {
            // The port stays, which the stock exporter is pointed at.
            Language::Python => {
                "import os\nPORT = int(os.environ['THROUGHLINE_HTTP_PORT'])\n\n\ndef complete(request_id):\n    pass\n"
            }
            Language::Node => {
                "export const port = Number(process.env.THROUGHLINE_HTTP_PORT);\nexport const complete = () => {};\n"
            }
        },
    );
    traced(language, &copy, TelemetryFaults::default()).await;
}

async fn traced(language: Language, copy: &Copy, telemetry: TelemetryFaults) {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    sink.set_default(SinkAnswer::slow(Duration::from_millis(15)));
    let sandbox = language.sandbox(copy, &timeline, &sink, telemetry).await;

    for number in 0..3 {
        let invocation = sandbox.invoke(batch(number)).await;
        let Outcome::Answered(answer) = &invocation.outcome else {
            panic!("{:?}\n{}", invocation.outcome, sandbox.log_text());
        };
        let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
        let failed = serde_json::json!({"batchItemFailures": [{"itemIdentifier": format!("poison-{number}")}]});
        assert_eq!(answer, failed);
        let completion = sandbox.wait_frozen(&invocation.request_id).await;
        assert_eq!(completion, Completion::Done, "{}", timeline.to_text());
        assert_continues(number, &sink.spans());
    }
    assert_held_for_the_flush_only(&timeline);
    sandbox.shutdown("spindown").await;
    // Nothing was late: what the freezes let through is all there is.
    assert_eq!(sink.unique_spans().len(), 3 * 6, "{}", timeline.to_text());
}

/// One record of a trace, one of another trace, and one of no trace that always fails.
fn batch(number: u64) -> Vec<u8> {
    event(vec![
        record(
            &format!("first-{number}"),
            r#"{"id":"1"}"#,
            Some(&traceparent(trace(number, 1), 7)),
        ),
        record(
            &format!("second-{number}"),
            r#"{"id":"2"}"#,
            Some(&traceparent(trace(number, 2), 8)),
        ),
        record(
            &format!("poison-{number}"),
            r#"{"id":"3","poison":true}"#,
            None,
        ),
    ])
}

fn trace(number: u64, record: u128) -> u128 {
    (u128::from(number) + 1) << 64 | record
}

/// What was acknowledged before this freeze tells the whole story of this invocation.
fn assert_continues(number: u64, spans: &[ReceivedSpan]) {
    let of = |message: String| {
        let found: Vec<&ReceivedSpan> = spans
            .iter()
            .filter(|span| attribute(span, "messaging.message.id") == Some(&message))
            .collect();
        assert_eq!(found.len(), 1, "{message}: {spans:#?}");
        found[0]
    };
    for (message, record, parent) in [("first", 1, 7), ("second", 2, 8)] {
        let span = of(format!("{message}-{number}"));
        assert_eq!(span.trace_id, format!("{:032x}", trace(number, record)));
        assert_eq!(span.parent_span_id, format!("{parent:016x}"));
        assert_eq!(
            (span.name.as_str(), span.kind, span.status),
            ("process orders", "CONSUMER", "UNSET")
        );
        assert_eq!(
            span.resource["service.name"].as_str(),
            Some("orders-consumer")
        );
        let inner = spans
            .iter()
            .find(|inner| inner.parent_span_id == span.span_id)
            .unwrap();
        assert_eq!(
            (inner.name.as_str(), &inner.trace_id),
            ("check order", &span.trace_id)
        );
    }
    let poison = of(format!("poison-{number}"));
    assert_eq!(
        (poison.parent_span_id.as_str(), poison.status),
        ("", "ERROR")
    );
    assert!(attribute(poison, "error.type").is_some());
}

fn attribute<'a>(span: &'a ReceivedSpan, name: &str) -> Option<&'a str> {
    span.attributes.get(name)?.as_str()
}

/// Each freeze came long before the invocation's limit, which is where a lost end would have led.
fn assert_held_for_the_flush_only(timeline: &Timeline) {
    let mut answered = None;
    for entry in timeline.entries() {
        match entry.event {
            Event::ResponsePosted { .. } => answered = Some(entry.at.mono),
            Event::FreezeBegan {
                request_id: Some(_),
            } => {
                let held = entry
                    .at
                    .mono
                    .duration_since(answered.expect("an answer came before the freeze"));
                assert!(
                    held < TIMEOUT / 4,
                    "held for {held:?}\n{}",
                    timeline.to_text()
                );
            }
            _ => {}
        }
    }
}

// === impl Language ===

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    async fn sandbox(
        self,
        copy: &Copy,
        timeline: &Timeline,
        sink: &OtlpSink,
        telemetry: TelemetryFaults,
    ) -> Sandbox {
        let here = workspace().join("tests/it/other_languages");
        let (program, bootstrap, handler) = match self {
            Self::Python => (tool("python/bin/python"), "bootstrap.py", "handler.py"),
            Self::Node => (found("node"), "bootstrap.mjs", "handler.mjs"),
        };
        let arguments = [here.join(bootstrap), copy.folder.join(handler)];
        Sandbox::builder("orders-consumer")
            .timeline(timeline)
            .bootstrap(program)
            .bootstrap_args(arguments.map(|path| path.display().to_string()))
            .extension(binary("throughline-extension"))
            .extension_env("THROUGHLINE_ENDPOINT", sink.url())
            .function_env("OTEL_SERVICE_NAME", "orders-consumer")
            .function_env("THROUGHLINE_PARTIAL_BATCH", "1")
            .function_env("PYTHONDONTWRITEBYTECODE", "1")
            .init_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .telemetry(telemetry)
            .start()
            .await
            .unwrap()
    }
}

/// The same text with limits that are 50 ms and 1 s in earnest raised to 30 s.
fn patient(text: &str) -> String {
    [
        ("timeout=0.05", "timeout=30"),
        ("timeout=1)", "timeout=30)"),
        ("timeout_millis=1000", "timeout_millis=30000"),
        ("timeout: 50 ", "timeout: 30000 "),
        ("timeoutMillis: 1000", "timeoutMillis: 30000"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (limit, patience)| {
        text.replace(limit, patience)
    })
}

#[test]
fn the_limits_of_the_examples_are_found() {
    for (file, limits) in [
        ("python/throughline.py", 1),
        ("python/handler.py", 2),
        ("node/throughline.mjs", 1),
        ("node/handler.mjs", 1),
    ] {
        let text = std::fs::read_to_string(workspace().join("examples").join(file)).unwrap();
        let patient = patient(&text);
        let raised = |text: &str| text.matches("=30").count() + text.matches(": 30").count();
        assert_eq!(raised(&patient) - raised(&text), limits, "{file}");
    }
}

/// A program on the path, since a sandbox's processes have a path of their own.
fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{program} is not on the path"))
}

/// The example's files in a folder of their own, beside the packages they need.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn of(language: Language, purpose: &str) -> Self {
        let name = language.name();
        let folder = std::env::temp_dir().join(format!(
            "throughline-{name}-{purpose}-{}",
            std::process::id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let copy = Self { folder };
        for file in std::fs::read_dir(workspace().join("examples").join(name)).unwrap() {
            let file = file.unwrap().path();
            if file
                .extension()
                .is_some_and(|kind| kind == "py" || kind == "mjs")
            {
                let text = patient(&std::fs::read_to_string(&file).unwrap());
                std::fs::write(copy.folder.join(file.file_name().unwrap()), text).unwrap();
            }
        }
        if matches!(language, Language::Node) {
            // Node looks for packages beside the file that imports them, whatever NODE_PATH says.
            std::os::unix::fs::symlink(tool("node/node_modules"), copy.folder.join("node_modules"))
                .unwrap();
        }
        copy
    }

    /// Puts other lines in place of the example's hello and complete.
    fn replace(&self, language: Language, lines: &str) {
        let path = self.folder.join(match language {
            Language::Python => "throughline.py",
            Language::Node => "throughline.mjs",
        });
        assert!(path.is_file(), "{} has moved", path.display());
        std::fs::write(path, patient(lines)).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // The link first, so that nothing behind it can be meant.
        let _ = std::fs::remove_file(self.folder.join("node_modules"));
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
