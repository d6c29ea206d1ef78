//! The Extensions API, 2020-01-01. Source: AWS, "Using the Lambda Extensions API to create extensions".

use super::{
    api::{Answer, accepted, error, extension_of},
    runtime_api::reported,
    state::{Extension, Shared},
};
use crate::{
    http::{Call, header, json},
    ids,
    timeline::{Event, Who},
};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Arc};
use tokio::time::Instant;

/// Internal and external ones together.
const EXTENSIONS_MAX: usize = 10;

/// `POST /extension/register`.
pub(super) fn register(shared: &Shared, call: &Call) -> Answer {
    let Some(name) =
        header(call.headers(), "lambda-extension-name").filter(|name| !name.is_empty())
    else {
        return error(
            StatusCode::FORBIDDEN,
            "Extension.InvalidExtensionName",
            "Lambda-Extension-Name is missing",
        );
    };
    let Ok(body) = serde_json::from_slice::<Value>(call.body()) else {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestFormat",
            "the body is not JSON",
        );
    };
    if body.get("configurationKeys").is_some() {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestFormat",
            "configurationKeys are not supported",
        );
    }
    let events: Vec<String> = serde_json::from_value(body["events"].clone()).unwrap_or_default();
    if let Some((status, error_type, text)) = refusal(shared, name, &events) {
        return error(status, error_type, &text);
    }
    let id = ids::uuid();
    shared.record(Event::Registered {
        extension: name.to_owned(),
        events: events.clone(),
    });
    shared.update(|state| enter(&mut state.extensions, name, &id, events));
    let mut answer = json!({
        "functionName": shared.config.function_name, "functionVersion": "$LATEST", "handler": "bootstrap",
    });
    let features = header(call.headers(), "lambda-extension-accept-feature").unwrap_or_default();
    if features
        .split(',')
        .any(|feature| feature.trim() == "accountId")
    {
        answer["accountId"] = json!("123456789012");
    }
    let mut response = json(StatusCode::OK, &answer);
    let id = HeaderValue::from_str(&id).expect("a UUID is a header value");
    response
        .headers_mut()
        .insert("lambda-extension-identifier", id);
    response
}

/// Why a registration is refused.
fn refusal(
    shared: &Shared,
    name: &str,
    events: &[String],
) -> Option<(StatusCode, &'static str, String)> {
    let state = shared.lock();
    let known = state
        .extensions
        .iter()
        .find(|extension| extension.name == name);
    if let Some(odd) = events
        .iter()
        .find(|event| !["INVOKE", "SHUTDOWN"].contains(&event.as_str()))
    {
        return Some((
            StatusCode::BAD_REQUEST,
            "InvalidEventType",
            format!("{odd}: ErrorInvalidEventType"),
        ));
    }
    let internal = known.is_none_or(|extension| !extension.external);
    if events.iter().any(|event| event == "INVOKE") && shared.config.concurrency.is_some() {
        let text = "INVOKE: ErrorInvalidEventType".to_owned();
        return Some((StatusCode::FORBIDDEN, "Extension.InvalidEventType", text));
    }
    if internal && events.iter().any(|event| event == "SHUTDOWN") {
        let text =
            format!("SHUTDOWN: an internal extension cannot have it, and there is no file {name}");
        return Some((StatusCode::FORBIDDEN, "Extension.InvalidEventType", text));
    }
    if !state.initialising {
        return Some((
            StatusCode::FORBIDDEN,
            "Extension.RegistrationClosed",
            "init is over".to_owned(),
        ));
    }
    if known.is_some_and(|extension| extension.id.is_some()) {
        return Some((
            StatusCode::FORBIDDEN,
            "Extension.AlreadyRegistered",
            format!("{name} registered before"),
        ));
    }
    if known.is_none() && state.extensions.len() >= EXTENSIONS_MAX {
        let text = format!("at most {EXTENSIONS_MAX} extensions may register");
        return Some((StatusCode::FORBIDDEN, "Extension.TooManyExtensions", text));
    }
    None
}

