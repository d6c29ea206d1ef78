//! A function that costs next to nothing itself, so that what is measured is the extension.
//!
//! `BENCH_MODE`: `plain` only answers; `spans` exports ten spans before it answers, as a stock SDK does;
//! `complete` says hello at its start and complete after its answer, as the wrapper does.
//! `BENCH_WORK_MS`: how long it works, 0 by default.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use xtask_demo::bench::otlp;

type Trouble = Box<dyn std::error::Error>;

/// Spans that one invocation exports.
const SPANS: u64 = 10;

fn main() -> Result<(), Trouble> {
    let api = env::var("AWS_LAMBDA_RUNTIME_API")?;
    let mode = env::var("BENCH_MODE").unwrap_or_else(|_| "plain".into());
    let work = Duration::from_millis(
        env::var("BENCH_WORK_MS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    );
    let port = env::var("THROUGHLINE_HTTP_PORT").unwrap_or_else(|_| "4318".into());
    let mut runtime = Connection::open(&api)?;
    let mut extension = match mode.as_str() {
        "plain" => None,
        _ => Some(Connection::open(&format!("127.0.0.1:{port}"))?),
    };
    let ours = [("throughline", "1")];
    if mode == "complete"
        && let Some(extension) = &mut extension
    {
        extension.call("POST", "/throughline/v1/hello", &ours, b"{\"v\":1}")?;
    }
    let mut number = 0;
    loop {
        let id = runtime.call("GET", "/2018-06-01/runtime/invocation/next", &[], b"")?;
        std::thread::sleep(work);
        if let Some(extension) = &mut extension {
            let body = otlp::request(std::process::id().into(), number, SPANS);
            extension.call(
                "POST",
                "/v1/traces",
                &[("content-type", "application/x-protobuf")],
                &body,
            )?;
            number += SPANS;
        }
        runtime.call(
            "POST",
            &format!("/2018-06-01/runtime/invocation/{id}/response"),
            &[],
            b"{}",
        )?;
        if mode == "complete"
            && let Some(extension) = &mut extension
        {
            extension.call(
                "POST",
                &format!("/throughline/v1/invocations/{id}/complete"),
                &ours,
                b"",
            )?;
        }
    }
}

/// A kept connection that asks one thing after the other.
struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    fn open(host: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            host: host.to_owned(),
        })
    }

    /// Asks, reads the answer whole, gives the request id among its headers if there is one.
    fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<String, Trouble> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.host,
            body.len()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        let mut request = request.into_bytes();
        request.extend(body);
        self.stream.get_mut().write_all(&request)?;
        let (mut id, mut length) = (String::new(), 0);
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the connection was closed".into());
            }
            match line
                .trim_end()
                .split_once(": ")
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
            {
                Some((name, value)) if name == "content-length" => length = value.parse()?,
                Some((name, value)) if name == "lambda-runtime-aws-request-id" => {
                    id = value.to_owned();
                }
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        self.stream.read_exact(&mut vec![0; length])?;
        Ok(id)
    }
}
