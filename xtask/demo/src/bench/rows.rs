//! What is measured, one function for a group of rows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lambda_emulator::{Event, OtlpSink, Sandbox, SinkAnswer, TelemetryFaults, Timeline, Who};
use serde_json::json;

use super::table::{Limit, Row, largest, median};
use super::{load, process};
use crate::verdict;

/// Why a row could not be measured.
pub type Trouble = String;

/// Invocations of one block; blocks of the floor and of ours take turns.
const BLOCK: usize = 25;
/// Blocks of each.
const BLOCKS: usize = 4;
/// Starts of each.
const STARTS: usize = 25;
const MS: Duration = Duration::from_millis(1);

/// The programs that are measured.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The extension as it ships.
    pub extension: PathBuf,
    /// Its zip.
    pub zip: PathBuf,
    /// Folder of the benchmark's own programs, release builds.
    pub folder: PathBuf,
}

/// One measured sandbox and the sink behind it.
struct Bench {
    sandbox: Sandbox,
    sink: OtlpSink,
    extension: Who,
}

/// How a sandbox is set up.
#[derive(Clone, Default)]
struct Setup<'a> {
    function: Option<&'a Path>,
    mode: &'a str,
    work: Duration,
    env: Vec<(&'a str, &'a str)>,
    faults: TelemetryFaults,
    answer: Option<SinkAnswer>,
    thawed: bool,
}

impl Programs {
    fn floor(&self) -> PathBuf {
        self.folder.join("bench-floor")
    }

    fn function(&self) -> PathBuf {
        self.folder.join("bench-function")
    }

    async fn start(&self, extension: Option<&Path>, setup: &Setup<'_>) -> Result<Bench, Trouble> {
        let timeline = Timeline::new();
        let sink = OtlpSink::start_on(&timeline)
            .await
            .map_err(|error| error.to_string())?;
        if let Some(answer) = &setup.answer {
            sink.set_default(answer.clone());
        }
        let function = setup
            .function
            .map_or_else(|| self.function(), Path::to_owned);
        let mut builder = Sandbox::builder("bench")
            .timeline(&timeline)
            .bootstrap(function)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
            .env("BENCH_MODE", setup.mode)
            .env("BENCH_WORK_MS", setup.work.as_millis().to_string())
            .env("RAW_BODIES", "1")
            .telemetry(setup.faults.clone())
            .freeze(!setup.thawed)
            .timeout(Duration::from_secs(10));
        for (name, value) in &setup.env {
            builder = builder.env(*name, *value);
        }
        let mut name = String::new();
        if let Some(extension) = extension {
            name = extension
                .file_name()
                .map_or(String::new(), |name| name.to_string_lossy().into_owned());
            builder = builder.extension(extension);
        }
        let sandbox = builder.start().await.map_err(|error| error.to_string())?;
        Ok(Bench {
            sandbox,
            sink,
            extension: Who::Extension(name),
        })
    }
}

impl Bench {
    fn pid(&self) -> u32 {
        self.sandbox.pid(&self.extension).unwrap_or(0)
    }

    /// Extra milliseconds that the extension took of each invocation.
    async fn added(&self, invocations: usize) -> Vec<f64> {
        let mut added = Vec::new();
        for _ in 0..invocations {
            let invocation = self.sandbox.invoke("{}").await;
            self.sandbox.wait_frozen(&invocation.request_id).await;
            if let Some(extra) = self.sandbox.post_runtime_extensions(&invocation.request_id) {
                added.push(ms(extra));
            }
        }
        added
    }

    /// Milliseconds from the first entry that `from` says yes to, to the first after it for `to`.
    fn between(&self, from: impl Fn(&Event) -> bool, to: impl Fn(&Event) -> bool) -> Option<f64> {
        let entries = self.sandbox.timeline().entries();
        let began = entries.iter().find(|entry| from(&entry.event))?;
        let ended = entries
            .iter()
            .find(|entry| entry.seq > began.seq && to(&entry.event))?;
        Some(ms(ended.at.since(began.at)))
    }

