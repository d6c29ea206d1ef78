//! Upstream against servers that are scripted byte by byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

mod grpc;
mod proxied;
mod tls;

use super::*;
use crate::otlp;

/// A request as a scripted server saw it.
#[derive(Debug)]
struct Seen {
    /// Which connection it came on, from 0.
    connection: usize,
    head: String,
    body: Vec<u8>,
}

/// What a scripted server does with one request.
#[derive(Clone, Copy)]
enum Act {
    /// Answers and keeps the connection.
    Answer(&'static [u8]),
    /// Answers, then closes in order.
    AnswerAndClose(&'static [u8]),
    /// Closes without a word; a socket with bytes unread is reset by it.
    Reset,
    /// Says nothing, and holds the connection.
    Hang,
}

/// Serves `acts` in order, one per request, and reports every request.
async fn serve(acts: Vec<Act>) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::unbounded_channel();
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(connection_of(
                stream,
                connection,
                acts.clone(),
                next.clone(),
                seen.clone(),
            ));
        }
    });
    (url, requests)
}

async fn connection_of(
    mut stream: tokio::net::TcpStream,
    connection: usize,
    acts: Vec<Act>,
    next: Arc<AtomicUsize>,
    seen: mpsc::UnboundedSender<Seen>,
) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let act = acts.get(next.fetch_add(1, Ordering::SeqCst)).copied();
        let _ = seen.send(Seen {
            connection,
            head,
            body,
        });
        match act.expect("a request that is in the script") {
            Act::Answer(answer) => stream.write_all(answer).await.unwrap(),
            Act::AnswerAndClose(answer) => {
                stream.write_all(answer).await.unwrap();
                return;
            }
            Act::Reset => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Act::Hang => std::future::pending::<()>().await,
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec())
        .unwrap()
        .to_ascii_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or("0", |rest| rest.split("\r\n").next().unwrap());
    let length: usize = length.parse().unwrap();
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some((head, bytes[end..].to_vec()))
}

/// Answers every request on one stream with 200, and reports them.
async fn accept_all(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    seen: mpsc::UnboundedSender<Seen>,
) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let _ = seen.send(Seen {
            connection,
            head,
            body,
        });
        stream.write_all(OK).await.unwrap();
        stream.flush().await.unwrap();
    }
}

fn destination(url: &str) -> Destination {
    Destination {
        endpoint: Endpoint::parse(url).unwrap(),
        protocol: Protocol::HttpProtobuf,
        headers: vec![("X-Api-Key".into(), HeaderSource::Literal("k 1".into()))],
        compression: Compression::None,
        timeout: Duration::from_secs(30),
        tls: TlsFiles::default(),
    }
}

fn traces_to(destination: Destination) -> Upstream {
    Upstream::new(UpstreamSettings {
        destinations: [Some(destination), None, None],
        ..UpstreamSettings::default()
    })
}

fn chunks() -> Vec<Bytes> {
    vec![
        Bytes::from_static(b"ab"),
        Bytes::new(),
        Bytes::from_static(b"cde"),
    ]
}

