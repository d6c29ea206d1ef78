//! One invocation from the call to the freeze.

use super::{
    Call, Completion, Delivery, Invocation, Outcome, init, managed, shutdown,
    state::{Failure, Shared, State, Work},
};
use crate::{
    clock::{Moment, iso8601, unix_ms},
    ids,
    timeline::Event,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::Instant};

/// What belongs to one invocation on its way.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) request_id: String,
    pub(super) trace_header: Option<String>,
    pub(super) began: Moment,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) answer: Option<oneshot::Sender<Invocation>>,
    /// Milliseconds until the answer was posted, and its bytes.
    pub(super) posted: Option<(f64, usize)>,
}

/// Takes an invocation to its end; gives the caller its answer on the way.
pub(super) async fn drive(shared: Arc<Shared>, call: Call, answer: oneshot::Sender<Invocation>) {
    let _busy = shared.busy();
    let turns = shared.turns.clone();
    let _turn = turns
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let began = Moment::now();
    let trace_header = match call.trace_header.clone() {
        None => Some(ids::trace_header(began.unix_ms(), shared.config.sampled)),
        Some(header) => Some(header).filter(|header| !header.is_empty()),
    };
    let request_id = call.request_id.clone().unwrap_or_else(ids::uuid);
    let number = shared.update(|state| {
        // An asynchronous retry comes with the same id again.
        state.completions.remove(&request_id);
        state.runtime.given.remove(&request_id);
        state.invocations += 1;
        state.invocations - 1
    });
    let started = Instant::now();
    let mut running = Running {
        deadline: started + shared.config.timeout,
        shared: shared.clone(),
        number,
        request_id: request_id.clone(),
        trace_header,
        began,
        started,
        answer: Some(answer),
        posted: None,
    };
    shared.record(Event::InvocationBegan {
        request_id: request_id.clone(),
    });
    let completion = if shared.lock().ended {
        running.crashed(Failure {
            error_type: "Sandbox.Ended".into(),
            message: "the environment is gone".into(),
        })
    } else if shared.config.concurrency.is_some() {
        managed::run(&mut running, call).await
    } else {
        running.run(call).await
    };
    shared.record(Event::InvocationEnded {
        request_id: request_id.clone(),
        completion: format!("{completion:?}"),
    });
    if completion == Completion::Done {
        shared.freeze(Some(request_id.clone())).await;
    }
    shared.update(|state| state.completions.insert(request_id, completion));
}

impl Running {
    async fn run(&mut self, call: Call) -> Completion {
        let shared = self.shared.clone();
        if !shared.lock().initialised {
            // After a reset the init is part of the invocation, under the function's timeout.
            if let Err(failure) = init::run(&shared, "invoke", self.deadline).await {
                return self.crashed(failure);
            }
        }
        shared.thaw();
        match self.steps(call).await {
            Ok(()) => Completion::Done,
            Err(None) => {
                self.report_done("timeout", None);
                self.report("timeout");
                self.reply(Outcome::TimedOut);
                shutdown::reset(&shared, "timeout").await;
                Completion::TimedOut
            }
            Err(Some(failure)) => {
                self.report_done("error", Some(&failure.error_type));
                self.report("error");
                let completion = self.crashed(failure);
                shutdown::reset(&shared, "failure").await;
                completion
            }
        }
    }

    /// The steps of a good invocation; `Err(None)` when the timeout cut it off.
    async fn steps(&mut self, call: Call) -> Result<(), Option<Failure>> {
        let shared = self.shared.clone();
        let delivery = shared.config.delivery;
        self.emit("platform.start", json!({"version": "$LATEST"}));
        if matches!(delivery, Delivery::Together | Delivery::ExtensionFirst) {
            self.tell_extensions();
        }
        if delivery == Delivery::ExtensionFirst {
            self.step(|state| {
                state
                    .extensions
                    .iter()
                    .all(|one| one.queue.is_empty())
                    .then_some(())
            })
            .await?;
        }
        self.tell_runtime(call);

        let id = self.request_id.clone();
        let outcome = self
            .step(|state| state.runtime.given.get(&id).cloned().flatten())
            .await?;
        let ok = matches!(outcome, Outcome::Answered(_));
        let produced = outcome.response().map_or(0, Bytes::len);
        self.posted = Some((self.elapsed_ms(), produced));
        self.reply(outcome);
        if delivery == Delivery::ExtensionAfterResponse {
            self.tell_extensions();
        }

        self.step(|state| state.runtime_ready().then_some(()))
            .await?;
        self.report_done(if ok { "success" } else { "error" }, None);
        if delivery == Delivery::ExtensionAfterRuntimeNext {
            self.tell_extensions();
        }

        let runtime_asked = shared.lock().runtime.asked_at;
        self.step(|state| state.extensions_ready().then_some(()))
            .await?;
        self.report(if ok { "success" } else { "error" });
        shared.update(|state| {
            let last = state.extensions.iter().filter_map(|one| one.asked_at).max();
            if let (Some(last), Some(runtime)) = (last, runtime_asked) {
                state.overheads.insert(
                    self.request_id.clone(),
                    last.saturating_duration_since(runtime),
                );
            }
        });
        Ok(())
    }

