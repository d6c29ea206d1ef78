//! Passes what the sink received on to another OTLP server, byte for byte.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use lambda_emulator::{OtlpSink, ReceivedRequest};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long one request may take. Chosen: the other server is on this machine or near it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The task that passes requests on, each once, in their order.
#[derive(Debug)]
pub struct Tee {
    last: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<Vec<String>>>>,
}

impl Tee {
    /// Starts passing on to `endpoint`, a base URL such as `http://127.0.0.1:4318`.
    pub fn start(sink: &OtlpSink, endpoint: &str) -> Self {
        let (last, stop) = watch::channel(false);
        let task = tokio::spawn(pass_on(sink.clone(), endpoint.to_owned(), stop));
        Self {
            last,
            task: Mutex::new(Some(task)),
        }
    }

    /// Passes on what is left, then tells what did not get through.
    pub async fn finish(&self) -> Vec<String> {
        self.last.send_replace(true);
        let task = self.task.lock().expect("no holder panics").take();
        match task {
            Some(task) => task.await.unwrap_or_else(|error| vec![error.to_string()]),
            None => Vec::new(),
        }
    }
}

async fn pass_on(sink: OtlpSink, endpoint: String, mut stop: watch::Receiver<bool>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut done = 0;
    loop {
        let ending = *stop.borrow_and_update();
        for request in sink.requests().iter().skip(done) {
            done += 1;
            let sent = tokio::time::timeout(TIMEOUT, send(&endpoint, request)).await;
            if let Err(reason) =
                sent.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
            {
                findings.push(format!("{endpoint}{}: {reason}", request.path));
            }
        }
        if ending {
            return findings;
        }
        tokio::select! {
            _ = stop.changed() => {}
            _ = sink.wait_for_requests(done + 1, Duration::from_secs(3600)) => {}
        }
    }
}

async fn send(endpoint: &str, received: &ReceivedRequest) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let uri: http::Uri = format!("{endpoint}{}", received.path)
        .parse()
        .map_err(|error| text(&error as &http::uri::InvalidUri))?;
    let host = uri.host().unwrap_or("127.0.0.1");
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| text(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path).header("host", format!("{host}:{port}"));
    // The body is passed on decompressed; of the headers only its type still holds.
    if let Some(kind) = received.header("content-type") {
        request = request.header("content-type", kind);
    }
    let request = request
        .body(Full::new(Bytes::clone(&received.body)))
        .map_err(|error| text(&error))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| text(&error))?;
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    connection.abort();
    if status.is_success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    Err(format!("{status} {said}").trim_end().to_owned())
}