fn accepted() -> Outcome {
    Outcome::Accepted {
        rejected: 0,
        message: String::new(),
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn a_request_is_its_chunks_in_order() {
    let (url, mut requests) = serve(vec![Act::Answer(OK)]).await;
    assert_eq!(
        traces_to(destination(&url))
            .send(Signal::Traces, chunks())
            .await,
        accepted()
    );
    let seen = requests.recv().await.unwrap();
    assert_eq!(seen.body, b"abcde");
    assert!(
        seen.head.starts_with("post /v1/traces http/1.1\r\n"),
        "{}",
        seen.head
    );
    for line in [
        "content-type: application/x-protobuf\r\n",
        "content-length: 5\r\n",
        "x-api-key: k 1\r\n",
        "user-agent: throughline-extension/",
        "host: 127.0.0.1:",
    ] {
        assert!(seen.head.contains(line), "{line} in {}", seen.head);
    }
    assert!(!seen.head.contains("content-encoding"));
}

#[tokio::test]
async fn a_compressed_request_says_so() {
    let (url, mut requests) = serve(vec![Act::Answer(OK)]).await;
    let destination = Destination {
        compression: Compression::Gzip,
        ..destination(&url)
    };
    assert_eq!(
        traces_to(destination).send(Signal::Traces, chunks()).await,
        accepted()
    );
    let seen = requests.recv().await.unwrap();
    assert!(seen.head.contains("content-encoding: gzip\r\n"));
    assert_eq!(otlp::gunzip_bounded(&seen.body, 5).unwrap(), b"abcde");
}

#[tokio::test]
async fn connections_are_used_again() {
    let (url, mut requests) = serve(vec![Act::Answer(OK); 3]).await;
    let upstream = traces_to(destination(&url));
    upstream.warm(Signal::Traces).await;
    for _ in 0..3 {
        assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
        upstream.warm(Signal::Traces).await;
        assert_eq!(requests.recv().await.unwrap().connection, 0);
    }
}

#[tokio::test]
async fn an_upstream_that_closed_in_order_is_connected_anew() {
    let (url, mut requests) = serve(vec![Act::AnswerAndClose(OK), Act::Answer(OK)]).await;
    let upstream = traces_to(destination(&url));
    for connection in 0..2 {
        assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
        assert_eq!(requests.recv().await.unwrap().connection, connection);
    }
}

// Recipe "stale kept-alive connections": what upstream dropped without our seeing it is sent once more.
#[tokio::test]
async fn a_reset_on_a_used_connection_is_sent_once_more() {
    let (url, mut requests) = serve(vec![Act::Answer(OK), Act::Reset, Act::Answer(OK)]).await;
    let upstream = traces_to(destination(&url));
    for _ in 0..2 {
        assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    }
    let seen = [
        requests.recv().await.unwrap(),
        requests.recv().await.unwrap(),
        requests.recv().await.unwrap(),
    ];
    assert_eq!(seen.each_ref().map(|seen| seen.connection), [0, 0, 1]);
    assert_eq!(seen[2].body, b"abcde");
}

#[tokio::test]
async fn a_reset_on_a_new_connection_is_lost() {
    let (url, mut requests) = serve(vec![Act::Reset, Act::Answer(OK)]).await;
    let upstream = traces_to(destination(&url));
    let outcome = upstream.send(Signal::Traces, chunks()).await;
    assert!(matches!(outcome, Outcome::Lost { .. }), "{outcome:?}");
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    assert_eq!(requests.recv().await.unwrap().connection, 0);
    assert_eq!(requests.recv().await.unwrap().connection, 1);
}

#[tokio::test]
async fn a_dropped_request_takes_its_connection_with_it() {
    let (url, mut requests) = serve(vec![Act::Answer(OK), Act::Hang, Act::Answer(OK)]).await;
    let upstream = traces_to(destination(&url));
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    assert_eq!(requests.recv().await.unwrap().connection, 0);
    tokio::select! {
        outcome = upstream.send(Signal::Traces, chunks()) => panic!("{outcome:?}"),
        seen = requests.recv() => assert_eq!(seen.unwrap().connection, 0),
    }
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    assert_eq!(requests.recv().await.unwrap().connection, 1);
}

#[tokio::test]
async fn silence_ends_at_the_timeout() {
    let (url, _requests) = serve(vec![Act::Hang]).await;
    let destination = Destination {
        timeout: Duration::from_millis(50),
        ..destination(&url)
    };
    let outcome = traces_to(destination).send(Signal::Traces, chunks()).await;
    assert!(matches!(outcome, Outcome::Lost { .. }), "{outcome:?}");
}

#[tokio::test]
async fn answers_become_outcomes() {
    let lost = |status: &str, after| Outcome::Retryable {
        status: status.into(),
        after,
    };
    let table: Vec<(&'static [u8], Outcome)> = vec![
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\x0a\x06\x08\x02\x12\x02no",
            Outcome::Accepted { rejected: 2, message: "no".into() },
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", accepted()),
        (b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", accepted()),
        (
            b"HTTP/1.1 503 No\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n",
            lost("503", Some(Duration::from_secs(3))),
        ),
        (b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", lost("429", None)),
        (b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n", Outcome::TooLarge),
        (
            b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n",
            Outcome::Unauthorized { status: "401".into() },
        ),
        (
            b"HTTP/1.1 400 No\r\ncontent-type: application/x-protobuf\r\ncontent-length: 7\r\n\r\n\x08\x03\x12\x03bad",
            Outcome::Refused { status: "400".into(), message: "bad".into() },
        ),
        (
            b"HTTP/1.1 404 No\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\nnot\r\nhere ",
            Outcome::Refused { status: "404".into(), message: "not  here".into() },
        ),
    ];
    for (answer, outcome) in table {
        let (url, _requests) = serve(vec![Act::Answer(answer)]).await;
        assert_eq!(
            traces_to(destination(&url))
                .send(Signal::Traces, chunks())
                .await,
            outcome
        );
    }
}

#[tokio::test]
async fn a_redirect_is_said_and_not_followed() {
    let (url, _requests) = serve(vec![Act::Answer(
        b"HTTP/1.1 308 Go\r\nlocation: https://x/\r\ncontent-length: 0\r\n\r\n",
    )])
    .await;
    let outcome = traces_to(destination(&url))
        .send(Signal::Traces, chunks())
        .await;
    let Outcome::Unreachable { why } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("308") && why.contains("https://x/"), "{why}");
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let upstream = traces_to(destination(&url));
    upstream.warm(Signal::Traces).await;
    let outcome = upstream.send(Signal::Traces, chunks()).await;
    let Outcome::Unreachable { why } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("refused"), "{why}");
    assert!(matches!(
        upstream.send(Signal::Logs, chunks()).await,
        Outcome::Unreachable { .. }
    ));
}

#[tokio::test]
async fn a_connection_that_was_opened_ahead_may_be_dead_too() {
    let (url, mut requests) = serve(vec![Act::Reset, Act::Answer(OK)]).await;
    let upstream = traces_to(destination(&url));
    upstream.warm(Signal::Traces).await;
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    assert_eq!(requests.recv().await.unwrap().connection, 0);
    assert_eq!(requests.recv().await.unwrap().connection, 1);
}

#[tokio::test]
async fn without_its_headers_nothing_is_sent() {
    let (url, mut requests) = serve(vec![]).await;
    let upstream = Upstream::new(UpstreamSettings {
        destinations: [Some(destination(&url)), None, None],
        headers_file: Some("/nowhere/at/all".into()),
        ..UpstreamSettings::default()
    });
    upstream.warm(Signal::Traces).await;
    let outcome = upstream.send(Signal::Traces, chunks()).await;
    let Outcome::Unreachable { why } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        why.starts_with("THROUGHLINE_HEADERS_FILE: /nowhere/at/all"),
        "{why}"
    );
    assert!(requests.try_recv().is_err());
}

#[test]
fn settings_show_no_secrets() {
    let shown = format!("{:?}", traces_to(destination("http://h/")));
    assert!(!shown.contains("k 1"), "{shown}");
}
