//! Real processes, each the leader of its own group, and the freezing of them.

mod freeze;

use super::{
    builder::Config,
    state::{Life, Shared},
};
use crate::{
    clock::Moment,
    timeline::{Event, Who},
};
use rustix::process::{Pid, kill_process_group};
use std::{
    fmt, io,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Arc,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

/// A line a process has written.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// By whom.
    pub who: Who,
    /// Where.
    pub stream: LogStream,
    /// When it was read.
    pub at: Moment,
    /// Without its line end.
    pub text: String,
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// By itself, with that code.
    Exited(i32),
    /// By that signal.
    Signalled(i32),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitReason::Exited(code) => write!(f, "exit status {code}"),
            ExitReason::Signalled(signal) => write!(f, "signal: {signal}"),
        }
    }
}

impl From<ExitStatus> for ExitReason {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => Self::Exited(code),
            None => Self::Signalled(status.signal().unwrap_or_default()),
        }
    }
}

/// Signals we send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Term,
    Kill,
    Stop,
    Cont,
}

/// Starts the function's process.
pub(super) fn spawn_runtime(shared: &Arc<Shared>) -> io::Result<()> {
    let config = &shared.config;
    let mut command = command(shared, &config.bootstrap);
    command
        .args(&config.bootstrap_args)
        .envs(function_env(config));
    let root = config.bootstrap.parent().unwrap_or(Path::new("/"));
    command.env("LAMBDA_TASK_ROOT", root).current_dir(root);
    command.envs(
        config
            .both_env
            .iter()
            .chain(&config.function_env)
            .map(|(name, value)| (name, value)),
    );
    spawn(shared, Who::Runtime, command)
}

/// Starts an extension's process.
pub(super) fn spawn_extension(shared: &Arc<Shared>, name: &str, path: &Path) -> io::Result<()> {
    let config = &shared.config;
    let mut command = command(shared, path);
    // Extensions API, "Environment variables": what starts with an underscore is the runtime's.
    let visible = config
        .both_env
        .iter()
        .filter(|(name, _)| !name.starts_with('_'));
    command
        .envs(
            visible
                .chain(&config.extension_env)
                .map(|(name, value)| (name, value)),
        )
        .current_dir("/");
    spawn(shared, Who::Extension(name.to_owned()), command)
}

/// What every process of the environment sees.
fn command(shared: &Shared, program: &Path) -> Command {
    let config = &shared.config;
    let mut command = Command::new(program);
    command.env_clear().process_group(0).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Of this machine, so that scripts find their interpreters.
    command.env(
        "PATH",
        std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
    );
    command.env("AWS_LAMBDA_RUNTIME_API", shared.api_address());
    command.envs([
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        // Dummies: nothing here leaves the loopback interface.
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ),
        ("AWS_SESSION_TOKEN", "emulator"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("THROUGHLINE_TELEMETRY_ADDRESS", "127.0.0.1"),
    ]);
    command.env("AWS_LAMBDA_FUNCTION_NAME", &config.function_name);
    command.env(
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        config.memory_mb.to_string(),
    );
    command.env(
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        config.initialization_type(),
    );
    command.env("THROUGHLINE_HTTP_PORT", config.http_port.to_string());
    command.env("THROUGHLINE_GRPC_PORT", config.grpc_port.to_string());
    command
}

/// What only the runtime sees; Lambda hides these from extensions.
fn function_env(config: &Config) -> Vec<(&'static str, String)> {
    let mut env = vec![
        ("_HANDLER", "bootstrap".to_owned()),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        (
            "AWS_LAMBDA_LOG_GROUP_NAME",
            format!("/aws/lambda/{}", config.function_name),
        ),
        (
            "AWS_LAMBDA_LOG_STREAM_NAME",
            "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef".to_owned(),
        ),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR".to_owned()),
        ("AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000".to_owned()),
        ("_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1".to_owned()),
        ("_AWS_XRAY_DAEMON_PORT", "2000".to_owned()),
    ];
    if let Some(concurrency) = config.concurrency {
        env.push(("AWS_LAMBDA_MAX_CONCURRENCY", concurrency.to_string()));
    }
    env
}

fn spawn(shared: &Arc<Shared>, who: Who, mut command: Command) -> io::Result<()> {
    let mut child = command.spawn()?;
    let pid = child.id().expect("it has not been waited for");
    shared.watchdog.watch(pid);
    shared.record(Event::ProcessSpawned {
        who: who.clone(),
        pid,
    });
    let generation = shared.update(|state| {
        let life = Some(Life { pid, exited: None });
        match &who {
            Who::Runtime => state.runtime.life = life,
            Who::Extension(name) => {
                if let Some(extension) = state
                    .extensions
                    .iter_mut()
                    .find(|extension| extension.name == *name)
                {
                    extension.life = life;
                }
            }
        }
        state.open_pipes += 2;
        state.generation
    });
    tokio::spawn(read_lines(
        shared.clone(),
        who.clone(),
        LogStream::Stdout,
        child.stdout.take().expect("piped"),
    ));
    tokio::spawn(read_lines(
        shared.clone(),
        who.clone(),
        LogStream::Stderr,
        child.stderr.take().expect("piped"),
    ));
    let shared = shared.clone();
    tokio::spawn(async move {
        let Ok(status) = child.wait().await else {
            return;
        };
        // Whatever the leader left behind in its group goes with it.
        send(pid, Signal::Kill);
        shared.watchdog.forget(pid);
        shared.record(Event::ProcessExited {
            who: who.clone(),
            pid,
            status: status.to_string(),
        });
        shared.update(|state| {
            if let Some(life) = state.life_mut(&who).filter(|life| life.pid == pid) {
                life.exited = Some(status.into());
            }
            debug_assert!(state.generation >= generation);
        });
    });
    Ok(())
}

async fn read_lines(
    shared: Arc<Shared>,
    who: Who,
    stream: LogStream,
    pipe: impl AsyncRead + Unpin,
) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut bytes).await {
        let text = String::from_utf8_lossy(&bytes)
            .trim_end_matches(['\n', '\r'])
            .to_owned();
        bytes.clear();
        shared.telemetry.log_line(&who, &text);
        shared.update(|state| {
            state.logs.push(LogLine {
                who: who.clone(),
                stream,
                at: Moment::now(),
                text,
            });
        });
    }
    shared.update(|state| state.open_pipes -= 1);
}

/// Sends a signal to a group and writes it down.
pub(super) fn signal(shared: &Shared, who: &Who, pid: u32, signal: Signal) {
    let name = match signal {
        Signal::Term => "SIGTERM",
        Signal::Kill => "SIGKILL",
        Signal::Stop => "SIGSTOP",
        Signal::Cont => "SIGCONT",
    };
    shared.record(Event::SignalSent {
        who: who.clone(),
        signal: name,
    });
    send(pid, signal);
}

fn send(pid: u32, signal: Signal) {
    let signal = match signal {
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Cont => rustix::process::Signal::CONT,
    };
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A group that is gone needs no signal.
        let _ = kill_process_group(pid, signal);
    }
}
