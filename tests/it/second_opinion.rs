//! AWS's own runtime interface emulator runs the consumer and the extension: a second opinion on our sandbox.
//!
//! The emulator answers the Telemetry subscription with 202 and never sends an event, and its caller's
//! answer waits for the extensions: so an answer that is there means that the flush is over.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use it::{binary, tool};
use lambda_emulator::OtlpSink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::events::{event, free_port, record, traceparent};

#[tokio::test(flavor = "multi_thread")]
async fn needs_tools_the_aws_emulator_runs_the_consumer_with_the_extension() {
    let sink = OtlpSink::start().await.unwrap();
    let mut emulator = AwsEmulator::start(&sink).await;
    for number in 1..=3u32 {
        let batch = event(vec![
            record(
                &format!("{number}-a"),
                "{}",
                Some(&traceparent(number.into(), 1)),
            ),
            record(
                &format!("{number}-b"),
                "{}",
                Some(&traceparent(100 + u128::from(number), 2)),
            ),
        ]);
        let answer = emulator.invoke(&batch).await;
        assert!(answer.contains("batchItemFailures"), "{answer}");
        let records = sink
            .spans()
            .into_iter()
            .filter(|span| span.kind == "CONSUMER");
        let traces: Vec<String> = records.map(|span| span.trace_id).collect();
        assert_eq!(
            traces.len(),
            2 * number as usize,
            "spans upstream when the caller had its answer"
        );
        assert!(traces.contains(&format!("{number:032x}")));
        assert!(traces.contains(&format!("{:032x}", 100 + number)));
    }
    emulator.stop().await;
}

/// The emulator's process, with an `/opt` of its own so that several can run beside each other.
struct AwsEmulator {
    child: Child,
    port: u16,
}

impl AwsEmulator {
    async fn start(sink: &OtlpSink) -> Self {
        let stage = std::env::temp_dir().join(format!("throughline-rie-{}", free_port()));
        let extensions = stage.join("extensions");
        std::fs::create_dir_all(&extensions).unwrap();
        let extension = binary("throughline-extension");
        std::fs::copy(&extension, extensions.join("throughline-extension")).unwrap();
        let (port, api, otlp, grpc) = (free_port(), free_port(), free_port(), free_port());
        // As root a mount namespace is enough; everybody else needs a user namespace around it.
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["-U", "-r"]);
        }
        let child = command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount --bind \"$0\" /opt && exec \"$@\"")
            .arg(&stage)
            .arg(tool("rie/aws-lambda-rie"))
            .args(["--runtime-api-address", &format!("127.0.0.1:{api}")])
            .args([
                "--runtime-interface-emulator-address",
                &format!("127.0.0.1:{port}"),
            ])
            .arg(binary("example-consumer"))
            .env("AWS_LAMBDA_FUNCTION_NAME", "orders-consumer")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_TIMEOUT", "20")
            .env("AWS_REGION", "eu-west-1")
            .env("RAW_BODIES", "1")
            .env("THROUGHLINE_ENDPOINT", sink.url())
            .env("THROUGHLINE_HTTP_PORT", otlp.to_string())
            .env("THROUGHLINE_GRPC_PORT", grpc.to_string())
            .env("THROUGHLINE_TELEMETRY_ADDRESS", "127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare starts");
        let mut emulator = Self { child, port };
        emulator.wait_until_it_listens().await;
        emulator
    }

    async fn wait_until_it_listens(&mut self) {
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            let ended = tokio::time::timeout(Duration::from_millis(50), self.child.wait()).await;
            assert!(
                ended.is_err(),
                "the emulator ended before it listened: {ended:?}"
            );
        }
        panic!("the emulator does not listen on port {}", self.port);
    }

    async fn invoke(&mut self, payload: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let head = format!(
            "POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            payload.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(payload).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer))
            .await
            .expect("the emulator answers")
            .unwrap();
        answer
    }

    /// SIGTERM: the emulator then shuts the function and the extension down and exits with 0.
    async fn stop(&mut self) {
        let pid = self.child.id().expect("still running").to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let status = status.expect("the emulator ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|me| me.uid() == 0)
}
