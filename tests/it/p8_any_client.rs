//! P8: any OTLP client can use the layer, over gRPC, HTTP/protobuf and HTTP/JSON.
//!
//! The stock SDKs of Python and Node export one of everything from inside a sandbox to the real extension;
//! what arrives upstream, decoded there from protobuf, is compared with what the SDK said it has sent.
//! The stock Python SDK has no exporter for HTTP/JSON. Java and Go are claimed by the wire only.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use it::{tool, workspace};
use lambda_emulator::{Invocation, OtlpSink, Outcome, Sandbox, Timeline};
use serde_json::{Value, json};

use crate::p3_bounded::{builder, invoke, ledger, shut_down};

/// A loaded machine may take long to load an SDK; nothing here waits for it to pass.
const SLOW: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Language {
    Python,
    Node,
}

// `cargo xtask test` leaves tests with `needs_tools` in their path out where the tools cannot be installed.
mod needs_tools {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn python_over_grpc() {
        exports(Language::Python, "grpc").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn python_over_http_protobuf() {
        exports(Language::Python, "http/protobuf").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_over_grpc() {
        exports(Language::Node, "grpc").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_over_http_protobuf() {
        exports(Language::Node, "http/protobuf").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn node_over_http_json() {
        exports(Language::Node, "http/json").await;
    }
}

/// Every way in, plain and compressed, and both ways out.
async fn exports(language: Language, protocol: &str) {
    for (upstream, compression) in [("http/protobuf", false), ("grpc", true)] {
        let timeline = Timeline::new();
        let sink = OtlpSink::start_on(&timeline).await.unwrap();
        let folder = Folder::of(language);
        let sandbox = language.sandbox(&folder, &timeline, &sink, upstream).await;
        let event = json!({ "protocol": protocol, "compression": compression }).to_string();
        let invocation = invoke(&sandbox, &event).await;
        let sent = answer(&sandbox, &invocation);
        shut_down(&sandbox).await;

        let log = sandbox.log_text();
        assert_eq!(
            identities(&received(&sink)),
            identities(&sent["spans"]),
            "{log}"
        );
        assert_eq!(json!(sink.data_points()), sent["data_points"], "{log}");
        assert_eq!(json!(sink.log_records()), sent["log_records"], "{log}");
        assert_details(&sink);
        let ledger = ledger(&sandbox);
        for (signal, count) in [("spans", 100), ("data_points", 5), ("log_records", 3)] {
            assert_eq!(ledger[signal]["received"], count, "{signal} in {ledger}");
            assert_eq!(ledger[signal]["exported"], count, "{signal} in {ledger}");
        }
    }
}

/// What the function said it has sent; an exporter that failed would have logged and said the same,
/// so this is only one side of the comparison.
fn answer(sandbox: &Sandbox, invocation: &Invocation) -> Value {
    let Outcome::Answered(answer) = &invocation.outcome else {
        panic!("{:?}\n{}", invocation.outcome, sandbox.log_text());
    };
    serde_json::from_slice(answer).unwrap()
}

/// The spans that arrived upstream, in the function's own words.
fn received(sink: &OtlpSink) -> Value {
    let spans = sink.spans().into_iter().map(|span| {
        json!({
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_span_id": span.parent_span_id,
            "name": span.name,
        })
    });
    spans.collect()
}

fn identities(spans: &Value) -> BTreeSet<String> {
    spans
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect()
}

/// The one span that has something of every kind.
fn assert_details(sink: &OtlpSink) {
    use lambda_emulator::Value::{Bool, Double, Int, List, Text};

    let text = |text: &str| Text(text.into());
    let spans = sink.spans();
    assert_eq!(spans.len(), 100);
    let outer = spans.iter().find(|span| span.name == "outer").unwrap();
    let inner = spans
        .iter()
        .find(|span| span.name.starts_with("inner"))
        .unwrap();
    assert_eq!((outer.kind, inner.kind), ("SERVER", "INTERNAL"));
    assert_eq!(inner.name, "inner äöü \u{1f600}");
    assert_eq!(
        (inner.status, inner.status_message.as_str()),
        ("ERROR", "on purpose")
    );
    assert!(inner.start >= outer.start && inner.end <= outer.end && inner.start <= inner.end);
    for (name, value) in [
        ("text", text("a \"quoted\" ü\n")),
        ("whole", Int(-(1 << 53))),
        ("real", Double(0.1)),
        ("yes", Bool(true)),
        ("list", List(vec![text("a"), text("b")])),
    ] {
        assert_eq!(inner.attributes.get(name), Some(&value), "{name}");
    }
    assert_eq!(inner.events[0].name, "happened");
    assert_eq!(inner.events[0].attributes["times"], Int(3));
    assert_eq!(
        (&inner.links[0].trace_id, &inner.links[0].span_id),
        (&outer.trace_id, &outer.span_id)
    );
    assert_eq!(outer.resource["service.name"], text("any-client"));
    assert_eq!(outer.scope, "p8");
}

// === impl Language ===

impl Language {
    async fn sandbox(
        self,
        folder: &Folder,
        timeline: &Timeline,
        sink: &OtlpSink,
        upstream: &str,
    ) -> Sandbox {
        let here = workspace().join("tests/it/other_languages");
        let (program, bootstrap, handler) = match self {
            Self::Python => (tool("python/bin/python"), "bootstrap.py", "handler.py"),
            Self::Node => (on_the_path("node"), "bootstrap.mjs", "handler.mjs"),
        };
        let url = if upstream == "grpc" {
            sink.grpc_url()
        } else {
            sink.url()
        };
        builder(timeline, sink)
            .bootstrap(program)
            .bootstrap_args(
                [here.join(bootstrap), folder.0.join(handler)]
                    .map(|path| path.display().to_string()),
            )
            .extension_env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            .extension_env("OTEL_EXPORTER_OTLP_PROTOCOL", upstream)
            .function_env("PYTHONDONTWRITEBYTECODE", "1")
            .init_timeout(SLOW)
            .timeout(SLOW)
            .start()
            .await
            .unwrap()
    }
}

/// The handlers, beside the packages that they need.
struct Folder(PathBuf);

impl Folder {
    fn of(language: Language) -> Self {
        let from = workspace().join("tests/it/p8_any_client");
        // Unique by the thread too: tests run beside one another.
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
        let name = format!("throughline-p8-{}-{thread}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        let file = match language {
            Language::Python => "handler.py",
            Language::Node => "handler.mjs",
        };
        std::fs::copy(from.join(file), folder.0.join(file)).unwrap();
        if matches!(language, Language::Node) {
            // Node looks for packages beside the file that imports them, whatever NODE_PATH says.
            let packages = tool("node/node_modules");
            std::os::unix::fs::symlink(packages, folder.0.join("node_modules")).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The link first, so that nothing behind it can be meant.
        let _ = std::fs::remove_file(self.0.join("node_modules"));
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program on the path, since a sandbox's processes have a path of their own.
fn on_the_path(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = candidates.find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| panic!("{program} is not on the path"))
}
