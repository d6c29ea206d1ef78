//! AWS's own runtime interface emulator runs the consumer and the extension: a second opinion on our sandbox.
//!
//! `THROUGHLINE_LAYER` names the zip of a layer whose extension is run instead of the debug build's;
//! `cargo xtask test` sets it when it has packaged one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use it::{binary, tool};
use lambda_emulator::OtlpSink;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::events::{event, free_port, record, traceparent};

/// Bound of a wait: far longer than it takes, so that only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Invocations at once on a managed instance, and how often that many.
const CONCURRENCY: u32 = 4;
const WAVES: u32 = 3;

/// The emulator's two engines.
#[derive(Clone, Copy, PartialEq)]
enum Engine {
    /// Answers the Telemetry subscription with 202 and never sends an event. Its caller's answer waits for the
    /// extensions, so an answer that is there means that the flush is over.
    Sandbox,
    /// Lambda Managed Instances: several invocations at once, SHUTDOWN only, a Telemetry API that works.
    ManagedInstances,
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_tools_the_aws_emulator_runs_the_consumer_with_the_extension() {
    let sink = OtlpSink::start().await.unwrap();
    let mut emulator = AwsEmulator::start(&sink, Engine::Sandbox).await;
    for number in 1..=3u32 {
        let answer = emulator.invoke(&batch(number)).await;
        assert!(answer.contains("batchItemFailures"), "{answer}");
        let traces = record_traces(&sink);
        let so_far = 2 * number as usize;
        assert_eq!(
            traces.len(),
            so_far,
            "spans upstream when the caller had its answer"
        );
        assert!(traces.contains(&format!("{number:032x}")));
        assert!(traces.contains(&format!("{:032x}", 100 + number)));
    }
    emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_tools_the_aws_emulator_runs_both_as_a_managed_instance() {
    let sink = OtlpSink::start().await.unwrap();
    let mut emulator = AwsEmulator::start(&sink, Engine::ManagedInstances).await;
    for wave in 0..WAVES {
        let invocations = (1..=CONCURRENCY).map(|place| {
            let (port, number) = (emulator.port, wave * CONCURRENCY + place);
            tokio::spawn(async move { invoke_when_there_is_room(port, &batch(number)).await })
        });
        for answer in invocations.collect::<Vec<_>>() {
            let answer = answer.await.unwrap();
            assert!(answer.contains("batchItemFailures"), "{answer}");
        }
    }
    // Nothing freezes here, and no INVOKE event tells the extension anything: it flushes by age.
    let wanted = 2 * (WAVES * CONCURRENCY) as usize;
    let came = sink
        .wait_until(|sink| record_traces(sink).len() == wanted, PATIENCE)
        .await;
    assert!(
        came,
        "{} of {wanted} record spans",
        record_traces(&sink).len()
    );
    emulator.stop().await;
    let mut traces = record_traces(&sink);
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), wanted, "each record in a trace of its own");
}

fn batch(number: u32) -> Vec<u8> {
    event(vec![
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
    ])
}

fn record_traces(sink: &OtlpSink) -> Vec<String> {
    let records = sink
        .unique_spans()
        .into_iter()
        .filter(|span| span.kind == "CONSUMER");
    records.map(|span| span.trace_id).collect()
}

/// The emulator's process, with an `/opt` of its own so that several can run beside each other.
struct AwsEmulator {
    child: Child,
    port: u16,
    stage: PathBuf,
}

impl Drop for AwsEmulator {
    fn drop(&mut self) {
        // Still running: a test has failed, and the emulator's own children would outlive it.
        if let Some(pid) = self.child.id() {
            let family = family(pid);
            let _ = std::process::Command::new("kill")
                .arg("-KILL")
                .args(family)
                .status();
        }
        // Best effort: it is a folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.stage);
    }
}

