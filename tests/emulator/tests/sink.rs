//! The OTLP sink over its wire: what it takes, what it answers, and when it says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests may, too")]

use lambda_emulator::*;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use std::{io::Write, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const LONG: Duration = Duration::from_secs(30);

fn request(names: &[&str]) -> Vec<u8> {
    let attribute = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    };
    let spans = names.iter().map(|name| Span {
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        name: (*name).into(),
        kind: 5,
        start_time_unix_nano: 1_000_000_000,
        attributes: vec![attribute("order", name)],
        ..Span::default()
    });
    let scope_spans = vec![ScopeSpans {
        spans: spans.collect(),
        ..ScopeSpans::default()
    }];
    let resource = Some(Resource {
        attributes: vec![attribute("service.name", "orders")],
        ..Resource::default()
    });
    let resource_spans = vec![ResourceSpans {
        resource,
        scope_spans,
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(sink: &OtlpSink) -> Self {
        Self(BufReader::new(
            TcpStream::connect(sink.address()).await.unwrap(),
        ))
    }

    async fn send(&mut self, headers: &str, body: &[u8]) {
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0
            .write_all(&[head.as_bytes(), body].concat())
            .await
            .unwrap();
    }

    /// Head and body of an answer, `None` when the connection ended instead.
    async fn answer(&mut self) -> Option<(String, Vec<u8>)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or("0", |rest| rest.lines().next().unwrap());
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        Some((head, body))
    }

    async fn ask(&mut self, body: &[u8]) -> Option<(String, Vec<u8>)> {
        self.send("", body).await;
        self.answer().await
    }
}

fn status(answer: &Option<(String, Vec<u8>)>) -> u16 {
    answer.as_ref().map_or(0, |(head, _)| {
        head.split(' ').nth(1).unwrap().parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_decoded_and_kept_with_their_moments() {
    let sink = OtlpSink::start().await.unwrap();
    let mut client = Client::connect(&sink).await;
    assert_eq!(status(&client.ask(&request(&["a", "b"])).await), 200);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&request(&["c"])).unwrap();
    client
        .send("Content-Encoding: gzip\r\n", &gzip.finish().unwrap())
        .await;
    assert_eq!(status(&client.answer().await), 200);
    let body = request(&["d"]);
    let chunks = [
        b"POST /v1/traces HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
            .to_vec(),
        format!("{:x};ext=1\r\n", body.len()).into_bytes(),
        body,
        b"\r\n0\r\ntrailer: x\r\n\r\n".to_vec(),
    ];
    client.0.write_all(&chunks.concat()).await.unwrap();
    assert_eq!(status(&client.answer().await), 100);
    assert_eq!(status(&client.answer().await), 200);
    let spans = sink.wait_for_spans(4, LONG).await.unwrap();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let span = &spans[0];
    assert_eq!(
        (span.trace_id.as_str(), span.span_id.as_str()),
        ("abababababababababababababababab", "cdcdcdcdcdcdcdcd")
    );
    assert_eq!((span.kind, span.status), ("CONSUMER", "UNSET"));
    assert_eq!(
        (&span.attributes["order"], &span.resource["service.name"]),
        (&Value::Text("a".into()), &Value::Text("orders".into()))
    );
    assert!(span.acknowledged.unwrap() >= span.arrived);
    assert_eq!(sink.unique_spans().len(), 1, "all have the same ids");
    assert_eq!(sink.connections(), 1);
    let requests = sink.requests();
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    assert_eq!(requests[1].body, request(&["c"]));
    assert_eq!(sink.entries().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_take_nothing() {
    let sink = OtlpSink::start().await.unwrap();
    let mut client = Client::connect(&sink).await;
    sink.script([
        SinkAnswer::retry_after(503, 7),
        SinkAnswer::PartialSuccess {
            rejected: 1,
            message: "one too many".into(),
        },
        SinkAnswer::TooLargeAbove(10),
        SinkAnswer::TooLargeAbove(1_000_000),
        SinkAnswer::Poison("poison".into()),
        SinkAnswer::Poison("poison".into()),
    ]);
    let body = request(&["a", "b"]);
    let (head, _) = client.ask(&body).await.unwrap();
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 7\r\n"),
        "{head}"
    );
    let (_, partial) = client.ask(&body).await.unwrap();
    let partial = ExportTraceServiceResponse::decode(partial.as_slice())
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(
        (partial.rejected_spans, partial.error_message.as_str()),
        (1, "one too many")
    );
    assert_eq!(sink.spans().len(), 1);
    assert_eq!(status(&client.ask(&body).await), 413);
    assert_eq!(status(&client.ask(&body).await), 200);
    assert_eq!(status(&client.ask(&request(&["poison"])).await), 400);
    assert_eq!(status(&client.ask(&body).await), 200);
    assert_eq!(
        status(&client.ask(b"\xff\xff\xff").await),
        400,
        "what is not OTLP is refused by itself"
    );
    assert_eq!(sink.spans().len(), 5);
    assert_eq!(sink.arrived_spans().len(), 11);
    assert!(sink.requests().last().unwrap().decode_error.is_some());
    sink.set_default(SinkAnswer::status(429));
    assert_eq!(status(&client.ask(&body).await), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_break_as_scripted() {
    let sink = OtlpSink::start().await.unwrap();
    let body = request(&["a"]);
    sink.script([
        SinkAnswer::CloseAfter,
        SinkAnswer::CloseInstead,
        SinkAnswer::slow(Duration::from_millis(20)),
        SinkAnswer::Hang,
        SinkAnswer::StopReading,
    ]);
    let mut client = Client::connect(&sink).await;
    let (head, _) = client.ask(&body).await.unwrap();
    assert!(!head.contains("connection: close"), "unannounced");
    assert!(client.answer().await.is_none(), "closed");
    let mut client = Client::connect(&sink).await;
    assert!(client.ask(&body).await.is_none());
    assert_eq!(sink.spans().len(), 1);
    let mut client = Client::connect(&sink).await;
    let sent = tokio::time::Instant::now();
    assert_eq!(status(&client.ask(&body).await), 200);
    assert!(sent.elapsed() >= Duration::from_millis(20));

    client.send("", &body).await;
    assert!(sink.wait_for_requests(4, LONG).await);
    let hanging = sink.requests().remove(3);
    assert_eq!(
        (hanging.status, hanging.taken, hanging.acknowledged),
        (None, false, None)
    );

    let mut blocked = Client::connect(&sink).await;
    blocked.send("", &body).await;
    // More than the buffers of a socket hold cannot be written any more.
    let flood = vec![0; 64 * 1024 * 1024];
    let written =
        tokio::time::timeout(Duration::from_millis(500), blocked.0.write_all(&flood)).await;
    assert!(written.is_err(), "nobody reads");
    assert_eq!(sink.requests().len(), 4);

    let mut idle = Client::connect(&sink).await;
    assert_eq!(status(&idle.ask(&body).await), 200);
    sink.close_idle_connections();
    assert!(idle.answer().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_stands_in_the_timeline_before_anything_it_causes() {
    let sink = OtlpSink::start().await.unwrap();
    let mut client = Client::connect(&sink).await;
    for number in 0..200 {
        assert_eq!(status(&client.ask(&request(&["a"])).await), 200);
        sink.timeline().note(format!("caused by {number}"));
    }
    let mut answered = 0;
    for entry in sink.timeline().entries() {
        match entry.event {
            Event::SinkRequestAnswered { .. } => answered += 1,
            Event::Note { text } => assert_eq!(text, format!("caused by {}", answered - 1)),
            _ => {}
        }
    }
    assert_eq!(answered, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_is_still_counted() {
    let sink = OtlpSink::start().await.unwrap();
    sink.keep(false);
    let mut client = Client::connect(&sink).await;
    for _ in 0..3 {
        assert_eq!(status(&client.ask(&request(&["a", "b"])).await), 200);
    }
    assert!(sink.wait_for_spans(6, LONG).await.is_ok());
    assert_eq!((sink.span_count(), sink.spans().len()), (6, 0));
    assert!(
        sink.requests()
            .iter()
            .all(|request| request.body.is_empty() && request.wire_bytes > 0)
    );
}
