//! The Runtime API, 2018-06-01. Source: AWS, "Using the Lambda runtime API for custom runtimes".

use super::{
    Outcome,
    api::{Answer, accepted, error as refuse},
    state::{Shared, Work},
};
use crate::{
    http::{Call, header},
    ids,
    timeline::{Event, Who},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// Longest response, the limit of a synchronous invocation: 6 MB and a little.
const RESPONSE_BYTES_MAX: usize = 6 * 1024 * 1024 + 100;

/// `GET /runtime/invocation/next`: waits for an invocation.
pub(super) async fn next(shared: &Arc<Shared>) -> Answer {
    let managed = shared.config.concurrency.is_some();
    let unanswered = shared.lock().runtime.given.values().any(Option::is_none);
    if unanswered && !managed {
        // A runtime that asks for more before it has answered is in the wrong state.
        return refuse(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "the last invocation has not been answered",
        );
    }
    shared.record(Event::NextAsked { who: Who::Runtime });
    let poll = Poll::begin(shared.clone());
    let generation = poll.generation;
    let work = shared
        .until(|state| {
            if state.generation != generation {
                return None;
            }
            let work = state.runtime.queue.pop_front()?;
            state.runtime.waiting -= 1;
            state.runtime.given.insert(work.request_id.clone(), None);
            let request_id = work.request_id.clone();
            shared.record(Event::InvokeDelivered {
                who: Who::Runtime,
                request_id,
            });
            Some(work)
        })
        .await;
    poll.done();
    deliver(shared, work)
}

fn deliver(shared: &Shared, work: Work) -> Answer {
    let mut response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", &work.request_id)
        .header(
            "lambda-runtime-deadline-ms",
            shared.config.told_deadline(work.deadline_ms),
        )
        .header("lambda-runtime-invoked-function-arn", shared.config.arn())
        .header("lambda-runtime-invocation-id", ids::uuid());
    if let Some(trace) = &work.trace_header {
        response = response.header("lambda-runtime-trace-id", trace);
    }
    if let Some(context) = &work.client_context {
        response = response.header("lambda-runtime-client-context", context);
    }
    response
        .body(Full::new(work.payload))
        .unwrap_or_else(|error| {
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Emulator.Header",
                &error.to_string(),
            )
        })
}

/// A long poll; one whose client goes away no longer waits.
struct Poll {
    shared: Arc<Shared>,
    generation: u64,
    over: bool,
}

impl Poll {
    fn begin(shared: Arc<Shared>) -> Self {
        let generation = shared.update(|state| {
            state.runtime.waiting += 1;
            state.runtime.asked_at = Some(Instant::now());
            state.generation
        });
        Self {
            shared,
            generation,
            over: false,
        }
    }

    /// It has what it waited for.
    fn done(mut self) {
        self.over = true;
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if !self.over {
            self.shared.update(|state| {
                if state.generation == self.generation {
                    state.runtime.waiting -= 1;
                }
            });
        }
    }
}

/// `POST /runtime/invocation/{id}/response`.
pub(super) fn response(shared: &Shared, request_id: &str, body: &Bytes) -> Answer {
    if body.len() > RESPONSE_BYTES_MAX {
        let text = format!(
            "Exceeded maximum allowed payload size (6291556 bytes), got {}",
            body.len()
        );
        let value = json!({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": text});
        let refused = refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &text,
        );
        return post(shared, request_id, Outcome::FunctionError(value), refused);
    }
    post(
        shared,
        request_id,
        Outcome::Answered(body.clone()),
        accepted(),
    )
}

/// `POST /runtime/invocation/{id}/error`.
pub(super) fn error(shared: &Shared, request_id: &str, call: &Call) -> Answer {
    let (error_type, message) = reported(call, "lambda-runtime-function-error-type");
    let body = serde_json::from_slice(call.body())
        .ok()
        .filter(Value::is_object);
    let value = body.unwrap_or_else(|| json!({"errorType": error_type, "errorMessage": message}));
    post(
        shared,
        request_id,
        Outcome::FunctionError(value),
        accepted(),
    )
}

/// `POST /runtime/init/error`.
pub(super) fn init_error(shared: &Shared, call: &Call) -> Answer {
    let reported = reported(call, "lambda-runtime-function-error-type");
    shared.update(|state| state.runtime.init_error = Some(reported));
    accepted()
}

/// Keeps what the runtime posted, if it is the answer to an invocation that still waits for one.
/// Gives `answer` when it was.
fn post(shared: &Shared, request_id: &str, outcome: Outcome, answer: Answer) -> Answer {
    let ok = matches!(outcome, Outcome::Answered(_));
    let known = shared.update(|state| match state.runtime.given.get_mut(request_id) {
        Some(place @ None) => {
            *place = Some(outcome);
            let request_id = request_id.to_owned();
            shared.record(Event::ResponsePosted { request_id, ok });
            Some(true)
        }
        Some(Some(_)) => Some(false),
        None => None,
    });
    match known {
        Some(true) => answer,
        Some(false) => refuse(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "it was answered already",
        ),
        None => refuse(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        ),
    }
}

/// Type and message of a report of failure.
pub(super) fn reported(call: &Call, type_header: &str) -> (String, String) {
    let body: Value = serde_json::from_slice(call.body()).unwrap_or_default();
    let error_type = header(call.headers(), type_header)
        .or(body["errorType"].as_str())
        .unwrap_or("Runtime.Unknown");
    let message = body["errorMessage"].as_str().unwrap_or_default();
    (error_type.to_owned(), message.to_owned())
}