    /// Waits for one step, or for a process that fails, or for the function's timeout.
    async fn step<T>(
        &self,
        mut met: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Option<Failure>> {
        let done = self
            .shared
            .until_or(self.deadline, |state| match met(state) {
                Some(value) => Some(Ok(value)),
                None => state.failure().map(Err),
            });
        match done.await {
            Some(done) => done.map_err(Some),
            None => Err(None),
        }
    }

    pub(super) fn tell_runtime(&self, call: Call) {
        let work = Work {
            request_id: self.request_id.clone(),
            deadline_ms: self.deadline_ms(),
            trace_header: self.trace_header.clone(),
            client_context: call.client_context,
            payload: call.payload,
        };
        self.shared
            .update(|state| state.runtime.queue.push_back(work));
    }

    fn tell_extensions(&self) {
        let mut event = json!({
            "eventType": "INVOKE",
            "deadlineMs": self.shared.config.told_deadline(self.deadline_ms()),
            "requestId": self.request_id,
            "invokedFunctionArn": self.shared.config.arn(),
        });
        if let Some(header) = &self.trace_header {
            event["tracing"] = tracing(header);
        }
        self.shared.update(|state| {
            for extension in &mut state.extensions {
                if extension.events.iter().any(|wanted| wanted == "INVOKE") {
                    extension.queue.push_back(event.clone());
                }
            }
        });
    }

    fn deadline_ms(&self) -> u64 {
        unix_ms(self.began.wall + self.shared.config.timeout)
    }

    /// Gives the caller its answer, once.
    pub(super) fn reply(&mut self, outcome: Outcome) {
        if let Some(answer) = self.answer.take() {
            // A caller that has gone away hears nothing.
            let _ = answer.send(Invocation {
                request_id: self.request_id.clone(),
                number: self.number,
                trace_header: self.trace_header.clone(),
                outcome,
                began: self.began,
                answered: Moment::now(),
            });
        }
    }

    pub(super) fn crashed(&mut self, failure: Failure) -> Completion {
        let Failure {
            error_type,
            message,
        } = failure;
        let message = format!("RequestId: {} {message}", self.request_id);
        self.reply(Outcome::Crashed {
            error_type: error_type.clone(),
            message: message.clone(),
        });
        Completion::Crashed {
            error_type,
            message,
        }
    }

    fn report_done(&self, status: &str, error_type: Option<&str>) {
        let took = self.elapsed_ms();
        let (latency, produced) = self.posted.unwrap_or((took, 0));
        let at = |ms: f64| iso8601(self.began.wall + Duration::from_secs_f64(ms / 1e3));
        let mut record = json!({
            "status": status,
            "metrics": {"durationMs": took, "producedBytes": produced},
            "spans": [
                {"name": "responseLatency", "start": at(0.0), "durationMs": latency},
                {"name": "runtimeOverhead", "start": at(latency), "durationMs": ((took - latency) * 1e3).round() / 1e3},
            ],
        });
        if let Some(error_type) = error_type {
            record["errorType"] = json!(error_type);
        }
        self.emit("platform.runtimeDone", record);
    }

    fn report(&self, status: &str) {
        let took = self.elapsed_ms();
        let memory = self.shared.config.memory_mb;
        let mut metrics = json!({
            "durationMs": took, "billedDurationMs": took.ceil(),
            "memorySizeMB": memory, "maxMemoryUsedMB": memory / 2,
        });
        // The first report after an init tells how long that was.
        if let Some(init) = self.shared.lock().init_took.take() {
            metrics["initDurationMs"] = json!(milliseconds(init));
        }
        self.emit(
            "platform.report",
            json!({"status": status, "metrics": metrics}),
        );
    }

    /// Emits an event of this request.
    pub(super) fn emit(&self, kind: &str, mut record: Value) {
        record["requestId"] = json!(self.request_id);
        if let Some(header) = &self.trace_header {
            record["tracing"] = tracing(header);
        }
        self.shared.telemetry.emit(kind, record, Some(self.number));
    }

    pub(super) fn elapsed_ms(&self) -> f64 {
        milliseconds(self.started.elapsed())
    }
}

/// Milliseconds with three decimals, as telemetry writes them.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn tracing(header: &str) -> Value {
    json!({"type": "X-Amzn-Trace-Id", "value": header})
}
