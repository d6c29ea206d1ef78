//! What both demos stand on: the sink, the shared timeline, sandboxes of the workspace's binaries, and the ending.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use lambda_emulator::{ExitReason, LogLine, OtlpSink, Sandbox, Timeline};

use serde_json::Value;

use crate::capture;
use crate::tee::Tee;
use crate::view::page::{self, Frame, Verdict};
use crate::view::text::plain;
use crate::view::{Story, terminal};

/// A trouble that ends the demo before anything can be checked, in words for its user.
pub type Trouble = String;

/// How long a function may run. Chosen: many times what the examples need, on a busy machine too.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(20);

/// The sink, and where things are.
#[derive(Debug)]
pub struct Stage {
    /// What everybody writes to.
    pub timeline: Timeline,
    /// Upstream.
    pub sink: OtlpSink,
    tee: Option<Tee>,
    began: Instant,
    root: PathBuf,
    binaries: PathBuf,
}

impl Stage {
    /// Starts the sink; with `otlp_endpoint`, whatever it receives is passed on there.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub async fn set(otlp_endpoint: Option<&str>) -> Result<Self, Trouble> {
        let timeline = Timeline::new();
        let sink = OtlpSink::start_on(&timeline)
            .await
            .map_err(|error| format!("the OTLP sink does not start: {error}"))?;
        let tee = otlp_endpoint.map(|url| Tee::start(&sink, url));
        Ok(Self {
            timeline,
            sink,
            tee,
            began: Instant::now(),
            root: folder(
                "THROUGHLINE_ROOT",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../.."),
            ),
            binaries: folder(
                "THROUGHLINE_BINARIES",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug"),
            ),
        })
    }

    /// When the demo began: what [`Stage::say`] counts from.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Tells what happens now.
    pub fn say(&self, what: &str) {
        eprintln!("{:>7.2} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// Starts a sandbox of one of the examples with the extension beside it.
    ///
    /// # Errors
    /// When its init fails; the text holds its log.
    pub async fn sandbox(
        &self,
        function: &str,
        example: &str,
        env: &[(&str, String)],
    ) -> Result<Sandbox, Trouble> {
        let mut builder = Sandbox::builder(function)
            .timeline(&self.timeline)
            .bootstrap(self.binaries.join(example))
            .extension(self.binaries.join("throughline-extension"))
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", self.sink.url())
            // Every span is wanted, also one whose sender decided against it.
            .env("OTEL_TRACES_SAMPLER", "always_on")
            .timeout(FUNCTION_TIMEOUT);
        for (name, value) in env {
            builder = builder.function_env(*name, value);
        }
        let began = Instant::now();
        let sandbox = builder
            .start()
            .await
            .map_err(|error| format!("{function} does not start: {error}"))?;
        self.say(&format!(
            "{function}: cold start of {:.0} ms",
            began.elapsed().as_secs_f64() * 1e3
        ));
        Ok(sandbox)
    }

    /// Ends sandboxes as Lambda would; what is still in an extension's buffer leaves now.
    ///
    /// # Errors
    /// Sandboxes whose processes did not end well.
    pub async fn strike(&self, sandboxes: &[&Sandbox]) -> Vec<String> {
        let mut findings = Vec::new();
        for sandbox in sandboxes {
            let end = sandbox.shutdown("spindown").await;
            for (who, how) in &end.processes {
                // The runtime ends by a signal; an extension has to end by itself.
                let extension = matches!(who, lambda_emulator::Who::Extension(_));
                if extension && *how != ExitReason::Exited(0) {
                    findings.push(format!(
                        "{}: {who} ended with {how}",
                        sandbox.function_name()
                    ));
                }
            }
            findings.extend(ledger_findings(sandbox));
        }
        findings
    }

    /// Adds the check that everything was passed on, when something was to be; waits until it is.
    pub async fn passed_on(&self, verdicts: Vec<Verdict>) -> Vec<Verdict> {
        match &self.tee {
            Some(tee) => {
                let claim = format!("everything was passed on to {}", tee.endpoint());
                also(verdicts, &claim, tee.finish().await)
            }
            None => verdicts,
        }
    }

    /// Draws what was received, writes the page, prints the checks. True when all of them hold.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn show(&self, frame: Frame, functions: &[&str]) -> Result<bool, Trouble> {
        let story = Story::of(capture::take(&self.sink, &self.timeline, functions));
        let width = terminal_width();
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        print!(
            "{}",
            terminal::draw(&story, terminal::Style { width, colour })
        );
        let file = self.write_page(&page::draw(&story, &frame))?;
        println!("\nthe same as a page: {}\n", file.display());
        for verdict in &frame.verdicts {
            println!(
                "{} {}",
                if verdict.holds { "✓" } else { "✗" },
                verdict.claim
            );
            for finding in &verdict.findings {
                println!("    {}", plain(finding));
            }
        }
        Ok(frame.verdicts.iter().all(|verdict| verdict.holds))
    }

    /// Each run has a file of its own, so that two at once do not overwrite each other.
    fn write_page(&self, page: &str) -> Result<PathBuf, Trouble> {
        let folder = self.root.join("target/demo");
        let stamp = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let file = folder.join(format!("trace-{stamp}-{}.html", std::process::id()));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, page))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(file
            .strip_prefix(std::env::current_dir().unwrap_or_default())
            .map_or(file.clone(), Path::to_owned))
    }
}

