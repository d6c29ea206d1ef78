//! P5: the extension never breaks the function: bad configuration, port taken, dead backend, hostile input.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use it::binary;
use lambda_emulator::{OtlpSink, Sandbox, Timeline};

use crate::p3_bounded::{builder, invoke, ledger, shut_down, spans};

/// A sandbox that never freezes, so that the test can talk to the receiver, with these variables of the extension.
async fn awake(env: &[(&str, &str)]) -> (OtlpSink, Sandbox) {
    let timeline = Timeline::new();
    let sink = OtlpSink::start_on(&timeline).await.unwrap();
    let mut builder = builder(&timeline, &sink).freeze(false);
    for (name, value) in env {
        builder = builder.extension_env(*name, *value);
    }
    (sink, builder.start().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_and_the_function_answers() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for variable in ["THROUGHLINE_HTTP_PORT", "THROUGHLINE_GRPC_PORT"] {
        let (_sink, sandbox) = awake(&[(variable, &port)]).await;
        invoke(&sandbox, "{}").await;
        invoke(&sandbox, "{}").await;
        shut_down(&sandbox).await;
        let said = sandbox
            .logs()
            .iter()
            .filter(|line| line.text.contains(variable))
            .count();
        assert_eq!(said, 1, "{}", sandbox.log_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configuration_is_reported_whole_and_the_function_answers() {
    let (_sink, sandbox) = awake(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("THROUGHLINE_FLUSH", "sometimes"),
        ("THROUGHLINE_BUFFER_BYTES", "lots"),
        ("THROUGHLINE_HEADERS", "no-equals-sign"),
        ("THROUGHLINE_HEADERS_FILE", "/nowhere/at/all"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/at/all"),
    ])
    .await;
    for _ in 0..2 {
        invoke(&sandbox, r#"{"spans":1}"#).await;
    }
    shut_down(&sandbox).await;
    let log = sandbox.log_text();
    for name in [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "THROUGHLINE_FLUSH",
        "THROUGHLINE_BUFFER_BYTES",
        "THROUGHLINE_HEADERS",
    ] {
        assert!(
            log.contains(&format!("\"mistake\":\"{name} ")),
            "{name}\n{log}"
        );
    }
    assert_eq!(spans(&ledger(&sandbox), "received"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_backend_costs_nothing_and_is_said_once() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for endpoint in [
        refused.as_str(),
        "http://no-such-host.invalid:4318",
        "https://127.0.0.1:1",
    ] {
        let (_sink, sandbox) = awake(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
        for _ in 0..5 {
            let invocation = invoke(&sandbox, r#"{"spans":2}"#).await;
            let held = sandbox
                .post_runtime_extensions(&invocation.request_id)
                .unwrap_or_default();
            assert!(held < Duration::from_secs(4), "{endpoint} held {held:?}");
        }
        shut_down(&sandbox).await;
        let ledger = ledger(&sandbox);
        assert_eq!(
            (
                spans(&ledger, "received"),
                spans(&ledger, "dropped/shutdown")
            ),
            (10, 10),
            "{endpoint} {ledger}"
        );
        let said = sandbox
            .logs()
            .iter()
            .filter(|line| line.text.contains("does not take telemetry"))
            .count();
        assert_eq!(said, 1, "{endpoint}\n{}", sandbox.log_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_is_answered_and_changes_nothing() {
    let (sink, sandbox) = awake(&[]).await;
    let port = sandbox.http_port();
    let body = |text: &str| format!("content-length: {}\r\n\r\n{text}", text.len());
    let protobuf = "content-type: application/x-protobuf\r\n";
    let cases = [
        ("POST /v1/nothing HTTP/1.1", body(""), 404),
        ("GET /v1/traces HTTP/1.1", "\r\n".into(), 405),
        ("POST /v1/traces HTTP/1.1", body("x"), 415),
        (
            "POST /v1/traces HTTP/1.1",
            format!("{protobuf}content-encoding: br\r\n{}", body("x")),
            415,
        ),
        (
            "POST /v1/traces HTTP/1.1",
            format!("{protobuf}{}", body("\u{7f}\u{7f}\u{7f}")),
            400,
        ),
        (
            "POST /v1/traces HTTP/1.1",
            format!("{protobuf}content-encoding: gzip\r\n{}", body("not gzip")),
            400,
        ),
        (
            "POST /v1/logs HTTP/1.1",
            format!(
                "content-type: application/json\r\n{}",
                body("{\"resourceLogs\":7}")
            ),
            400,
        ),
        (
            "POST /v1/traces HTTP/1.1",
            format!("{protobuf}content-length: 4194305\r\n\r\n"),
            413,
        ),
        (
            "POST /v1/traces HTTP/1.1",
            format!("{protobuf}content-length: 99999999999999999\r\n\r\n"),
            413,
        ),
        (
            "POST /throughline/v1/hello HTTP/1.1",
            body("{\"v\":1}"),
            403,
        ),
        (
            "POST /throughline/v1/invocations/x/complete HTTP/1.1",
            body(""),
            403,
        ),
        (
            "POST /throughline/v1/invocations/../complete/x HTTP/1.1",
            body(""),
            404,
        ),
        (
            "GET /throughline/v1/hello HTTP/1.1",
            "throughline: 1\r\n\r\n".into(),
            405,
        ),
        (
            "POST /throughline/v1/hello HTTP/1.1",
            format!("throughline: 1\r\n{}", body("{\"v\":1}")),
            200,
        ),
        ("\u{0}\u{1}\u{2}", "\r\n".into(), 400),
    ];
    for (line, rest, status) in cases {
        let answer = exchange(
            port,
            format!("{line}\r\nhost: localhost\r\n{rest}").as_bytes(),
        );
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line} {rest:?}: {answer:?}"
        );
    }
    invoke(&sandbox, r#"{"spans":3}"#).await;
    shut_down(&sandbox).await;
    assert_eq!(sink.unique_spans().len(), 3);
    assert_eq!(spans(&ledger(&sandbox), "received"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_told_in_the_encoding_of_the_request() {
    let (_sink, sandbox) = awake(&[]).await;
    let post = |kind: &str, text: &str| {
        let length = text.len();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {length}"
        );
        exchange(
            sandbox.http_port(),
            format!("{head}\r\n\r\n{text}").as_bytes(),
        )
    };
    let json = post("application/json; charset=utf-8", "[");
    assert!(
        json.contains("content-type: application/json") && json.contains("\"code\":3"),
        "{json}"
    );
    let protobuf = post("application/x-protobuf", "\u{7f}");
    assert!(
        protobuf.contains("content-type: application/x-protobuf"),
        "{protobuf}"
    );
    // google.rpc.Status: field 1, a varint, INVALID_ARGUMENT.
    assert!(protobuf.contains("\r\n\r\n\u{8}\u{3}"), "{protobuf:?}");
    shut_down(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_cannot_keep_others_out() {
    let (sink, sandbox) = awake(&[]).await;
    let port = sandbox.http_port();
    // More than the bound on connections: some that say nothing, some in the middle of a head or a body.
    let mut stalled = Vec::new();
    for number in 0..300 {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            continue;
        };
        let part: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /v1/traces HTTP/1.1\r\nhost",
            _ => {
                b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n\
                   content-length: 4000000\r\n\r\nabc"
            }
        };
        // A connection that was closed to make room is what we expect.
        let _ = stream.write_all(part);
        stalled.push(stream);
    }
    for _ in 0..3 {
        let invocation = invoke(&sandbox, r#"{"spans":3}"#).await;
        assert_eq!(invocation.outcome.response().unwrap(), "[200]");
    }
    shut_down(&sandbox).await;
    assert_eq!(sink.unique_spans().len(), 9);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_bomb_is_too_large() {
    let (_sink, sandbox) = awake(&[]).await;
    // 8 MiB of zeros: the answer has to come without unpacking them all.
    let bomb = gzip_zeros(8 << 20);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        bomb.len()
    );
    let answer = exchange(sandbox.http_port(), &[head.as_bytes(), &bomb].concat());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
    invoke(&sandbox, r#"{"spans":1}"#).await;
    shut_down(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_value_is_ever_logged() {
    let (_sink, sandbox) = awake(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        (
            "THROUGHLINE_HEADERS",
            "authorization=Bearer%20s3cr3t-token,x-key=s3cr3t-token%,s3cr3t-token",
        ),
        ("THROUGHLINE_LOG_LEVEL", "trace"),
    ])
    .await;
    for _ in 0..3 {
        invoke(&sandbox, r#"{"spans":1}"#).await;
    }
    shut_down(&sandbox).await;
    let log = sandbox.log_text();
    assert!(log.contains("\"level\":\"TRACE\""), "{log}");
    assert!(!log.contains("s3cr3t"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_invocations_without_otlp_get_one_hint() {
    let (_sink, sandbox) = awake(&[]).await;
    for _ in 0..6 {
        invoke(&sandbox, "{}").await;
    }
    shut_down(&sandbox).await;
    let hints = sandbox
        .logs()
        .iter()
        .filter(|line| line.text.contains("no OTLP has come"))
        .count();
    assert_eq!(hints, 1, "{}", sandbox.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_and_only_the_ledger_is_written() {
    let (_sink, sandbox) = awake(&[]).await;
    for _ in 0..3 {
        invoke(&sandbox, r#"{"spans":1}"#).await;
    }
    shut_down(&sandbox).await;
    let lines: Vec<String> = sandbox.logs().into_iter().map(|line| line.text).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (line["level"].as_str(), line["message"].as_str()),
        (Some("INFO"), Some("ledger"))
    );
}

#[test]
fn check_says_what_it_would_do_and_every_mistake() {
    let check = |env: &[(&str, &str)]| {
        let output = Command::new(binary("throughline-extension"))
            .arg("--check")
            .env_clear()
            .envs(env.iter().copied())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example")]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("https://collector.example/v1/traces"),
        "{text}"
    );
    let (code, text) = check(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
        ("THROUGHLINE_FLUSH_TIMEOUT", "soon"),
    ]);
    assert_eq!(code, Some(64), "{text}");
    assert_eq!(text.matches("mistake ").count(), 2, "{text}");
}

#[test]
fn outside_of_a_sandbox_it_says_so() {
    let output = Command::new(binary("throughline-extension"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("AWS_LAMBDA_RUNTIME_API")
    );
}

/// Writes, and reads until the other side has nothing more for a while or closes.
fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..length]);
        if length == 0 || is_whole(&answer) {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

/// A gzip member of that many zeros, stored as the densest that deflate's fixed codes can say: runs of 258.
fn gzip_zeros(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with fixed Huffman codes.
    bits.put(1, 1);
    bits.put(1, 2);
    bits.put_code(0x30, 8);
    for _ in 0..count / 258 {
        // Length 258 is code 285, distance 1 is code 0.
        bits.put_code(0b1100_0101, 8);
        bits.put_code(0, 5);
    }
    // End of block.
    bits.put_code(0, 7);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(bits.bytes);
    // A wrong check sum and length: the bound is met long before.
    out.extend([0; 8]);
    out
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Lowest bit first.
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().unwrap();
            *last |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// Huffman codes stand highest bit first (RFC 1951, 3.1.1).
    fn put_code(&mut self, code: u32, count: u32) {
        for bit in (0..count).rev() {
            self.put(code >> bit & 1, 1);
        }
    }
}
