//! The table of variables, which `--help` prints and the README is checked against.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name. `OTEL_EXPORTER_OTLP_X` also exists for one signal, see `per_signal`.
    pub name: &'static str,
    /// The value that is used when it is not set, as it would be written.
    pub default: &'static str,
    /// What kind of value it takes.
    pub unit: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Whether `OTEL_EXPORTER_OTLP_TRACES_X`, `…_METRICS_X` and `…_LOGS_X` override it.
    pub per_signal: bool,
}

const fn ours(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Variable {
    Variable {
        name,
        default,
        unit,
        meaning,
        per_signal: false,
    }
}

const fn standard(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Variable {
    Variable {
        name,
        default,
        unit,
        meaning,
        per_signal: true,
    }
}

/// Every variable a user sets, those of this project first.
pub const VARIABLES: &[Variable] = &[
    ours(
        "THROUGHLINE_ENDPOINT",
        "",
        "URL",
        "where telemetry goes, before any OTEL_EXPORTER_OTLP_ENDPOINT; for functions whose own SDK is pointed at this extension by that",
    ),
    ours(
        "THROUGHLINE_HEADERS",
        "",
        "name=value,…",
        "headers for upstream in place of OTEL_EXPORTER_OTLP_HEADERS; a value may be arn:…:secretsmanager:…#key or ssm:/path",
    ),
    ours(
        "THROUGHLINE_HEADERS_FILE",
        "",
        "path",
        "a file with further headers, name=value, one a line",
    ),
    ours(
        "THROUGHLINE_PROTOCOL",
        "http/protobuf",
        "http/protobuf, grpc",
        "how upstream is spoken to, before OTEL_EXPORTER_OTLP_PROTOCOL",
    ),
    ours(
        "THROUGHLINE_HTTP_PORT",
        "4318",
        "port",
        "where OTLP/HTTP is received, on 127.0.0.1",
    ),
    ours(
        "THROUGHLINE_GRPC_PORT",
        "4317",
        "port",
        "where OTLP/gRPC is received, on 127.0.0.1",
    ),
    ours(
        "THROUGHLINE_FLUSH",
        "end",
        "end, adaptive",
        "end: every invocation ends with a flush; adaptive: beside the next invocation when they come close together",
    ),
    ours(
        "THROUGHLINE_FLUSH_TIMEOUT",
        "1s",
        "duration",
        "the longest that a flush may hold an invocation",
    ),
    ours(
        "THROUGHLINE_BUFFER_BYTES",
        "4MiB",
        "size",
        "the most telemetry that is kept, what is in flight included",
    ),
    ours(
        "THROUGHLINE_LOG_LEVEL",
        "info",
        "trace, debug, info, warn, error, off",
        "the least important log line",
    ),
    ours(
        "THROUGHLINE_TELEMETRY_ADDRESS",
        "what sandbox.localdomain resolves to",
        "IP address",
        "where events of Lambda's Telemetry API are received",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        "URL",
        "where telemetry goes; /v1/traces and so on are appended, but not to a signal's own endpoint",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf",
        "http/protobuf, grpc",
        "how upstream is spoken to",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        "name=value,…",
        "headers for upstream, values percent-encoded",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "none",
        "gzip, none",
        "how bodies for upstream are compressed",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "10000",
        "milliseconds",
        "the longest that one request may take",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "",
        "path",
        "PEM certificates to trust in place of the built-in roots",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "",
        "path",
        "our PEM certificate chain, for mTLS",
    ),
    standard(
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "",
        "path",
        "the PEM key of that certificate",
    ),
    ours(
        "HTTPS_PROXY",
        "",
        "URL",
        "proxy for https endpoints; also in lower case, or ALL_PROXY",
    ),
    ours(
        "HTTP_PROXY",
        "",
        "URL",
        "proxy for http endpoints; also in lower case, or ALL_PROXY",
    ),
    ours(
        "NO_PROXY",
        "",
        "host,…",
        "hosts that are reached without a proxy; also in lower case",
    ),
    ours(
        "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT",
        "2773",
        "port",
        "where AWS's Parameters and Secrets extension listens, when it is there",
    ),
];