    /// Spans that the function handed over, by their number.
    fn missing(&self, invocations: usize) -> usize {
        let arrived: BTreeSet<String> = self
            .sink
            .spans()
            .into_iter()
            .map(|span| span.span_id)
            .collect();
        (invocations * 10).saturating_sub(arrived.len())
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mb(bytes: Option<u64>) -> f64 {
    bytes.map_or(f64::NAN, |bytes| bytes as f64 / 1e6)
}

fn row(
    what: &str,
    floor: Option<f64>,
    ours: f64,
    limit: Limit,
    unit: &'static str,
    note: String,
) -> Row {
    Row {
        what: what.into(),
        floor,
        ours,
        limit,
        unit,
        note,
    }
}

/// Sizes on disk.
///
/// # Errors
/// When the layer was not packed.
pub fn sizes(programs: &Programs) -> Result<Vec<Row>, Trouble> {
    let size = |file: &Path| {
        let data =
            std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok::<_, Trouble>(data.len() as f64 / 1e6)
    };
    let floor = size(&programs.floor()).ok();
    Ok(vec![
        row(
            "binary",
            floor,
            size(&programs.extension)?,
            Limit::AtMost(3.5),
            "MB",
            String::new(),
        ),
        row(
            "layer zip",
            None,
            size(&programs.zip)?,
            Limit::AtMost(1.7),
            "MB",
            String::new(),
        ),
    ])
}

/// From exec to the first `/next`, and what is resident then and 200 invocations later.
///
/// # Errors
/// When a sandbox does not start.
pub async fn start(programs: &Programs) -> Result<Vec<Row>, Trouble> {
    let setup = Setup {
        mode: "plain",
        ..Setup::default()
    };
    let (mut ready, mut cpu) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut resident = [f64::NAN, f64::NAN];
    for _ in 0..STARTS {
        for (place, extension) in [programs.floor(), programs.extension.clone()]
            .iter()
            .enumerate()
        {
            let bench = programs.start(Some(extension), &setup).await?;
            let who = bench.extension.clone();
            let spawned =
                |event: &Event| matches!(event, Event::ProcessSpawned { who: w, .. } if *w == who);
            let asked = |event: &Event| matches!(event, Event::NextAsked { who: w } if *w == who);
            ready[place].extend(bench.between(spawned, asked));
            cpu[place].extend(process::cpu(bench.pid()).map(ms));
            resident[place] = mb(process::resident(bench.pid()));
            bench.sandbox.shutdown("spindown").await;
        }
    }
    let mut later = [f64::NAN, f64::NAN];
    for (place, extension) in [programs.floor(), programs.extension.clone()]
        .iter()
        .enumerate()
    {
        let mode = if place == 0 { "plain" } else { "complete" };
        let bench = programs
            .start(
                Some(extension),
                &Setup {
                    mode,
                    ..Setup::default()
                },
            )
            .await?;
        bench.added(200).await;
        later[place] = mb(process::resident(bench.pid()));
        bench.sandbox.shutdown("spindown").await;
    }
    let spread = format!(
        "{STARTS} starts in turns, largest {:.1} ms",
        largest(&ready[1])
    );
    Ok(vec![
        row(
            "exec to first /next, median",
            Some(median(&ready[0])),
            median(&ready[1]),
            Limit::TimesFloor(1.0),
            "ms",
            spread,
        ),
        row(
            "its processor time, median",
            Some(median(&cpu[0])),
            median(&cpu[1]),
            Limit::TimesFloor(1.0),
            "ms",
            String::new(),
        ),
        row(
            "resident after init",
            Some(resident[0]),
            resident[1],
            Limit::AtMost(3.0),
            "MB",
            String::new(),
        ),
        row(
            "resident after 200 invocations",
            Some(later[0]),
            later[1],
            Limit::AtMost(4.0),
            "MB",
            "plain HTTP upstream".into(),
        ),
    ])
}

/// What an invocation takes longer for the extension, healthy upstreams; and whether the spans were in time.
///
/// # Errors
/// When a sandbox does not start.
pub async fn added(programs: &Programs) -> Result<Vec<Row>, Trouble> {
    let slow = SinkAnswer::slow(50 * MS);
    let cases = [
        (
            "function done to /next, wrapper's complete",
            "complete",
            Duration::ZERO,
            None,
            vec![],
            0.5,
        ),
        (
            "same, a plain SDK that works 40 ms, telemetry as buffered",
            "spans",
            40 * MS,
            None,
            vec![],
            28.0,
        ),
        (
            "same, upstream 50 ms away, `end`",
            "complete",
            Duration::ZERO,
            Some(slow.clone()),
            vec![],
            52.0,
        ),
        (
            "same, upstream 50 ms away, `adaptive`, busy",
            "complete",
            Duration::ZERO,
            Some(slow),
            vec![("THROUGHLINE_FLUSH", "adaptive")],
            0.5,
        ),
    ];
    let mut rows = Vec::new();
    let (mut late, mut all) = (0, 0);
    for (what, mode, work, answer, env, most) in cases {
        let adaptive = !env.is_empty();
        let ours = programs
            .start(
                Some(&programs.extension),
                &Setup {
                    mode,
                    work,
                    answer,
                    env,
                    ..Setup::default()
                },
            )
            .await?;
        let plain = Setup {
            mode: "plain",
            work,
            ..Setup::default()
        };
        let floor = programs.start(Some(&programs.floor()), &plain).await?;
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..BLOCKS {
            measured[0].extend(floor.added(BLOCK).await);
            measured[1].extend(ours.added(BLOCK).await);
        }
        if !adaptive {
            let spans = ours.sink.spans();
            late += verdict::late(&spans, &ours.sandbox.timeline().entries()).len();
            late += ours.missing(BLOCK * BLOCKS);
            all += BLOCK * BLOCKS * 10;
        }
        let note = format!(
            "median of {}, largest {:.1} ms",
            measured[1].len(),
            largest(&measured[1])
        );
        rows.push(row(
            what,
            Some(median(&measured[0])),
            median(&measured[1]),
            Limit::AtMost(most),
            "ms",
            note,
        ));
        for bench in [ours, floor] {
            bench.sandbox.shutdown("spindown").await;
        }
    }
    let share = 100.0 * late as f64 / all as f64;
    let note = format!("{late} of {all} spans, `end`");
    rows.push(row(
        "spans not upstream before the freeze",
        None,
        share,
        Limit::AtMost(0.0),
        "%",
        note,
    ));
    Ok(rows)
}

/// Upstreams that fail, and the end of a sandbox.
///
/// # Errors
/// When a sandbox does not start.
pub async fn outages(programs: &Programs) -> Result<Vec<Row>, Trouble> {
    let mut rows = Vec::new();
    let failing = Setup {
        mode: "complete",
        answer: Some(SinkAnswer::status(503)),
        ..Setup::default()
    };
    let bench = programs.start(Some(&programs.extension), &failing).await?;
    let added = bench.added(30).await;
    bench.sink.set_default(SinkAnswer::Ok);
    bench.sandbox.shutdown("spindown").await;
    let note = format!("30 invocations, largest {:.1} ms", largest(&added));
    rows.push(row(
        "upstream answers 503: first invocation",
        None,
        added.first().copied().unwrap_or(f64::NAN),
        Limit::AtMost(50.0),
        "ms",
        String::new(),
    ));
    rows.push(row(
        "upstream answers 503: later ones, median",
        None,
        median(added.get(1..).unwrap_or_default()),
        Limit::AtMost(1.0),
        "ms",
        note,
    ));
    rows.push(row(
        "upstream answered 503: spans lost",
        None,
        bench.missing(30) as f64,
        Limit::AtMost(0.0),
        "spans",
        "upstream back before SHUTDOWN".into(),
    ));
    let ended = shutdown_ms(&bench);
    rows.push(row(
        "SHUTDOWN with spans pending, upstream back",
        None,
        ended,
        Limit::AtMost(10.0),
        "ms",
        String::new(),
    ));

    let silent = Setup {
        mode: "complete",
        answer: Some(SinkAnswer::Hang),
        ..Setup::default()
    };
    let bench = programs.start(Some(&programs.extension), &silent).await?;
    let added = bench.added(12).await;
    bench.sandbox.shutdown("spindown").await;
    let held = added.iter().filter(|&&ms| ms > 500.0).count();
    let note = added
        .iter()
        .take(4)
        .map(|ms| format!("{ms:.1}"))
        .collect::<Vec<_>>()
        .join(", ");
    rows.push(row(
        "upstream silent: invocations that were held",
        None,
        held as f64,
        Limit::AtMost(2.0),
        "",
        format!("of 12; the first took {note} ms"),
    ));
    rows.push(row(
        "upstream silent: those after, median",
        None,
        median(added.get(held..).unwrap_or_default()),
        Limit::AtMost(1.0),
        "ms",
        String::new(),
    ));
    rows.push(row(
        "SHUTDOWN with spans pending, upstream silent",
        None,
        shutdown_ms(&bench),
        Limit::AtMost(1850.0),
        "ms",
        String::new(),
    ));
    Ok(rows)
}

/// From the SHUTDOWN event to the extension's end.
fn shutdown_ms(bench: &Bench) -> f64 {
    let told = |event: &Event| matches!(event, Event::ShutdownDelivered { .. });
    let ended = |event: &Event| matches!(event, Event::ProcessExited { who, .. } if *who == bench.extension);
    bench.between(told, ended).unwrap_or(f64::NAN)
}

/// Many spans at once.
///
/// # Errors
/// When a sandbox does not start.
pub async fn throughput(programs: &Programs) -> Result<Vec<Row>, Trouble> {
    let mut rows = Vec::new();
    for (what, answer, most) in [
        (
            "receiver and export, processor time a span",
            SinkAnswer::Ok,
            0.3,
        ),
        (
            "receiver alone (upstream refuses), processor time a span",
            SinkAnswer::status(503),
            0.15,
        ),
    ] {
        let setup = Setup {
            mode: "plain",
            answer: Some(answer),
            thawed: true,
            ..Setup::default()
        };
        let bench = programs.start(Some(&programs.extension), &setup).await?;
        let before = process::cpu(bench.pid()).unwrap_or_default();
        let taken = load::send(bench.sandbox.http_port(), 250, Duration::from_secs(10)).await;
        let used = process::cpu(bench.pid())
            .unwrap_or_default()
            .saturating_sub(before);
        let micros = used.as_secs_f64() * 1e6 / taken as f64;
        let note = format!("{taken} spans, {} a request", load::SPANS);
        rows.push(row(what, None, micros, Limit::AtMost(most), "µs", note));
        bench.sandbox.shutdown("spindown").await;
    }
    let setup = Setup {
        mode: "plain",
        answer: Some(SinkAnswer::status(503)),
        thawed: true,
        ..Setup::default()
    };
    let bench = programs.start(Some(&programs.extension), &setup).await?;
    let taken = load::send(bench.sandbox.http_port(), u64::MAX, Duration::from_secs(2)).await;
    let note = format!("peak; {:.1} million spans came", taken as f64 / 1e6);
    rows.push(row(
        "resident under 2 s of overload",
        None,
        mb(process::resident_peak(bench.pid())),
        Limit::AtMost(20.0),
        "MB",
        note,
    ));
    bench.sandbox.shutdown("spindown").await;
    Ok(rows)
}

/// What the wrapper costs a function, against one that only parses and answers.
///
/// # Errors
/// When a sandbox does not start.
pub async fn wrapper(programs: &Programs) -> Result<Vec<Row>, Trouble> {
    let traced = programs.folder.join("example-consumer");
    let plain = programs.folder.join("bench-plain");
    let mut wall = [Vec::new(), Vec::new()];
    let mut cpu = [f64::NAN, f64::NAN];
    // The plain function writes no line and makes no metric either.
    let of = |function| Setup {
        function: Some(function),
        env: vec![
            ("AWS_LAMBDA_LOG_LEVEL", "ERROR"),
            ("OTEL_METRICS_EXPORTER", "none"),
        ],
        ..Setup::default()
    };
    let benches = [
        programs
            .start(Some(&programs.extension), &of(plain.as_path()))
            .await?,
        programs
            .start(Some(&programs.extension), &of(traced.as_path()))
            .await?,
    ];
    let few = batch(10);
    for _ in 0..BLOCKS {
        for (bench, wall) in benches.iter().zip(&mut wall) {
            for _ in 0..BLOCK {
                wall.extend(invoke_to_next(bench, &few).await);
            }
        }
    }
    let many = batch(1_000);
    for (bench, cpu) in benches.iter().zip(&mut cpu) {
        let pid = bench.sandbox.pid(&Who::Runtime).unwrap_or(0);
        let before = process::cpu(pid).unwrap_or_default();
        for _ in 0..10 {
            invoke_to_next(bench, &many).await;
        }
        let used = process::cpu(pid).unwrap_or_default().saturating_sub(before);
        *cpu = used.as_secs_f64() * 1e6 / 10_000.0;
    }
    for bench in &benches {
        bench.sandbox.shutdown("spindown").await;
    }
    let beyond = median(&wall[1]) - median(&wall[0]);
    Ok(vec![
        row(
            "wrapper, 10 records: invoke to the function's /next, beyond a plain function",
            Some(median(&wall[0])),
            beyond,
            Limit::AtMost(0.2),
            "ms",
            "floor is the plain function's whole time".into(),
        ),
        row(
            "wrapper, 1,000 records: processor time a record, beyond a plain function",
            Some(cpu[0]),
            cpu[1] - cpu[0],
            Limit::AtMost(3.1),
            "µs",
            "export included; limit is 3 µs and 0.1 ms a flush".into(),
        ),
    ])
}

/// Milliseconds from the delivery of the event to the function's next wait.
async fn invoke_to_next(bench: &Bench, event: &str) -> Option<f64> {
    let seen = bench.sandbox.timeline().entries().len() as u64;
    let invocation = bench.sandbox.invoke(event.to_owned()).await;
    bench.sandbox.wait_frozen(&invocation.request_id).await;
    let entries = bench.sandbox.timeline().entries();
    let ours = || entries.iter().filter(|entry| entry.seq >= seen);
    let told = ours().find(|entry| {
        matches!(
            &entry.event,
            Event::InvokeDelivered {
                who: Who::Runtime,
                ..
            }
        )
    })?;
    let asked =
        ours().find(|entry| matches!(&entry.event, Event::NextAsked { who: Who::Runtime }))?;
    Some(ms(asked.at.since(told.at)))
}

/// An SQS event of so many records, each with a sampled context.
fn batch(records: u64) -> String {
    let records: Vec<_> = (1..=records)
        .map(|number| {
            let traceparent = format!("00-{number:032x}-{number:016x}-01");
            json!({
                "messageId": format!("059f36b4-87a3-44ab-83d2-{number:012x}"),
                "receiptHandle": "none",
                "body": json!({"id": number, "amount": 3, "note": "x".repeat(300)}).to_string(),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
                "messageAttributes": {"traceparent": {"dataType": "String", "stringValue": traceparent}},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:orders",
                "awsRegion": "eu-west-1",
            })
        })
        .collect();
    json!({ "Records": records }).to_string()
}
