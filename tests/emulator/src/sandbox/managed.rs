//! Lambda Managed Instances: invocations beside each other, no freeze, no timeout, no reset.
//! Source: AWS, "Lambda Managed Instances", sections on the execution environment.

use super::{Call, Completion, Outcome, invoke::Running, shutdown, state::Failure};
use serde_json::json;

/// One of several invocations. A process that ends takes the environment with it, for good.
pub(super) async fn run(running: &mut Running, call: Call) -> Completion {
    let shared = running.shared.clone();
    if !shared.lock().initialised {
        let message = "the environment did not start, and is not started again".to_owned();
        return running.crashed(Failure {
            error_type: "Sandbox.Ended".into(),
            message,
        });
    }
    running.emit(
        "platform.start",
        json!({"version": "$LATEST", "functionArn": shared.config.arn()}),
    );
    let id = running.request_id.clone();
    running.tell_runtime(call);
    let done = shared
        .until(
            |state| match state.runtime.given.get(&id).cloned().flatten() {
                Some(outcome) => Some(Ok(outcome)),
                None => state.failure().map(Err),
            },
        )
        .await;
    let (status, failure) = match &done {
        Ok(Outcome::Answered(_)) => ("success", None),
        Ok(_) => ("error", Some("Runtime.Unknown")),
        Err(failure) => ("error", Some(failure.error_type.as_str())),
    };
    let mut record = json!({"status": status, "metrics": {"durationMs": running.elapsed_ms()}});
    if let Some(error_type) = failure {
        record["errorType"] = json!(error_type);
    }
    running.emit("platform.report", record);
    match done {
        Ok(outcome) => {
            running.reply(outcome);
            Completion::Done
        }
        Err(failure) => {
            let completion = running.crashed(failure);
            let first = !shared.update(|state| std::mem::replace(&mut state.ended, true));
            if first {
                shutdown::reset(&shared, "failure").await;
            }
            completion
        }
    }
}