/// Enters a registration; a name without a file is an internal extension.
fn enter(extensions: &mut Vec<Extension>, name: &str, id: &str, events: Vec<String>) {
    match extensions
        .iter_mut()
        .find(|extension| extension.name == name)
    {
        Some(extension) => (extension.id, extension.events) = (Some(id.to_owned()), events),
        None => extensions.push(Extension {
            id: Some(id.to_owned()),
            events,
            ..Extension::named(name)
        }),
    }
}

impl Extension {
    /// An internal one that has not registered.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            external: false,
            life: None,
            id: None,
            events: Vec::new(),
            waiting: false,
            asked_at: None,
            queue: VecDeque::new(),
            failure: None,
        }
    }
}

/// `GET /extension/event/next`: waits for an event.
pub(super) async fn next(shared: &Arc<Shared>, call: &Call) -> Answer {
    let name = match extension_of(shared, call, "Extension") {
        Ok(name) => name,
        Err(answer) => return *answer,
    };
    let id = header(call.headers(), "lambda-extension-identifier")
        .unwrap_or_default()
        .to_owned();
    shared.record(Event::NextAsked {
        who: Who::Extension(name.clone()),
    });
    let mut poll = Poll::begin(shared.clone(), id.clone());
    let event = shared
        .until(|state| {
            let extension = state.by_id(&id)?;
            let event = extension.queue.pop_front()?;
            extension.waiting = false;
            shared.record(delivered(&name, &event));
            Some(event)
        })
        .await;
    poll.over = true;
    let mut response = json(StatusCode::OK, &event);
    if event["eventType"] == "INVOKE" {
        let id = HeaderValue::from_str(&ids::uuid()).expect("a UUID is a header value");
        response
            .headers_mut()
            .insert("lambda-extension-event-identifier", id);
    } else {
        // What Lambda says of its SHUTDOWN event.
        response.headers_mut().insert(
            "content-type",
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
    }
    response
}

fn delivered(extension: &str, event: &Value) -> Event {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    match event["eventType"].as_str() {
        Some("INVOKE") => Event::InvokeDelivered {
            who: Who::Extension(extension.to_owned()),
            request_id: text("requestId"),
        },
        _ => Event::ShutdownDelivered {
            extension: extension.to_owned(),
            reason: text("shutdownReason"),
        },
    }
}

/// A long poll; one whose client goes away no longer waits.
struct Poll {
    shared: Arc<Shared>,
    id: String,
    over: bool,
}

impl Poll {
    fn begin(shared: Arc<Shared>, id: String) -> Self {
        shared.update(|state| {
            if let Some(extension) = state.by_id(&id) {
                extension.waiting = true;
                extension.asked_at = Some(Instant::now());
            }
        });
        Self {
            shared,
            id,
            over: false,
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if !self.over {
            self.shared.update(|state| {
                if let Some(extension) = state.by_id(&self.id) {
                    extension.waiting = false;
                }
            });
        }
    }
}

/// `POST /extension/init/error` and `/extension/exit/error`: the extension gives up, and with it the environment.
pub(super) fn failed(shared: &Shared, call: &Call) -> Answer {
    let name = match extension_of(shared, call, "Extension") {
        Ok(name) => name,
        Err(answer) => return *answer,
    };
    if header(call.headers(), "lambda-extension-function-error-type").is_none() {
        let text = "Missing Lambda-Extension-Function-Error-Type header";
        return error(StatusCode::BAD_REQUEST, "Extension.MissingHeader", text);
    }
    let reported = reported(call, "lambda-extension-function-error-type");
    shared.update(|state| {
        if let Some(extension) = state
            .extensions
            .iter_mut()
            .find(|extension| extension.name == name)
        {
            extension.failure = Some(reported);
        }
    });
    accepted()
}
