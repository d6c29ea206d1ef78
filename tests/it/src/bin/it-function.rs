//! Plays the function in the tests of the extension, with nothing but `std`: a plain OTLP client, or one that
//! speaks hello and complete like the wrapper.
//!
//! The event is `{"spans":3,"logs":0,"points":0,"requests":1,"bytes":0,"work_ms":0,"late_ms":0,"fail":false}`:
//! that many items in each of so many requests, each item with so many bytes of padding, so many milliseconds of
//! work before the answer, and, with `late_ms`, one more span from a thread of its own that long after the answer.
//! `HELLO=1` makes it say hello and complete.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is a failed test, seen in its log"
)]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

fn main() {
    let api = env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let hello = env::var("HELLO").is_ok_and(|value| value == "1");
    if hello {
        let _ = post(
            &receiver(),
            "/throughline/v1/hello",
            "application/json",
            b"{\"v\":1}",
        );
    }
    for number in 0.. {
        let next = call(&api, "GET", "/2018-06-01/runtime/invocation/next", "", b"").unwrap();
        let request_id = next.header("lambda-runtime-aws-request-id");
        let event: Value = serde_json::from_slice(&next.body).unwrap_or_default();
        let taken = export(number, &event);
        thread::sleep(Duration::from_millis(
            event["work_ms"].as_u64().unwrap_or(0),
        ));
        let end = if event["fail"].as_bool() == Some(true) {
            "error"
        } else {
            "response"
        };
        let path = format!("/2018-06-01/runtime/invocation/{request_id}/{end}");
        call(
            &api,
            "POST",
            &path,
            "application/json",
            format!("{taken}").as_bytes(),
        )
        .unwrap();
        if let Some(late_ms) = event["late_ms"].as_u64().filter(|late_ms| *late_ms > 0) {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(late_ms));
                let _ = post(
                    &receiver(),
                    "/v1/traces",
                    "application/x-protobuf",
                    &spans(number, "late", 1, 0),
                );
            });
        }
        if hello {
            let path = format!("/throughline/v1/invocations/{request_id}/complete");
            let _ = post(&receiver(), &path, "application/json", b"");
        }
    }
}

fn receiver() -> String {
    format!("127.0.0.1:{}", env::var("THROUGHLINE_HTTP_PORT").unwrap())
}

/// Sends what the event asks for; the statuses of the answers.
fn export(number: usize, event: &Value) -> Value {
    let count = |name: &str| usize::try_from(event[name].as_u64().unwrap_or(0)).unwrap();
    let mut statuses = Vec::new();
    for request in 0..count("requests").max(1) {
        let name = request.to_string();
        let bytes = count("bytes");
        let all = [
            (
                "/v1/traces",
                count("spans"),
                spans(number, &name, count("spans"), bytes),
            ),
            ("/v1/logs", count("logs"), logs(count("logs"), bytes)),
            ("/v1/metrics", count("points"), points(count("points"))),
        ];
        for (path, items, body) in all {
            if items > 0 {
                let answer = post(&receiver(), path, "application/x-protobuf", &body);
                statuses.push(answer.map_or(Value::Null, |answer| answer.status.into()));
            }
        }
    }
    Value::Array(statuses)
}

fn spans(number: usize, request: &str, count: usize, bytes: usize) -> Vec<u8> {
    let scope: Vec<u8> = (0..count)
        .flat_map(|index| {
            let name = format!("span-{number}-{request}-{index}");
            let mut span = field(1, &id::<16>(&name));
            span.extend(field(2, &id::<8>(&name)));
            span.extend(field(5, name.as_bytes()));
            // start_time_unix_nano and end_time_unix_nano, fixed64
            span.extend([7 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 1]);
            span.extend([8 << 3 | 1, 0, 0, 0, 1, 0, 0, 0, 1]);
            span.extend(field(
                9,
                &[
                    field(1, b"padding"),
                    field(2, &field(1, &vec![b'x'; bytes])),
                ]
                .concat(),
            ));
            field(2, &span)
        })
        .collect();
    field(1, &field(2, &scope))
}

fn logs(count: usize, bytes: usize) -> Vec<u8> {
    let record = field(5, &field(1, &vec![b'x'; bytes]));
    field(1, &field(2, &field(2, &record).repeat(count)))
}

/// One gauge.
fn points(count: usize) -> Vec<u8> {
    // as_int, sfixed64
    let point = field(1, &[6 << 3 | 1, 7, 0, 0, 0, 0, 0, 0, 0]);
    let metric = [field(1, b"gauge"), field(5, &point.repeat(count))].concat();
    field(1, &field(2, &field(2, &metric)))
}

/// An id that differs for each name (FNV-1a, stretched).
fn id<const N: usize>(name: &str) -> [u8; N] {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut id = [0; N];
    for (index, byte) in id.iter_mut().enumerate() {
        for letter in name.bytes().chain([b'0' + index as u8]) {
            hash = (hash ^ u64::from(letter)).wrapping_mul(0x100_0000_01b3);
        }
        *byte = (hash >> 32) as u8 | 1;
    }
    id
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> String {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }
}

fn post(address: &str, path: &str, content_type: &str, body: &[u8]) -> std::io::Result<Answer> {
    call(address, "POST", path, content_type, body)
}

/// One call on a connection of its own.
fn call(
    address: &str,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {content_type}\r\nthroughline: 1\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    let length = answer.header("content-length").parse().unwrap_or(0);
    answer.body.resize(length, 0);
    reader.read_exact(&mut answer.body)?;
    Ok(answer)
}
