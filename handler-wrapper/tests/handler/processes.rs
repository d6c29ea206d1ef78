//! Functions in processes of their own, in a sandbox that freezes.
//!
//! The functions are tests of this binary that do nothing outside of a sandbox; the sandbox starts
//! them by name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lambda_emulator::{Event, OtlpSink, Outcome, Sandbox, Timeline, Who};
use serde_json::{Value, json};
use throughline::{SqsMessage, traced_sqs_handler};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Message, message};

const WAIT: Duration = Duration::from_secs(30);

// === the functions ===

async fn obey(message: SqsMessage) -> Result<(), String> {
    match message.body.as_deref() {
        Some("fail") => Err("as told".to_owned()),
        Some("hang") => {
            tracing::info!("hanging");
            std::future::pending().await
        }
        _ => Ok(()),
    }
}

fn in_a_sandbox() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

#[tokio::test]
async fn function_run() {
    if in_a_sandbox() {
        throughline::run(traced_sqs_handler(obey)).await.unwrap();
    }
}

#[tokio::test]
async fn function_lambda_runtime() {
    if in_a_sandbox() {
        lambda_runtime::run(traced_sqs_handler(obey)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn function_concurrent() {
    if in_a_sandbox() {
        throughline::run_concurrent(traced_sqs_handler(obey))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn function_any_handler() {
    if in_a_sandbox() {
        let echo = |event: lambda_runtime::LambdaEvent<Value>| async move {
            tracing::info_span!("inside").in_scope(|| tracing::info!("a line"));
            Ok::<_, throughline::Error>(event.payload)
        };
        throughline::run(tower::service_fn(echo)).await.unwrap();
    }
}

// === the sandbox ===

fn sandbox(timeline: &Timeline, function: &str) -> lambda_emulator::Builder {
    Sandbox::builder("orders-consumer")
        .timeline(timeline)
        .bootstrap(std::env::current_exe().unwrap())
        .bootstrap_args(["--exact", &format!("processes::{function}"), "--nocapture"])
        .timeout(Duration::from_secs(60))
        // On a loaded machine a debug build may need more than the usual second for a flush.
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
}

fn payload(messages: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let records: Vec<_> = messages.into_iter().map(|message| message.0).collect();
    json!({ "Records": records }).to_string().into_bytes()
}

fn sent_by(n: u64, body: &str) -> Message {
    message(&format!("m{n}"), body).sent_by_span(n, true)
}

/// The place in the timeline of the first entry that matches.
fn place(timeline: &Timeline, what: &str, matches: impl Fn(&Event) -> bool) -> u64 {
    let found = timeline.select(|entry| matches(&entry.event));
    found
        .first()
        .unwrap_or_else(|| panic!("no {what}\n{}", timeline.to_text()))
        .seq
}

fn answered(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Answered(bytes) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_leave_after_the_answer_and_before_the_freeze() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_run")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "api-key=secret%20one,bad entry",
        )
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=orders")
        .start()
        .await
        .unwrap();
    let invocation = sandbox
        .invoke(payload([sent_by(1, ""), sent_by(2, "")]))
        .await;
    assert_eq!(
        answered(&invocation.outcome),
        json!({"batchItemFailures": []})
    );
    sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!(sink.spans().len(), 2, "{}", timeline.to_text());

    let posted = place(&timeline, "answer", |e| {
        matches!(e, Event::ResponsePosted { .. })
    });
    let arrived = place(&timeline, "export", |e| {
        matches!(e, Event::SinkRequestArrived { .. })
    });
    let frozen = place(&timeline, "freeze", |e| {
        matches!(
            e,
            Event::FreezeBegan {
                request_id: Some(_)
            }
        )
    });
    assert!(
        posted < arrived && arrived < frozen,
        "{}",
        timeline.to_text()
    );

    let request = &sink.requests()[0];
    assert_eq!(request.header("api-key"), Some("secret one"));
    let resource = &sink.spans()[0].resource;
    let text = |key: &str| {
        resource
            .get(key)
            .and_then(|value| value.as_str())
            .map(str::to_owned)
    };
    assert_eq!(text("service.name").as_deref(), Some("orders-consumer"));
    assert_eq!(text("faas.name").as_deref(), Some("orders-consumer"));
    assert_eq!(text("cloud.provider").as_deref(), Some("aws"));
    assert_eq!(text("team").as_deref(), Some("orders"));
    assert!(
        !sandbox.log_text().contains("secret"),
        "{}",
        sandbox.log_text()
    );

    // A failed invocation is exported as well.
    let invocation = sandbox.invoke(payload([sent_by(3, "fail")])).await;
    let Outcome::FunctionError(error) = &invocation.outcome else {
        panic!("{invocation:?}")
    };
    assert_eq!(error["errorType"], "RecordsFailed");
    sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!(sink.spans().len(), 3);
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_for_the_extension_or_another_sdk_does_no_harm() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_run")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}/", sink.url()))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")
        .env("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "%%%")
        .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0")
        .env("OTEL_PROPAGATORS", "xray")
        .env("OTEL_SERVICE_NAME", "orders")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.version=7,faas.name=mine",
        )
        .start()
        .await
        .unwrap();
    // The ratio is for roots; the producer's decision stays.
    let invocation = sandbox
        .invoke(payload([sent_by(1, ""), message("root", "")]))
        .await;
    answered(&invocation.outcome);
    sandbox.wait_frozen(&invocation.request_id).await;
    let spans = sink.spans();
    assert_eq!(spans.len(), 1, "{}", sandbox.log_text());
    let text = |key: &str| {
        spans[0]
            .resource
            .get(key)
            .and_then(|v| v.as_str())
            .map(str::to_owned)
    };
    assert_eq!(text("service.name").as_deref(), Some("orders"));
    assert_eq!(text("service.version").as_deref(), Some("7"));
    assert_eq!(text("faas.name").as_deref(), Some("mine"));
    let log = sandbox.log_text();
    assert!(
        log.contains("OTEL_EXPORTER_OTLP_TIMEOUT=\"10s\" is not"),
        "{log}"
    );
    sandbox.shutdown("spindown").await;
}

/// Exports straight to an https endpoint; which spans arrive, and what the function says.
async fn over_https(trusted: bool) -> (usize, String) {
    let timeline = Timeline::new();
    let certificates = lambda_emulator::Certificates::new();
    let kind = if trusted { "trusted" } else { "stranger" };
    let folder =
        std::env::temp_dir().join(format!("throughline-wrapper-{kind}-{}", std::process::id()));
    certificates.write_to(&folder).unwrap();
    let sink = OtlpSink::start_tls(&timeline, &certificates, false)
        .await
        .unwrap();
    let mut builder = sandbox(&timeline, "function_run").env(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("https://localhost:{}", sink.address().port()),
    );
    if trusted {
        let authority = folder.join("authority.pem").display().to_string();
        builder = builder.env("OTEL_EXPORTER_OTLP_CERTIFICATE", authority);
    }
    let sandbox = builder.start().await.unwrap();
    let invocation = sandbox.invoke(payload([sent_by(1, "")])).await;
    assert_eq!(
        answered(&invocation.outcome),
        json!({"batchItemFailures": []})
    );
    sandbox.wait_frozen(&invocation.request_id).await;
    sandbox.shutdown("spindown").await;
    std::fs::remove_dir_all(&folder).unwrap();
    (sink.spans().len(), sandbox.log_text())
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn an_https_endpoint_gets_spans_when_its_authority_is_trusted() {
    assert_eq!(over_https(true).await.0, 1);
    assert_eq!(over_https(false).await.0, 0);
}

#[cfg(not(feature = "tls"))]
#[tokio::test(flavor = "multi_thread")]
async fn an_https_endpoint_needs_the_feature_and_says_so() {
    let (spans, log) = over_https(true).await;
    assert_eq!(spans, 0);
    assert!(log.contains("needs the feature `tls`"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_runs_into_the_deadline_is_told_before_the_sandbox_is_killed() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_run")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .timeout(Duration::from_secs(5))
        .start()
        .await
        .unwrap();
    let invocation = sandbox
        .invoke(payload([sent_by(1, ""), sent_by(2, "hang")]))
        .await;
    assert!(
        matches!(invocation.outcome, Outcome::TimedOut),
        "{:?}",
        invocation.outcome
    );
    let spans = sink.spans();
    let error_type = |n: u64| {
        let span = spans
            .iter()
            .find(|span| span.trace_id == format!("{n:032x}"));
        let span = span.unwrap_or_else(|| panic!("record {n} is lost\n{}", timeline.to_text()));
        span.attributes
            .get("error.type")
            .and_then(|v| v.as_str())
            .map(str::to_owned)
    };
    assert_eq!(error_type(1), None);
    assert_eq!(error_type(2).as_deref(), Some("timeout"));
    sandbox.shutdown("timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_runtimes_own_run_spans_leave_before_the_answer() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_lambda_runtime")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .start()
        .await
        .unwrap();
    let mut invocations = 0;
    // A quarter of a second may be too short on a loaded machine; then the next one brings it.
    while sink.spans().is_empty() && invocations < 5 {
        invocations += 1;
        let invocation = sandbox.invoke(payload([sent_by(invocations, "")])).await;
        answered(&invocation.outcome);
        sandbox.wait_frozen(&invocation.request_id).await;
    }
    let names: HashSet<_> = sink.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(
        names.len(),
        1,
        "the runtime's own span is not among them: {names:?}"
    );
    let arrived = place(&timeline, "export", |e| {
        matches!(e, Event::SinkRequestArrived { .. })
    });
    let is_answer = |e: &lambda_emulator::Entry| matches!(e.event, Event::ResponsePosted { .. });
    let before = timeline
        .select(|entry| is_answer(entry) && entry.seq < arrived)
        .len();
    assert!((before as u64) < invocations, "{}", timeline.to_text());
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_configuration_the_answers_are_the_same_and_nothing_is_sent() {
    let unused = OtlpSink::start().await.unwrap();
    for variables in [
        vec![],
        vec![
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*unused.url()),
        ],
        vec![
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*unused.url()),
        ],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://127.0.0.1")],
        vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")],
    ] {
        let timeline = Timeline::new();
        let mut builder = sandbox(&timeline, "function_run").env("THROUGHLINE_PARTIAL_BATCH", "1");
        for (name, value) in &variables {
            builder = builder.function_env(*name, *value);
        }
        let sandbox = builder.start().await.unwrap();
        let invocation = sandbox
            .invoke(payload([sent_by(1, ""), sent_by(2, "fail")]))
            .await;
        let expected = json!({"batchItemFailures": [{"itemIdentifier": "m2"}]});
        assert_eq!(answered(&invocation.outcome), expected, "{variables:?}");
        sandbox.wait_frozen(&invocation.request_id).await;
        sandbox.shutdown("spindown").await;
    }
    assert_eq!(unused.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_from_sqs_fails_the_invocation_by_name() {
    let timeline = Timeline::new();
    let sandbox = sandbox(&timeline, "function_run").start().await.unwrap();
    let foreign = json!({"Records": [{"eventSource": "aws:s3"}]}).to_string();
    let invocation = sandbox.invoke(foreign.into_bytes()).await;
    let Outcome::FunctionError(error) = &invocation.outcome else {
        panic!("{invocation:?}")
    };
    let text = error["errorMessage"].as_str().unwrap();
    assert!(text.contains("its records come from aws:s3"), "{text}");
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_handler_can_be_run_and_its_spans_leave_as_well() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_any_handler")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .start()
        .await
        .unwrap();
    let invocation = sandbox.invoke(br#"{"a":1}"#.to_vec()).await;
    assert_eq!(answered(&invocation.outcome), json!({"a": 1}));
    sandbox.wait_frozen(&invocation.request_id).await;
    let spans = sink.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "inside");
    let log = sandbox.log_text();
    assert!(
        log.contains(&format!(r#""trace_id":"{}""#, spans[0].trace_id)),
        "{log}"
    );
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_an_invocation_that_is_terminated_are_sent_as_cancelled() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_run")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .start()
        .await
        .unwrap();
    let pid = sandbox.pid(&Who::Runtime).unwrap();
    let invoking = {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { sandbox.invoke(payload([sent_by(1, "hang")])).await })
    };
    assert!(
        sandbox
            .wait_for_log(|line| line.text.contains("hanging"), WAIT)
            .await
            .is_some()
    );
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert!(
        sink.wait_for_spans(1, WAIT).await.is_ok(),
        "{}",
        timeline.to_text()
    );
    drop(invoking.await);
    let spans = sink.spans();
    let error_type = spans[0]
        .attributes
        .get("error.type")
        .and_then(|value| value.as_str());
    assert_eq!(error_type, Some("cancelled"));
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_managed_instances_invocations_run_side_by_side() {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let sandbox = sandbox(&timeline, "function_concurrent")
        .managed_instances(4)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .start()
        .await
        .unwrap();
    let mut running = tokio::task::JoinSet::new();
    for n in 0..16_u64 {
        let sandbox = sandbox.clone();
        running.spawn(async move {
            let records = (1..=5).map(|i| sent_by(100 * n + i, ""));
            answered(&sandbox.invoke(payload(records)).await.outcome)
        });
    }
    while let Some(answer) = running.join_next().await {
        assert_eq!(answer.unwrap(), json!({"batchItemFailures": []}));
    }
    assert!(sink.wait_for_spans(80, WAIT).await.is_ok());
    for span in sink.spans() {
        // Trace `n` was begun by span `n`: contexts that mix would show here.
        assert_eq!(span.trace_id[16..], span.parent_span_id);
    }
    sandbox.shutdown("spindown").await;
}

// === an extension that takes notes ===

/// What was asked of it, in order: method, path, and the header that upstream's key would be in.
type Notes = Arc<Mutex<Vec<(String, bool)>>>;

async fn extension(hello: &'static str) -> (u16, Notes) {
    let (_open, gate) = watch::channel(true);
    slow_extension(hello, gate).await
}

/// Answers hello only when the gate is open.
async fn slow_extension(hello: &'static str, gate: watch::Receiver<bool>) -> (u16, Notes) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let notes = Notes::default();
    let taken = Arc::clone(&notes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let notes = Arc::clone(&taken);
            let mut gate = gate.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    let (mut head, mut length) = (String::new(), 0);
                    loop {
                        let start = head.len();
                        match stream.read_line(&mut head).await {
                            Ok(0) | Err(_) => return,
                            Ok(_) => {}
                        }
                        let line = head[start..].trim().to_ascii_lowercase();
                        if let Some(value) = line.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if line.is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.unwrap();
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    let status = match &*target {
                        "/throughline/v1/hello" => hello,
                        path if path.starts_with("/throughline/") => "204 No Content",
                        _ => "200 OK",
                    };
                    let ours = !target.starts_with("/throughline/")
                        || head.to_ascii_lowercase().contains("throughline: 1");
                    assert!(ours, "{head}");
                    let has_key = head.to_ascii_lowercase().contains("api-key");
                    let is_hello = target == "/throughline/v1/hello";
                    notes.lock().unwrap().push((target, has_key));
                    if is_hello && !*gate.borrow() && gate.wait_for(|open| *open).await.is_err() {
                        return;
                    }
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, notes)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_greeted_once_and_told_when_an_invocation_is_complete() {
    for function in ["function_run", "function_lambda_runtime"] {
        let (port, notes) = extension("200 OK").await;
        let upstream = OtlpSink::start().await.unwrap();
        let timeline = Timeline::new();
        let sandbox = sandbox(&timeline, function)
            .function_env("THROUGHLINE_HTTP_PORT", port.to_string())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
            .start()
            .await
            .unwrap();
        let mut expected = vec!["/throughline/v1/hello".to_owned()];
        for n in 1..=2 {
            let invocation = sandbox.invoke(payload([sent_by(n, "")])).await;
            sandbox.wait_frozen(&invocation.request_id).await;
            expected.push("/v1/traces".to_owned());
            if cfg!(feature = "metrics") {
                expected.push("/v1/metrics".to_owned());
            }
            let id = &invocation.request_id;
            expected.push(format!("/throughline/v1/invocations/{id}/complete"));
        }
        let notes = notes.lock().unwrap().clone();
        let mut paths: Vec<_> = notes.iter().map(|(path, _)| path.clone()).collect();
        // Its answer may take longer than 50 ms on a loaded machine; then it is asked again.
        paths.dedup_by(|next, first| next.ends_with("/hello") && first.ends_with("/hello"));
        assert_eq!(paths, expected, "{function}");
        assert!(
            notes.iter().all(|(_, has_key)| !has_key),
            "the key is for upstream"
        );
        assert_eq!(upstream.requests().len(), 0);
        sandbox.shutdown("spindown").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_the_extensions_port_gets_nothing() {
    let (port, notes) = extension("404 Not Found").await;
    let upstream = OtlpSink::start().await.unwrap();
    let timeline = Timeline::new();
    let sandbox = sandbox(&timeline, "function_run")
        .function_env("THROUGHLINE_HTTP_PORT", port.to_string())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url())
        .start()
        .await
        .unwrap();
    let invocation = sandbox.invoke(payload([sent_by(1, "")])).await;
    sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!(upstream.spans().len(), 1);
    let only_hello = notes
        .lock()
        .unwrap()
        .iter()
        .all(|(path, _)| path.ends_with("/hello"));
    assert!(only_hello, "{:?}", notes.lock().unwrap());
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_answers_late_gets_the_spans_from_the_first_on() {
    let (open, gate) = watch::channel(false);
    let (port, notes) = slow_extension("200 OK", gate).await;
    let upstream = OtlpSink::start().await.unwrap();
    let timeline = Timeline::new();
    let sandbox = sandbox(&timeline, "function_run")
        .function_env("THROUGHLINE_HTTP_PORT", port.to_string())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url())
        .start()
        .await
        .unwrap();
    let count = |what: &str| {
        notes
            .lock()
            .unwrap()
            .iter()
            .filter(|(path, _)| path.ends_with(what))
            .count()
    };
    let invocation = sandbox.invoke(payload([sent_by(1, "")])).await;
    sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!(
        (count("/v1/traces"), count("/complete")),
        (1, 0),
        "it may be there"
    );

    open.send_replace(true);
    let invocation = sandbox.invoke(payload([sent_by(2, "")])).await;
    sandbox.wait_frozen(&invocation.request_id).await;
    assert_eq!((count("/v1/traces"), count("/complete")), (2, 1));
    assert_eq!(upstream.requests().len(), 0);
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_answers_late_gets_no_more_spans() {
    let (open, gate) = watch::channel(false);
    let (port, _notes) = slow_extension("404 Not Found", gate).await;
    let upstream = OtlpSink::start().await.unwrap();
    let timeline = Timeline::new();
    let sandbox = sandbox(&timeline, "function_run")
        .function_env("THROUGHLINE_HTTP_PORT", port.to_string())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url())
        .start()
        .await
        .unwrap();
    open.send_replace(true);
    // The hello of the first invocation, at its end at the latest, is answered with 404.
    let mut sent = 0;
    for n in 1..=3 {
        let invocation = sandbox.invoke(payload([sent_by(n, "")])).await;
        sandbox.wait_frozen(&invocation.request_id).await;
        sent = n;
        if !upstream.spans().is_empty() {
            break;
        }
    }
    assert_eq!(upstream.spans().len(), 1, "after {sent} invocations");
    sandbox.shutdown("spindown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_never_answers_holds_no_answer_and_is_given_up() {
    let (_open, gate) = watch::channel(false);
    let (port, notes) = slow_extension("200 OK", gate).await;
    let timeline = Timeline::new();
    let sandbox = sandbox(&timeline, "function_run")
        .function_env("THROUGHLINE_HTTP_PORT", port.to_string())
        .start()
        .await
        .unwrap();
    for n in 1..=8 {
        let invocation = sandbox.invoke(payload([sent_by(n, "")])).await;
        assert_eq!(
            answered(&invocation.outcome),
            json!({"batchItemFailures": []})
        );
        sandbox.wait_frozen(&invocation.request_id).await;
    }
    let hellos = notes
        .lock()
        .unwrap()
        .iter()
        .filter(|(p, _)| p.ends_with("hello"))
        .count();
    assert!(hellos <= 4, "{hellos} times hello");
    sandbox.shutdown("spindown").await;
}
