//! The sink's HTTP/1.1 server, by hand: only so can it stop reading, close unannounced,
//! and know when the last byte of an answer was taken by the operating system.

mod read;

use self::read::{BODY_BYTES_MAX, Head, Reader, read_body, read_head};
use super::{
    ReceivedRequest, Shared, Signal, SinkAnswer,
    answer::{End, Reply, Written},
    decode::{self, Decoded},
};
use crate::{clock::Moment, timeline::Event};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use std::{
    io::{self, Read},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, BufReader, WriteHalf},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// Accepts until dropped; connections end with it.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (shared, tls) = (shared.clone(), tls.clone());
        connections.spawn(async move {
            // A broken connection ends itself; what had arrived is written down.
            let _ = greet(stream, shared, tls).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The side of a connection that is written to.
enum Writer {
    Plain(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

async fn greet(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = shared.connected();
    let (read, write): (Box<dyn AsyncRead + Send + Unpin>, _) = match tls {
        None => {
            let (read, write) = stream.into_split();
            (Box::new(read), Writer::Plain(write))
        }
        Some(tls) => {
            let (read, write) = tokio::io::split(tls.accept(stream).await?);
            (Box::new(read), Writer::Tls(write))
        }
    };
    converse(BufReader::new(read), write, connection, shared).await
}

async fn converse(
    mut reader: Reader,
    mut write: Writer,
    connection: usize,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let mut close_idle = shared.close_idle.subscribe();
    loop {
        let head = tokio::select! {
            head = read_head(&mut reader) => head?,
            _ = close_idle.changed() => return Ok(()),
        };
        let Some(head) = head else { return Ok(()) };
        let answer = shared.next_answer();
        if answer == SinkAnswer::StopReading {
            std::future::pending::<()>().await;
        }
        if head.has("expect", "100-continue") {
            write.all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = read_body(&mut reader, &head).await?;
        let (number, reply, signal) = receive(&shared, &head, body, answer, connection);
        if !reply.wait.is_zero() {
            tokio::time::sleep(reply.wait).await;
        }
        if let Some(written) = &reply.written {
            shared.decided(number, written.status, written.rejected);
            answer_with(
                &shared,
                &mut write,
                number,
                &render(&head, signal, written),
                written.status,
            )
            .await?;
        }
        match reply.end {
            End::Hang => std::future::pending::<()>().await,
            End::Close => return Ok(()),
            End::Keep if head.has("connection", "close") => return Ok(()),
            End::Keep => {}
        }
    }
}

/// Decodes a request, writes it down and settles the answer.
fn receive(
    shared: &Shared,
    head: &Head,
    wire: Vec<u8>,
    answer: SinkAnswer,
    connection: usize,
) -> (usize, Reply, Option<Signal>) {
    let signal = Signal::of_path(&head.path).filter(|_| head.method == "POST");
    let wire_bytes = wire.len();
    let (body, mut decode_error) = match inflate(head, wire) {
        Ok(body) => (body, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let decoded = match signal {
        Some(signal) => decode::decode(signal, &body).unwrap_or_else(|error| {
            decode_error.get_or_insert_with(|| error.to_string());
            Decoded::default()
        }),
        None => Decoded::default(),
    };
    // What is not OTLP gets what a collector would answer, whatever the script says.
    let answer = match (signal, &decode_error) {
        (None, _) => SinkAnswer::status(404),
        (_, Some(_)) => SinkAnswer::status(400),
        _ => answer,
    };
    let reply = answer.resolve(body.len(), &decoded);
    let request = ReceivedRequest {
        number: 0,
        signal,
        path: head.path.clone(),
        headers: head.headers.clone(),
        wire_bytes,
        body: Bytes::from(body),
        items: decoded.items,
        decode_error,
        connection,
        arrived: Moment::now(),
        taken: false,
        rejected: 0,
        status: None,
        acknowledged: None,
    };
    (shared.arrived(request, decoded), reply, signal)
}

fn inflate(head: &Head, wire: Vec<u8>) -> io::Result<Vec<u8>> {
    match head.header("content-encoding") {
        None | Some("identity") => Ok(wire),
        Some("gzip") => {
            let mut body = Vec::new();
            MultiGzDecoder::new(wire.as_slice())
                .take(BODY_BYTES_MAX)
                .read_to_end(&mut body)?;
            Ok(body)
        }
        Some(other) => Err(io::Error::other(format!(
            "content-encoding {other} is not known here"
        ))),
    }
}

/// The answer as bytes.
fn render(head: &Head, signal: Option<Signal>, written: &Written) -> Vec<u8> {
    let status = http::StatusCode::from_u16(written.status)
        .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let body = match signal {
        Some(signal) if status.is_success() => {
            let said = if written.rejected > 0 {
                written.message.as_str()
            } else {
                ""
            };
            decode::response(signal, written.rejected, said)
        }
        _ => Vec::new(),
    };
    let mut text = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Unknown"),
        body.len()
    );
    if let Some(after) = &written.retry_after {
        text.push_str(&format!("retry-after: {after}\r\n"));
    }
    if head.has("connection", "close") {
        text.push_str("connection: close\r\n");
    }
    text.push_str("\r\n");
    [text.into_bytes(), body].concat()
}

/// Writes an answer; the entry of the timeline is made in the same step as the last write.
/// Under TLS a write may wait, so there the entry is made just before it: in either way what it causes comes later.
async fn answer_with(
    shared: &Shared,
    write: &mut Writer,
    number: usize,
    mut bytes: &[u8],
    status: u16,
) -> io::Result<()> {
    let event = Event::SinkRequestAnswered { number, status };
    let write = match write {
        Writer::Plain(write) => write,
        Writer::Tls(_) => {
            let at = shared.timeline.record(&shared.source, event);
            write.all(bytes).await?;
            shared.acknowledged(number, at);
            return Ok(());
        }
    };
    loop {
        write.writable().await?;
        let mut failed = None;
        let done = shared
            .timeline
            .record_after(|| match write.try_write(bytes) {
                Ok(count) if count == bytes.len() => {
                    Some(((), shared.source.clone(), event.clone()))
                }
                Ok(count) => {
                    bytes = &bytes[count..];
                    None
                }
                Err(error) => {
                    failed = (error.kind() != io::ErrorKind::WouldBlock).then_some(error);
                    None
                }
            });
        if let Some(((), at)) = done {
            shared.acknowledged(number, at);
            return Ok(());
        }
        if let Some(error) = failed {
            return Err(error);
        }
    }
}

impl Writer {
    async fn all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Writer::Plain(write) => write.write_all(bytes).await,
            Writer::Tls(write) => {
                write.write_all(bytes).await?;
                write.flush().await
            }
        }
    }
}
