//! Init: extension processes first, then, when all have registered, the runtime's.

use super::{
    invoke::milliseconds,
    process::{spawn_extension, spawn_runtime},
    shutdown,
    state::{Extension, Failure, Runtime, Shared, State},
};
use crate::timeline::Event;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// The init phase proper, when a sandbox starts.
pub(super) async fn first(shared: &Arc<Shared>) -> Result<(), Failure> {
    let _busy = shared.busy();
    let deadline = Instant::now() + shared.config.init_timeout;
    let done = run(shared, "init", deadline).await;
    if done.is_ok() {
        shared.freeze(None).await;
    }
    done
}

/// Starts everything and waits until everybody has asked for the first event.
/// After a failure no process is left.
pub(super) async fn run(
    shared: &Arc<Shared>,
    phase: &'static str,
    deadline: Instant,
) -> Result<(), Failure> {
    let began = Instant::now();
    shared.record(Event::InitBegan { phase });
    prepare(shared);
    shared
        .telemetry
        .emit("platform.initStart", start_record(shared, phase), None);
    let done = start(shared, phase, deadline).await;
    shared.update(|state| {
        state.initialising = false;
        state.initialised = done.is_ok();
        state.init_took = Some(began.elapsed());
        state.init_error = done
            .as_ref()
            .err()
            .map(|failure| format!("{}: {}", failure.error_type, failure.message));
    });
    report(shared, phase, began.elapsed(), done.as_ref().err());
    let error = shared.lock().init_error.clone();
    shared.record(Event::InitEnded { phase, error });
    if done.is_err() {
        shutdown::reset(shared, "failure").await;
    }
    done
}

/// A state without processes.
fn prepare(shared: &Shared) {
    shared.telemetry.restart();
    shared.update(|state| {
        state.generation += 1;
        state.initialising = true;
        state.runtime = Runtime::default();
        state.extensions = shared
            .config
            .extensions
            .iter()
            .map(|path| Extension {
                external: true,
                ..Extension::named(&file_name(path))
            })
            .collect();
    });
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

async fn start(
    shared: &Arc<Shared>,
    phase: &'static str,
    deadline: Instant,
) -> Result<(), Failure> {
    for path in &shared.config.extensions {
        let spawned = spawn_extension(shared, &file_name(path), path);
        spawned.map_err(|error| {
            failure(
                "Extension.LaunchError",
                &format!("{}: {error}", path.display()),
            )
        })?;
    }
    step(shared, deadline, |state| {
        state.all_registered().then_some(())
    })
    .await?;
    spawn_runtime(shared)
        .map_err(|error| failure("Runtime.InvalidEntrypoint", &error.to_string()))?;
    step(shared, deadline, |state| {
        state.runtime_ready().then_some(())
    })
    .await?;
    let record = json!({
        "initializationType": shared.config.initialization_type(), "phase": phase, "status": "success",
    });
    shared
        .telemetry
        .emit("platform.initRuntimeDone", record, None);
    step(shared, deadline, |state| {
        state.extensions_ready().then_some(())
    })
    .await?;
    let extensions: Vec<_> = shared
        .lock()
        .extensions
        .iter()
        .map(|one| (one.name.clone(), one.events.clone()))
        .collect();
    for (name, events) in extensions {
        let record = json!({"name": name, "state": "Ready", "events": events});
        shared.telemetry.emit("platform.extension", record, None);
    }
    Ok(())
}

/// Waits for one step, or for a process that fails, or for the limit.
async fn step(
    shared: &Shared,
    deadline: Instant,
    mut met: impl FnMut(&mut State) -> Option<()>,
) -> Result<(), Failure> {
    let done = shared.until_or(deadline, |state| match state.failure() {
        Some(failure) => Some(Err(failure)),
        None => met(state).map(Ok),
    });
    done.await.unwrap_or_else(|| {
        Err(failure(
            "Sandbox.Timedout",
            "init was not over at its limit",
        ))
    })
}

fn failure(error_type: &str, message: &str) -> Failure {
    Failure {
        error_type: error_type.to_owned(),
        message: message.to_owned(),
    }
}

fn start_record(shared: &Shared, phase: &str) -> serde_json::Value {
    json!({
        "initializationType": shared.config.initialization_type(),
        "phase": phase,
        "functionName": shared.config.function_name,
        "functionVersion": "$LATEST",
        "functionArn": shared.config.arn(),
        "instanceId": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        "instanceMaxMemory": u64::from(shared.config.memory_mb) * 1024 * 1024,
        "runtimeVersion": "provided:al2023.v1",
        "runtimeVersionArn": "arn:aws:lambda:us-east-1::runtime:0123456789abcdef",
    })
}

fn report(shared: &Shared, phase: &str, took: Duration, failure: Option<&Failure>) {
    let mut record = json!({
        "initializationType": shared.config.initialization_type(),
        "phase": phase,
        "status": if failure.is_none() { "success" } else { "error" },
        "metrics": {"durationMs": milliseconds(took)},
    });
    if let Some(failure) = failure {
        record["errorType"] = json!(failure.error_type);
    }
    shared.telemetry.emit("platform.initReport", record, None);
    shared.telemetry.end_of_init();
}
