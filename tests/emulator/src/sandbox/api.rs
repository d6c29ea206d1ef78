//! Routes of the three Lambda APIs, which share one address.

use super::{extensions_api, runtime_api, state::Shared, telemetry_api};
use crate::http::{Call, header, json};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use std::sync::Weak;

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) async fn answer(shared: Weak<Shared>, call: Call) -> Answer {
    let Some(shared) = shared.upgrade() else {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "Sandbox.Gone",
            "the sandbox was dropped",
        );
    };
    let path = call.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (call.method().as_str(), parts.as_slice()) {
        ("GET", ["2018-06-01", "runtime", "invocation", "next"]) => {
            runtime_api::next(&shared).await
        }
        ("POST", ["2018-06-01", "runtime", "invocation", id, "response"]) => {
            runtime_api::response(&shared, id, call.body())
        }
        ("POST", ["2018-06-01", "runtime", "invocation", id, "error"]) => {
            runtime_api::error(&shared, id, &call)
        }
        ("POST", ["2018-06-01", "runtime", "init", "error"]) => {
            runtime_api::init_error(&shared, &call)
        }
        ("POST", ["2020-01-01", "extension", "register"]) => {
            extensions_api::register(&shared, &call)
        }
        ("GET", ["2020-01-01", "extension", "event", "next"]) => {
            extensions_api::next(&shared, &call).await
        }
        ("POST", ["2020-01-01", "extension", "init" | "exit", "error"]) => {
            extensions_api::failed(&shared, &call)
        }
        ("PUT", ["2022-07-01", "telemetry"]) => telemetry_api::put(&shared, &call),
        _ => error(
            StatusCode::NOT_FOUND,
            "NotFound",
            &format!("{} {path} is not emulated", call.method()),
        ),
    }
}

/// An error in the words all three APIs use.
pub(super) fn error(status: StatusCode, error_type: &str, message: &str) -> Answer {
    json(
        status,
        &serde_json::json!({"errorMessage": message, "errorType": error_type}),
    )
}

/// `{"status":"OK"}`.
pub(super) fn accepted() -> Answer {
    json(StatusCode::ACCEPTED, &serde_json::json!({"status": "OK"}))
}

/// The name of the extension that calls, by its identifier.
pub(super) fn extension_of(
    shared: &Shared,
    call: &Call,
    area: &str,
) -> Result<String, Box<Answer>> {
    let Some(id) = header(call.headers(), "lambda-extension-identifier") else {
        let text = "Missing Lambda-Extension-Identifier header";
        return Err(Box::new(error(
            StatusCode::FORBIDDEN,
            &format!("{area}.MissingExtensionIdentifier"),
            text,
        )));
    };
    match shared.lock().by_id(id) {
        Some(extension) => Ok(extension.name.clone()),
        None => {
            let text = format!("Unknown extension {id}");
            Err(Box::new(error(
                StatusCode::FORBIDDEN,
                &format!("{area}.UnknownExtensionIdentifier"),
                &text,
            )))
        }
    }
}
