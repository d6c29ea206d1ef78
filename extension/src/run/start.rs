//! What is listened on before the first event is asked for.

use tokio::sync::mpsc;

use crate::config::Config;
use crate::lambda::extensions_api::Registered;
use crate::lambda::{RuntimeApi, telemetry_api};
use crate::lifecycle::Event;
use crate::log::{self, Level};
use crate::receiver::{self, Intake};

/// Starts both receivers; a port that is taken costs that protocol and nothing else.
pub(super) async fn listen(config: &Config, intake: &Intake) {
    match receiver::bind(config.http_port).await {
        Ok(listener) => {
            let intake = intake.clone();
            let serve = move |stream, slot| receiver::http::serve(stream, slot, intake.clone());
            tokio::spawn(receiver::accept(listener, serve));
        }
        Err(error) => {
            let instead = "OTLP/HTTP is not received, and the wrapper does not find the extension";
            port_taken("THROUGHLINE_HTTP_PORT", config.http_port, &error, instead);
        }
    }
    if config.grpc_port == 0 {
        return;
    }
    match receiver::bind(config.grpc_port).await {
        Ok(listener) => {
            let intake = intake.clone();
            let serve = move |stream, slot| receiver::grpc::serve(stream, slot, intake.clone());
            tokio::spawn(receiver::accept(listener, serve));
        }
        Err(error) => {
            let instead = "OTLP/gRPC is not received";
            port_taken("THROUGHLINE_GRPC_PORT", config.grpc_port, &error, instead);
        }
    }
}

fn port_taken(variable: &str, port: u16, error: &std::io::Error, instead: &str) {
    let fields = [
        ("variable", variable.into()),
        ("port", port.into()),
        ("error", error.to_string().into()),
        ("instead", instead.into()),
    ];
    log::line(
        Level::Error,
        "a port cannot be listened on; another process may have it",
        &fields,
    );
}

/// Subscribes to the Telemetry API. Whether its events can be expected.
pub(super) async fn subscribe(
    config: &Config,
    api: &RuntimeApi,
    registered: &Registered,
    events: mpsc::Sender<Event>,
) -> bool {
    if !registered.invoke_events {
        // Managed Instances have no end of an invocation to wait for.
        return false;
    }
    let listener = match telemetry_api::bind(config.telemetry_address).await {
        Ok(listener) => listener,
        Err(error) => {
            let fields = [("error", error.to_string().into())];
            log::line(
                Level::Warn,
                "the Telemetry API cannot be listened to; see THROUGHLINE_TELEMETRY_ADDRESS",
                &fields,
            );
            return false;
        }
    };
    let port = listener.local_addr().map_or(0, |address| address.port());
    let serve = move |stream, _slot| telemetry_api::serve(stream, events.clone());
    tokio::spawn(receiver::accept(listener, serve));
    match telemetry_api::subscribe(api, &registered.extension_id, port).await {
        Ok(true) => true,
        Ok(false) => {
            log::line(Level::Debug, "there is no Telemetry API here", &[]);
            false
        }
        Err(error) => {
            let fields = [("error", error.into())];
            log::line(
                Level::Warn,
                "the Telemetry API does not take the subscription",
                &fields,
            );
            false
        }
    }
}