/// What to say beside a failed check: what the functions and extensions complained about, or all they wrote.
pub fn print_logs(sandboxes: &[&Sandbox], all: bool) {
    for sandbox in sandboxes {
        let lines: Vec<LogLine> = sandbox
            .logs()
            .into_iter()
            .filter(|line| all || complains(&line.text))
            .collect();
        println!(
            "\nlog of {}{}:",
            sandbox.function_name(),
            if all { "" } else { ", complaints only" }
        );
        for line in lines {
            println!("[{}] {}", line.who, plain(&line.text));
        }
    }
}

/// Whether a log line is a warning, an error, or not one of ours at all (a panic, a linker).
fn complains(line: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(line) => !matches!(line["level"].as_str(), Some("INFO" | "DEBUG" | "TRACE")),
        Err(_) => true,
    }
}

/// What the last ledger line of a sandbox's extension does not account for.
fn ledger_findings(sandbox: &Sandbox) -> Option<String> {
    let name = sandbox.function_name();
    let logs = sandbox.logs();
    let ledgers = logs.iter().rev().filter_map(|line| {
        let line: Value = serde_json::from_str(&line.text).ok()?;
        line.get("ledger")?.get("spans").cloned()
    });
    let Some(spans) = ledgers.into_iter().next() else {
        return Some(format!("{name}: the extension wrote no ledger"));
    };
    match (spans["received"].as_u64(), spans["exported"].as_u64()) {
        (Some(received), Some(exported)) if received == exported => None,
        _ => Some(format!(
            "{name}: not all that the extension received was exported: {spans}"
        )),
    }
}

/// Adds a check to a list of them.
pub fn also(mut verdicts: Vec<Verdict>, claim: &str, findings: Vec<String>) -> Vec<Verdict> {
    verdicts.push(Verdict {
        holds: findings.is_empty(),
        claim: claim.to_owned(),
        findings,
    });
    verdicts
}

fn folder(variable: &str, otherwise: &str) -> PathBuf {
    let folder = std::env::var_os(variable).map_or_else(|| PathBuf::from(otherwise), PathBuf::from);
    folder.canonicalize().unwrap_or(folder)
}

/// Columns of the terminal we are on: `COLUMNS`, else what `stty` says, else 110.
fn terminal_width() -> usize {
    let set = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let asked = || {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let size = Command::new("stty")
            .arg("size")
            .stdin(Stdio::inherit())
            .output()
            .ok()?;
        String::from_utf8(size.stdout)
            .ok()?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    set.or_else(asked)
        .filter(|&columns: &usize| columns > 0)
        .unwrap_or(110)
}
