//! An SQS server that we did not write, a client with our interceptor, and the spans it ends.

use std::process::Stdio;
use std::time::Duration;

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use it::tool;
use lambda_emulator::{SqsServer, Timeline};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::Value;
use throughline::parent::{ContextOptions, RecordContext, read_received};
use throughline::producer::Interceptor;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// Bound of a wait: far longer than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What answers as SQS.
pub(crate) enum Server {
    /// `local-aws-sqs` from npm; ends with its standard input.
    Theirs {
        url: String,
        _process: Box<Child>,
        _stdin: ChildStdin,
    },
    /// The one in `tests/emulator`.
    Ours(SqsServer),
}

impl Server {
    pub(crate) async fn theirs() -> Self {
        let mut process = Command::new("node")
            .args(["--input-type=module", "-e", include_str!("server.mjs")])
            .current_dir(tool("node"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is on the PATH: `cargo xtask test --only tools` says what is missing");
        let stdin = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .expect("local-aws-sqs starts");
        let port = line.unwrap().expect("local-aws-sqs says its port");
        Self::Theirs {
            url: format!("http://127.0.0.1:{port}"),
            _process: Box::new(process),
            _stdin: stdin,
        }
    }

    pub(crate) async fn ours() -> Self {
        Self::Ours(SqsServer::start_on(&Timeline::new()).await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Theirs { url, .. } => url.clone(),
            Self::Ours(server) => server.endpoint_url().to_string(),
        }
    }
}

/// A client with the interceptor, and what it records.
pub(super) struct Bench {
    pub(super) client: aws_sdk_sqs::Client,
    pub(super) provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Bench {
    pub(super) fn new(server: &Server, options: impl FnOnce(Interceptor) -> Interceptor) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let interceptor = options(Interceptor::new().with_tracer_provider(&provider));
        let client = client(server, |config| config.interceptor(interceptor));
        Self {
            client,
            provider,
            exporter,
        }
    }

    pub(super) fn spans(&self, name: &str) -> Vec<SpanData> {
        let spans = self.exporter.get_finished_spans().unwrap();
        spans.into_iter().filter(|span| span.name == name).collect()
    }

    /// The only span of this name since the last time the record was cleared.
    pub(super) fn span(&self, name: &str) -> SpanData {
        let mut spans = self.spans(name);
        assert_eq!(spans.len(), 1, "spans named {name:?}");
        spans.remove(0)
    }

    pub(super) fn clear(&self) {
        self.exporter.reset();
    }

    pub(super) async fn queue(
        &self,
        name: &str,
        attributes: &[(QueueAttributeName, String)],
    ) -> String {
        let mut create = self.client.create_queue().queue_name(name);
        for (name, value) in attributes {
            create = create.attributes(name.clone(), value);
        }
        create.send().await.unwrap().queue_url.unwrap()
    }

    /// Receives until `count` messages have come, each seen once, and deletes them if asked to.
    pub(super) async fn receive(
        &self,
        queue_url: &str,
        count: usize,
        delete: bool,
    ) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        let receiving = async {
            while messages.len() < count {
                // The older parameter: local-aws-sqs knows no other.
                #[allow(deprecated)]
                let receive = self
                    .client
                    .receive_message()
                    .attribute_names(QueueAttributeName::All);
                let receive = receive.message_attribute_names("user.*");
                let answer = receive
                    .queue_url(queue_url)
                    .max_number_of_messages(10)
                    .send()
                    .await
                    .unwrap();
                for message in answer.messages.unwrap_or_default() {
                    if delete {
                        let handle = message.receipt_handle.clone();
                        let delete = self.client.delete_message().queue_url(queue_url);
                        delete.set_receipt_handle(handle).send().await.unwrap();
                    }
                    messages.push(message);
                }
            }
        };
        tokio::time::timeout(PATIENCE, receiving)
            .await
            .expect("the messages come");
        messages
    }
}

/// A client of the server.
pub(crate) fn client(
    server: &Server,
    options: impl FnOnce(aws_sdk_sqs::config::Builder) -> aws_sdk_sqs::config::Builder,
) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .endpoint_url(server.url())
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    aws_sdk_sqs::Client::from_conf(options(config).build())
}

pub(super) fn read(message: &Message) -> RecordContext {
    read_received(
        message,
        &ContextOptions::default(),
        std::time::SystemTime::now(),
    )
}

pub(super) fn system<'a>(
    message: &'a Message,
    name: &MessageSystemAttributeName,
) -> Option<&'a str> {
    message.attributes.as_ref()?.get(name).map(String::as_str)
}

/// Runs one of the Python scripts and reads what it prints.
pub(super) async fn python(script: &str, arguments: &[&str]) -> Value {
    let path = it::workspace().join("tests/it/interop_sqs").join(script);
    let run = Command::new(tool("python/bin/python"))
        .arg(path)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .expect("python ends")
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}
