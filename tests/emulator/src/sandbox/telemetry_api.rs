//! `PUT /2022-07-01/telemetry`: what may be subscribed to and how much may be buffered.
//! Source: AWS, "Telemetry API reference", sections "Subscribe" and "Buffering".

use super::{
    api::{Answer, error, extension_of},
    state::Shared,
    telemetry::Subscription,
};
use crate::{http::Call, timeline::Event};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wish {
    #[serde(default)]
    schema_version: String,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    buffering: Buffering,
    destination: Destination,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Buffering {
    max_items: usize,
    max_bytes: usize,
    timeout_ms: u64,
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            max_items: 10_000,
            max_bytes: 262_144,
            timeout_ms: 1000,
        }
    }
}

#[derive(Deserialize)]
struct Destination {
    protocol: String,
    #[serde(rename = "URI", alias = "uri", default)]
    uri: String,
}

pub(super) fn put(shared: &Arc<Shared>, call: &Call) -> Answer {
    let extension = match extension_of(shared, call, "Telemetry") {
        Ok(name) => name,
        Err(answer) => return *answer,
    };
    let faults = shared.telemetry.faults();
    let (answer, subscription) = if faults.refused {
        let text = "Telemetry API is not supported";
        (
            error(StatusCode::ACCEPTED, "Telemetry.NotSupported", text),
            None,
        )
    } else if !shared.lock().initialising {
        let text = "the subscription is closed once init is over";
        (
            error(StatusCode::FORBIDDEN, "Telemetry.SubscriptionClosed", text),
            None,
        )
    } else {
        match wish(&extension, call.body(), shared.config.concurrency.is_some()) {
            Ok(subscription) => (Response::new(Full::from("\"OK\"")), Some(subscription)),
            Err(text) => (
                error(StatusCode::BAD_REQUEST, "ValidationError", &text),
                None,
            ),
        }
    };
    let schema = subscription
        .as_ref()
        .map(|wanted| wanted.schema.clone())
        .unwrap_or_default();
    shared.record(Event::TelemetrySubscribed {
        extension,
        schema,
        status: answer.status().as_u16(),
    });
    if let Some(subscription) = subscription {
        shared.telemetry.subscribe(subscription);
    }
    answer
}

/// Reads and judges a subscription.
fn wish(extension: &str, body: &Bytes, managed: bool) -> Result<Subscription, String> {
    let wish: Wish = serde_json::from_slice(body)
        .map_err(|error| format!("the body cannot be read: {error}"))?;
    // Managed Instances know the newest schema only.
    let schemas: &[&str] = if managed {
        &["2025-01-29"]
    } else {
        &["2022-07-01", "2022-12-13", "2025-01-29"]
    };
    if !schemas.contains(&wish.schema_version.as_str()) {
        return Err(format!(
            "schemaVersion `{}` is none of {schemas:?}",
            wish.schema_version
        ));
    }
    if wish.types.is_empty() {
        return Err("types is empty".into());
    }
    if let Some(odd) = wish
        .types
        .iter()
        .find(|kind| !["platform", "function", "extension"].contains(&kind.as_str()))
    {
        return Err(format!(
            "type `{odd}` is none of platform, function, extension"
        ));
    }
    let Buffering {
        max_items,
        max_bytes,
        timeout_ms,
    } = wish.buffering;
    for (name, value, range) in [
        ("maxItems", max_items as u64, 1000..=10_000),
        ("maxBytes", max_bytes as u64, 262_144..=1_048_576),
        ("timeoutMs", timeout_ms, 25..=30_000),
    ] {
        if !range.contains(&value) {
            return Err(format!("{name} {value} is outside {range:?}"));
        }
    }
    if wish.destination.protocol != "HTTP" {
        return Err(format!(
            "protocol `{}` is not emulated, only HTTP is",
            wish.destination.protocol
        ));
    }
    let (port, path) = destination(&wish.destination.uri)?;
    Ok(Subscription {
        extension: extension.to_owned(),
        schema: wish.schema_version,
        types: wish.types,
        items_max: max_items,
        bytes_max: max_bytes,
        timeout: Duration::from_millis(timeout_ms),
        port,
        path,
    })
}

/// Port and path of a destination; its host has to be the sandbox.
fn destination(uri: &str) -> Result<(u16, String), String> {
    let parsed: http::Uri = uri
        .parse()
        .map_err(|_| format!("URI `{uri}` cannot be read"))?;
    if !matches!(parsed.host(), Some("sandbox.localdomain" | "sandbox"))
        || parsed.scheme_str() != Some("http")
    {
        return Err(format!(
            "URI `{uri}` does not begin with http://sandbox.localdomain"
        ));
    }
    let port = parsed.port_u16().unwrap_or(80);
    if port == 9001 {
        return Err("port 9001 is reserved".into());
    }
    Ok((port, parsed.path().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(
        change: impl Fn(&mut serde_json::Value),
        managed: bool,
    ) -> Result<Subscription, String> {
        let mut body = serde_json::json!({
            "schemaVersion": "2025-01-29", "types": ["platform"],
            "buffering": {"maxItems": 1000, "maxBytes": 262_144, "timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/t"},
        });
        change(&mut body);
        wish("ext", &Bytes::from(body.to_string()), managed)
    }

    #[test]
    fn a_good_one_and_its_defaults() {
        let good = judge(|_| (), true).unwrap();
        assert_eq!(
            (good.port, good.path.as_str(), good.timeout),
            (4243, "/t", Duration::from_millis(25))
        );
        let bare = judge(|body| body["buffering"] = serde_json::json!({}), false).unwrap();
        assert_eq!(
            (bare.items_max, bare.bytes_max, bare.timeout),
            (10_000, 262_144, Duration::from_secs(1))
        );
    }

    #[test]
    fn limits_hold_at_their_edges() {
        for (name, value, good) in [
            ("maxItems", 999, false),
            ("maxItems", 10_000, true),
            ("maxItems", 10_001, false),
            ("maxBytes", 262_143, false),
            ("maxBytes", 1_048_577, false),
            ("timeoutMs", 24, false),
            ("timeoutMs", 30_000, true),
            ("timeoutMs", 30_001, false),
        ] {
            let judged = judge(|body| body["buffering"][name] = value.into(), false);
            assert_eq!(judged.is_ok(), good, "{name} {value}");
        }
    }

    #[test]
    fn refusals() {
        assert!(judge(|body| body["schemaVersion"] = "2022-07-01".into(), false).is_ok());
        assert!(judge(|body| body["schemaVersion"] = "2022-07-01".into(), true).is_err());
        assert!(judge(|body| body["schemaVersion"] = "2020-08-15".into(), false).is_err());
        assert!(judge(|body| body["types"] = serde_json::json!([]), false).is_err());
        assert!(judge(|body| body["types"] = serde_json::json!(["all"]), false).is_err());
        for uri in [
            "http://127.0.0.1:1/",
            "https://sandbox.localdomain:1/",
            "http://sandbox.localdomain:9001/",
            "x",
        ] {
            assert!(
                judge(|body| body["destination"]["URI"] = uri.into(), false).is_err(),
                "{uri}"
            );
        }
    }
}