impl AwsEmulator {
    async fn start(sink: &OtlpSink, engine: Engine) -> Self {
        let stage = std::env::temp_dir().join(format!("throughline-rie-{}", free_port()));
        lay_out(&stage).await;
        let (port, api, otlp, grpc) = (free_port(), free_port(), free_port(), free_port());
        // As root a mount namespace is enough; everybody else needs a user namespace around it.
        let mut command = Command::new("unshare");
        if !is_root() {
            command.args(["-U", "-r"]);
        }
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        // The second engine takes no program on its command line: it looks for /opt/bootstrap, and goes to /var/task.
        command.arg(
            "mount --bind \"$0\" /opt && mount -t tmpfs tmpfs /var && mkdir /var/task && exec \"$@\"",
        );
        command
            .arg(&stage)
            .arg(tool("rie/aws-lambda-rie"))
            .args(["--runtime-api-address", &format!("127.0.0.1:{api}")])
            .args([
                "--runtime-interface-emulator-address",
                &format!("127.0.0.1:{port}"),
            ])
            .arg("/opt/bootstrap")
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
            .kill_on_drop(true);
        if engine == Engine::ManagedInstances {
            command
                .env("AWS_LAMBDA_MAX_CONCURRENCY", CONCURRENCY.to_string())
                .env("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances");
        }
        let child = command.spawn().expect("unshare starts");
        let mut emulator = Self { child, port, stage };
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
        invoke(self.port, payload).await.unwrap()
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
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("the emulator ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Invokes a managed instance. One whose workers are all busy says so; Lambda itself would not have asked it then.
async fn invoke_when_there_is_room(port: u16, payload: &[u8]) -> String {
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    let answered = async {
        loop {
            pause.tick().await;
            // A refusal may come as a reset, since it does not wait for the request's body.
            match invoke(port, payload).await {
                Ok(answer) if !answer.contains("Runtime.Unavailable") => return answer,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered)
        .await
        .expect("a worker is free at last")
}

async fn invoke(port: u16, payload: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!(
        "POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: localhost\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        payload.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(payload).await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("the emulator answers")?;
    Ok(answer)
}

/// Puts what Lambda would have under `/opt` there: the layer, and the function as its bootstrap.
async fn lay_out(stage: &Path) {
    std::fs::create_dir_all(stage.join("extensions")).unwrap();
    std::fs::copy(binary("example-consumer"), stage.join("bootstrap")).unwrap();
    let Some(zip) = std::env::var_os("THROUGHLINE_LAYER") else {
        let extension = stage.join("extensions/throughline-extension");
        std::fs::copy(binary("throughline-extension"), extension).unwrap();
        return;
    };
    // As Lambda unpacks a layer: with the modes that the zip gives.
    let unpack = "import os, sys, zipfile\n\
        with zipfile.ZipFile(sys.argv[1]) as layer:\n\
        \x20for entry in layer.infolist():\n\
        \x20 os.chmod(layer.extract(entry, sys.argv[2]), entry.external_attr >> 16 & 0o777)";
    let unpacked = Command::new(tool("python/bin/python"))
        .args(["-c", unpack])
        .args([zip.as_os_str(), stage.as_os_str()])
        .status()
        .await
        .unwrap();
    assert!(unpacked.success(), "{} is not a layer", zip.display());
}

/// A process and all below it, as text.
fn family(pid: u32) -> Vec<String> {
    let children = |pid: &str| {
        let mut found: Vec<String> = Vec::new();
        // A child counts as its thread's, so every thread is asked.
        if let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) {
            for thread in threads.flatten() {
                let of_thread = std::fs::read_to_string(thread.path().join("children"));
                found.extend(
                    of_thread
                        .unwrap_or_default()
                        .split_whitespace()
                        .map(str::to_owned),
                );
            }
        }
        found
    };
    let mut family = vec![pid.to_string()];
    let mut next = 0;
    while next < family.len() {
        for child in children(&family[next]) {
            if !family.contains(&child) {
                family.push(child);
            }
        }
        next += 1;
    }
    family
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|me| me.uid() == 0)
}
