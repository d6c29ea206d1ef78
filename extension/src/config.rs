//! What the environment asks for: read once, every mistake reported, never a reason to stop.
//!
//! This is the only place of the extension that knows the names of environment variables.
//! [`read`] takes a map, so that a test is a table; [`environment`] makes that map from the process.

mod text;
mod upstream;
mod variables;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

pub use self::text::Mistake;
pub use self::upstream::AwsSettings;
pub use self::variables::{VARIABLES, Variable};
use crate::log::Level;
use crate::upstream::UpstreamSettings;

/// Environment variables by name.
pub type Variables = BTreeMap<String, String>;

/// When spans leave the sandbox, `THROUGHLINE_FLUSH`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Strategy {
    /// Every invocation ends with a flush.
    #[default]
    End,
    /// Like `End` while invocations are rare; beside the next invocation when they come close together.
    Adaptive,
}

/// Everything the extension does differently because of its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where spans go, for each signal.
    pub upstream: UpstreamSettings,
    /// Port of the OTLP/HTTP receiver on 127.0.0.1.
    pub http_port: u16,
    /// Port of the OTLP/gRPC receiver on 127.0.0.1.
    pub grpc_port: u16,
    /// When spans leave.
    pub strategy: Strategy,
    /// The longest an invocation is held for its flush.
    pub flush_timeout: Duration,
    /// Bytes the buffer may hold, requests in flight included.
    pub buffer_bytes: usize,
    /// The least important log line that is still written.
    pub log_level: Level,
    /// Address of the Telemetry API listener; `None`: what `sandbox.localdomain` resolves to.
    pub telemetry_address: Option<IpAddr>,
    /// `host:port` or URL of Lambda's own APIs; `None` outside a sandbox.
    pub runtime_api: Option<String>,
    /// Lambda Managed Instances: no INVOKE events, no freeze, many invocations at once.
    pub managed_instances: bool,
    /// The name to register under: the file name of this executable.
    pub extension_name: String,
}

/// Default of `THROUGHLINE_FLUSH_TIMEOUT`.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Default of `THROUGHLINE_BUFFER_BYTES`.
pub const BUFFER_BYTES: usize = 4 << 20;
/// Default of `THROUGHLINE_HTTP_PORT`, OTLP's own.
pub const HTTP_PORT: u16 = 4318;
/// Default of `THROUGHLINE_GRPC_PORT`, OTLP's own.
pub const GRPC_PORT: u16 = 4317;

/// The process's environment, with the name of its executable.
/// Values that are not UTF-8 keep a replacement character, which their parser then reports.
pub fn environment() -> Variables {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect()
}

/// The file name of the running executable as it was called, which is what Lambda calls it in `/opt/extensions`.
pub fn extension_name() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    Path::new(&called).file_name().map_or_else(
        || "throughline-extension".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Reads the whole configuration; whatever is wrong is reported and replaced by its default.
pub fn read(variables: &Variables, extension_name: String) -> (Config, Vec<Mistake>) {
    let mut reader = text::Reader::new(variables);
    let http_port = reader.port("THROUGHLINE_HTTP_PORT", HTTP_PORT);
    let mut grpc_port = reader.port("THROUGHLINE_GRPC_PORT", GRPC_PORT);
    if grpc_port == http_port {
        reader.mistake(
            "THROUGHLINE_GRPC_PORT",
            "is the same port as THROUGHLINE_HTTP_PORT; gRPC is not received",
        );
        grpc_port = 0;
    }
    let config = Config {
        upstream: upstream::read(&mut reader, &[http_port, grpc_port]),
        http_port,
        grpc_port,
        strategy: reader
            .choice(
                "THROUGHLINE_FLUSH",
                &[("end", Strategy::End), ("adaptive", Strategy::Adaptive)],
            )
            .unwrap_or_default(),
        flush_timeout: reader.duration(
            "THROUGHLINE_FLUSH_TIMEOUT",
            FLUSH_TIMEOUT,
            Duration::from_millis(10)..=Duration::from_secs(60),
        ),
        buffer_bytes: reader.size(
            "THROUGHLINE_BUFFER_BYTES",
            BUFFER_BYTES,
            (64 << 10)..=(1 << 30),
        ),
        log_level: reader
            .choice("THROUGHLINE_LOG_LEVEL", Level::NAMES)
            .unwrap_or_default(),
        telemetry_address: reader.parsed("THROUGHLINE_TELEMETRY_ADDRESS", "an IP address"),
        runtime_api: reader.text("AWS_LAMBDA_RUNTIME_API").map(str::to_owned),
        managed_instances: reader.text("AWS_LAMBDA_INITIALIZATION_TYPE")
            == Some("lambda-managed-instances"),
        extension_name,
    };
    misspelt(&mut reader, variables);
    (config, reader.into_mistakes())
}

/// Reports names that are nearly one of ours.
fn misspelt(reader: &mut text::Reader<'_>, variables: &Variables) {
    // The wrapper's own, in the same environment.
    let wrappers = ["THROUGHLINE_PARTIAL_BATCH"];
    let known: Vec<&str> = VARIABLES
        .iter()
        .map(|variable| variable.name)
        .chain(wrappers)
        .collect();
    let ours = |name: &&String| name.starts_with("THROUGHLINE_") && !known.contains(&name.as_str());
    for name in variables.keys().filter(ours) {
        if let Some(near) = known.iter().find(|known| text::distance(name, known) <= 2) {
            reader.mistake(name, format!("is not known; {near} is"));
        }
    }
}

#[cfg(test)]
mod tests;
