//! The Telemetry API: subscribe, and listen for the end of invocations.
//!
//! Whatever comes is answered with 200: Lambda would send the same batch again, for ever.

mod batch;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::extensions_api::IDENTIFIER;
use super::{Connection, RuntimeApi};
use crate::lifecycle::Event;

/// The only schema that Managed Instances take; others take it as well.
const SCHEMA: &str = "2025-01-29";
/// The least that may be asked for: events reach us this long after the first of a batch.
const BUFFERING_MS: u32 = 25;
/// A batch at most: twice the `maxBytes` that we ask for, and some room.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The longest that resolving it may take. In a sandbox it stands in a file, which takes 0.1 ms.
const RESOLVE_MAX: Duration = Duration::from_millis(100);
/// The host name by which Lambda reaches us.
const HOST: &str = "sandbox.localdomain";

/// Binds a free port on the address that Lambda will deliver to.
///
/// # Errors
/// When no address can be bound.
pub async fn bind(address: Option<IpAddr>) -> std::io::Result<TcpListener> {
    let address = match address {
        Some(address) => address,
        None => resolve().await.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    TcpListener::bind(SocketAddr::new(address, 0)).await
}

/// A name that nobody knows, as on a laptop, may take a resolver seconds: the function's start must not wait for it.
async fn resolve() -> Option<IpAddr> {
    let lookup = tokio::net::lookup_host((HOST, 0));
    let mut addresses = tokio::time::timeout(RESOLVE_MAX, lookup).await.ok()?.ok()?;
    addresses.next().map(|address| address.ip())
}

/// Subscribes to platform events. Whether they will come: an emulator without a Telemetry API answers 202.
///
/// # Errors
/// When the call failed or was refused, as text.
pub async fn subscribe(api: &RuntimeApi, extension_id: &str, port: u16) -> Result<bool, String> {
    let body = json!({
        "schemaVersion": SCHEMA,
        "types": ["platform"],
        "buffering": { "maxItems": 1000, "maxBytes": 262_144, "timeoutMs": BUFFERING_MS },
        "destination": { "protocol": "HTTP", "URI": format!("http://{HOST}:{port}/") },
    });
    let headers = [
        (IDENTIFIER, extension_id),
        ("content-type", "application/json"),
    ];
    let path = "/2022-07-01/telemetry";
    let answer = api
        .call(
            &mut Connection::default(),
            Method::PUT,
            path,
            &headers,
            body.to_string(),
        )
        .await;
    match answer.map_err(|error| error.to_string())?.status.as_u16() {
        200 => Ok(true),
        202 => Ok(false),
        status => Err(format!("status {status}")),
    }
}

/// Serves one connection of the Telemetry API.
pub async fn serve(stream: TcpStream, events: mpsc::Sender<Event>) {
    let service = service_fn(|request: Request<Incoming>| {
        let events = events.clone();
        async move {
            let body = Limited::new(request.into_body(), BATCH_BYTES_MAX)
                .collect()
                .await;
            if let Ok(body) = body {
                for event in batch::parse(&body.to_bytes()) {
                    // The channel ends with the process only.
                    let _ = events.send(event).await;
                }
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
