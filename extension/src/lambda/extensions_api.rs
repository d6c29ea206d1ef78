//! The Extensions API: register once, then ask for the next event until the sandbox ends.

use std::time::Duration;

use http::Method;
use lambda_extension::Extension;
use serde_json::Value;

use super::{Answer, Connection, RuntimeApi};
use crate::lifecycle::Event;
use crate::log::{self, Level};

/// The header that carries our id.
pub(super) const IDENTIFIER: &str = "lambda-extension-identifier";

/// Where OpenTelemetry's resource detectors look for the account id: a symlink whose target is the number.
const ACCOUNT_ID_LINK: &str = "/tmp/.otel-aws-account-id";

/// First pause after a failed call; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause between two calls.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Tries to register. With the pauses that is about 5 s of the 10 s that an init may take.
const REGISTER_TRIES: u32 = 12;

/// What registering told.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Our id for all further calls.
    pub extension_id: String,
    /// The account the function belongs to.
    pub account_id: Option<String>,
    /// Whether INVOKE events will come.
    pub invoke_events: bool,
}

/// Asks for events, one at a time.
#[derive(Debug)]
pub struct Events {
    api: RuntimeApi,
    extension_id: String,
    connection: Connection,
}

/// Registers under the file name of this executable.
///
/// Managed Instances refuse INVOKE; where that is not known beforehand, the second try is without.
///
/// # Errors
/// When Lambda does not take us after several tries.
pub async fn register(
    name: &str,
    managed_instances: bool,
) -> Result<Registered, lambda_extension::Error> {
    let mut invoke_events = !managed_instances;
    let mut pause = PAUSE_MIN;
    let mut tries = 0;
    loop {
        let events: &[&str] = if invoke_events {
            &["INVOKE", "SHUTDOWN"]
        } else {
            &["SHUTDOWN"]
        };
        let extension = Extension::new()
            .with_extension_name(name)
            .with_events(events);
        match extension.register().await {
            Ok(registered) => {
                return Ok(Registered {
                    extension_id: registered.extension_id,
                    account_id: registered.account_id,
                    invoke_events,
                });
            }
            Err(error) if tries + 1 >= REGISTER_TRIES => return Err(error),
            // The crate's error is text only; 403 is the answer to an event type that is not allowed here.
            Err(error) if invoke_events && error.to_string().contains("403") => {
                invoke_events = false;
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        tries += 1;
    }
}

/// Writes the account id where resource detectors of every SDK find it, before the function starts.
pub fn link_account_id(account_id: &str) {
    let digits = account_id.len() == 12 && account_id.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        // It may be there already, after a suppressed init: /tmp outlives the process.
        let _ = std::os::unix::fs::symlink(account_id, ACCOUNT_ID_LINK);
    }
}

// === impl Events ===

impl Events {
    /// Asks nothing yet.
    pub fn new(api: RuntimeApi, extension_id: String) -> Self {
        Self {
            api,
            extension_id,
            connection: Connection::default(),
        }
    }

    /// Waits for the next event, across freezes and however often it takes.
    /// A failed call is made again, for ever: to give up would take the function down.
    pub async fn next(&mut self) -> Event {
        let mut pause = PAUSE_MIN;
        loop {
            match self.ask().await {
                Ok(event) => return event,
                Err(why) => {
                    log::once(
                        "next",
                        Level::Warn,
                        "asking for the next event failed; asking again",
                        &[("error", why.into())],
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Event, String> {
        let headers = [(IDENTIFIER, self.extension_id.as_str())];
        let path = "/2020-01-01/extension/event/next";
        let answer = self
            .api
            .call(
                &mut self.connection,
                Method::GET,
                path,
                &headers,
                String::new(),
            )
            .await;
        let Answer { status, body, .. } = answer.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("status {}", status.as_u16()));
        }
        Ok(parse(&body))
    }
}

/// Reads one event; what is not understood is [`Event::Unknown`], never an error.
fn parse(body: &[u8]) -> Event {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Event::Unknown;
    };
    let deadline_ms = milliseconds(&value["deadlineMs"]);
    match (value["eventType"].as_str(), value["requestId"].as_str()) {
        (Some("INVOKE"), Some(request)) => Event::Invoke {
            request: request.to_owned(),
            deadline_ms,
        },
        (Some("SHUTDOWN"), _) => Event::Shutdown { deadline_ms },
        _ => Event::Unknown,
    }
}

/// A number of milliseconds, whole or not; 0 when it is none, which is no believable deadline.
fn milliseconds(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|number| number as u64))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_as_lambda_sends_them() {
        let invoke = br#"{"eventType":"INVOKE","deadlineMs":1795338764194,"requestId":"dbb8",
            "invokedFunctionArn":"arn:aws:lambda:x","tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1"}}"#;
        assert_eq!(
            parse(invoke),
            Event::Invoke {
                request: "dbb8".into(),
                deadline_ms: 1_795_338_764_194
            }
        );
        let shutdown =
            br#"{"eventType":"SHUTDOWN","deadlineMs":1795338757318,"shutdownReason":"spindown"}"#;
        assert_eq!(
            parse(shutdown),
            Event::Shutdown {
                deadline_ms: 1_795_338_757_318
            }
        );
    }

    #[test]
    fn odd_events_are_unknown_or_tolerated() {
        for odd in [
            "",
            "[]",
            "null",
            "{\"eventType\":\"RESTORE\"}",
            "{\"eventType\":\"INVOKE\"}",
            "\u{1}",
        ] {
            assert_eq!(parse(odd.as_bytes()), Event::Unknown, "{odd}");
        }
        for (text, deadline_ms) in [
            ("12.75", 12),
            ("-5", 0),
            ("\"soon\"", 0),
            ("null", 0),
            ("1e300", u64::MAX),
        ] {
            let body =
                format!("{{\"eventType\":\"INVOKE\",\"requestId\":\"r\",\"deadlineMs\":{text}}}");
            assert_eq!(
                parse(body.as_bytes()),
                Event::Invoke {
                    request: "r".into(),
                    deadline_ms
                },
                "{text}"
            );
        }
    }
}
