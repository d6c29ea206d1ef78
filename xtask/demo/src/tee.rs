//! Passes what the sink received on to another OTLP server, byte for byte.

use std::sync::Mutex;
use std::time::Duration;

use lambda_emulator::{OtlpSink, ReceivedRequest};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client;

/// The task that passes requests on, each once, in their order.
#[derive(Debug)]
pub struct Tee {
    endpoint: String,
    last: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<Vec<String>>>>,
}

impl Tee {
    /// Starts passing on to `endpoint`, a base URL such as `http://127.0.0.1:4318`.
    pub fn start(sink: &OtlpSink, endpoint: &str) -> Self {
        let (last, stop) = watch::channel(false);
        let task = tokio::spawn(pass_on(sink.clone(), endpoint.to_owned(), stop));
        Self {
            endpoint: endpoint.to_owned(),
            last,
            task: Mutex::new(Some(task)),
        }
    }

    /// Where it passes to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
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
            if let Err(reason) = send(&endpoint, request).await {
                findings.push(format!("{endpoint}{}: {reason}", request.path));
            }
        }
        if ending {
            return counted(findings);
        }
        tokio::select! {
            _ = stop.changed() => {}
            _ = sink.wait_for_requests(done + 1, Duration::from_secs(3600)) => {}
        }
    }
}

/// The same thing told many times is told once, with how often it was.
fn counted(findings: Vec<String>) -> Vec<String> {
    let mut told: Vec<(String, usize)> = Vec::new();
    for finding in findings {
        match told.iter_mut().find(|(known, _)| *known == finding) {
            Some((_, times)) => *times += 1,
            None => told.push((finding, 1)),
        }
    }
    let line = |(finding, times)| {
        if times == 1 {
            finding
        } else {
            format!("{finding}, {times} times")
        }
    };
    told.into_iter().map(line).collect()
}

async fn send(endpoint: &str, received: &ReceivedRequest) -> Result<(), String> {
    // The body is passed on decompressed; of the headers only its type still holds.
    let kind = received
        .header("content-type")
        .unwrap_or("application/x-protobuf");
    let url = format!("{endpoint}{}", received.path);
    let (status, body) =
        client::post(&url, &[("content-type", kind)], received.body.clone()).await?;
    if status.is_success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    Err(format!("{status} {said}").trim_end().to_owned())
}
