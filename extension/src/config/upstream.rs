//! Where upstream is: the standard `OTEL_EXPORTER_OTLP_*` variables and what overrides them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::text::{Reader, percent_decoded};
use crate::otlp::Signal;
use crate::upstream::{
    Compression, Destination, Endpoint, HeaderSource, Protocol, ProxySettings, TlsFiles,
    UpstreamSettings,
};

/// What the sandbox tells about AWS, for reading header secrets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct AwsSettings {
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<String>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
    /// `PARAMETERS_SECRETS_EXTENSION_HTTP_PORT`: where AWS's own secrets extension listens, 2773 by default.
    pub secrets_extension_port: u16,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, else `AWS_ENDPOINT_URL`.
    pub secrets_manager_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL_SSM`, else `AWS_ENDPOINT_URL`.
    pub ssm_endpoint: Option<String>,
}

type Headers = Vec<(String, HeaderSource)>;

/// OTLP Exporter, "Configuration Options": the default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that belong to the connection or the body, which a user cannot set.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn read(reader: &mut Reader<'_>, own_ports: &[u16]) -> UpstreamSettings {
    let path = |name: &str| reader.text(name).map(PathBuf::from);
    let headers_file = path("THROUGHLINE_HEADERS_FILE");
    let shared_headers = shared_headers(reader);
    let destinations =
        Signal::ALL.map(|signal| destination(reader, signal, own_ports, shared_headers.as_deref()));
    if destinations.iter().all(Option::is_none) {
        let text = "is not set, nor is THROUGHLINE_ENDPOINT: spans are received and counted, and go nowhere";
        if reader.text("OTEL_EXPORTER_OTLP_ENDPOINT").is_none()
            && reader.text("THROUGHLINE_ENDPOINT").is_none()
        {
            reader.mistake("OTEL_EXPORTER_OTLP_ENDPOINT", text);
        }
    }
    UpstreamSettings {
        destinations,
        headers_file,
        proxy: proxy(reader),
        aws: aws(reader),
    }
}

/// `OTEL_EXPORTER_OTLP_TRACES_X` before `OTEL_EXPORTER_OTLP_X`: the name of the one that is set.
fn name_for(reader: &Reader<'_>, signal: Signal, what: &str) -> String {
    let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", variable_part(signal));
    if reader.text(&own).is_some() {
        own
    } else {
        format!("OTEL_EXPORTER_OTLP_{what}")
    }
}

fn variable_part(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "TRACES",
        Signal::Metrics => "METRICS",
        Signal::Logs => "LOGS",
    }
}

fn destination(
    reader: &mut Reader<'_>,
    signal: Signal,
    own_ports: &[u16],
    shared: Option<&[(String, HeaderSource)]>,
) -> Option<Destination> {
    let mut protocol = Protocol::default();
    let protocol_name = if reader.text("THROUGHLINE_PROTOCOL").is_some() {
        "THROUGHLINE_PROTOCOL".to_owned()
    } else {
        name_for(reader, signal, "PROTOCOL")
    };
    match reader.text(&protocol_name) {
        Some("http/json") => once(
            reader,
            &protocol_name,
            "=\"http/json\" is only received, not sent; http/protobuf is sent, which every OTLP server must take",
        ),
        Some("grpc") => protocol = Protocol::Grpc,
        None | Some("http/protobuf") => {}
        Some(other) => {
            let text = format!("={other:?} is none of http/protobuf, grpc; http/protobuf is used");
            once(reader, &protocol_name, &text);
        }
    }
    let file = |what: &str| {
        reader
            .text(&name_for(reader, signal, what))
            .map(PathBuf::from)
    };
    let tls = TlsFiles {
        ca: file("CERTIFICATE"),
        client_certificate: file("CLIENT_CERTIFICATE"),
        client_key: file("CLIENT_KEY"),
    };
    if tls.client_certificate.is_some() != tls.client_key.is_some() {
        once(
            reader,
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "and OTEL_EXPORTER_OTLP_CLIENT_KEY are needed together; no client certificate is shown",
        );
    }
    let headers = shared.map_or_else(|| signal_headers(reader, signal), <[_]>::to_vec);
    let compression = compression(reader, signal);
    let timeout = timeout(reader, signal);
    let endpoint = endpoint(reader, signal, protocol, own_ports)?;
    Some(Destination {
        endpoint,
        protocol,
        headers,
        compression,
        timeout,
        tls,
    })
}

/// A mistake of a variable shared by all signals is said once.
fn once(reader: &mut Reader<'_>, name: &str, text: &str) {
    if !reader.has_mistake(name, text) {
        reader.mistake(name, text);
    }
}

fn compression(reader: &mut Reader<'_>, signal: Signal) -> Compression {
    let name = name_for(reader, signal, "COMPRESSION");
    match reader.text(&name) {
        Some("gzip") => Compression::Gzip,
        None | Some("none") => Compression::None,
        Some(other) => {
            once(
                reader,
                &name,
                &format!("={other:?} is none of gzip, none; bodies are sent uncompressed"),
            );
            Compression::None
        }
    }
}

// OTLP Exporter, "Configuration Options": a number of milliseconds.
fn timeout(reader: &mut Reader<'_>, signal: Signal) -> Duration {
    let name = name_for(reader, signal, "TIMEOUT");
    let Some(text) = reader.text(&name) else {
        return TIMEOUT;
    };
    match text.parse() {
        Ok(millis @ 1..=600_000) => Duration::from_millis(millis),
        _ => {
            once(
                reader,
                &name,
                &format!(
                    "={text:?} is not a number of milliseconds from 1 to 600000; 10 s is used"
                ),
            );
            TIMEOUT
        }
    }
}

/// The first usable of THROUGHLINE_ENDPOINT, the signal's own endpoint and the general one.
fn endpoint(
    reader: &mut Reader<'_>,
    signal: Signal,
    protocol: Protocol,
    own_ports: &[u16],
) -> Option<Endpoint> {
    let own_name = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", variable_part(signal));
    let candidates = [
        ("THROUGHLINE_ENDPOINT", true),
        (own_name.as_str(), false),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", true),
    ];
    let mut refused = None;
    for (name, is_base) in candidates {
        let Some(text) = reader.text(name) else {
            continue;
        };
        match parse_endpoint(text, is_base.then_some(signal), protocol) {
            Ok(endpoint) if is_own_receiver(&endpoint, own_ports) => {
                refused = refused.or(Some(name.to_owned()));
            }
            Ok(endpoint) => return Some(endpoint),
            Err(why) => once(reader, name, &why),
        }
    }
    if let Some(name) = refused {
        once(
            reader,
            &name,
            "names this extension's own receiver; set THROUGHLINE_ENDPOINT to where the spans shall go",
        );
    }
    None
}

/// `base` is the signal whose path is appended.
// OTLP Exporter, "Endpoint URLs for OTLP/HTTP": the general endpoint is a base that gets `v1/traces` appended,
// a signal's own endpoint is used as it stands, `/` when it has no path.
fn parse_endpoint(
    text: &str,
    base: Option<Signal>,
    protocol: Protocol,
) -> Result<Endpoint, String> {
    let mut endpoint = Endpoint::parse(text).map_err(|why| format!("{why}; it is not used"))?;
    if protocol == Protocol::Grpc {
        endpoint.path = "/".into();
    } else if let Some(signal) = base {
        let (path, query) = match endpoint.path.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (endpoint.path.as_str(), String::new()),
        };
        endpoint.path = format!("{}{}{query}", path.trim_end_matches('/'), signal.path());
    }
    Ok(endpoint)
}

fn is_own_receiver(endpoint: &Endpoint, own_ports: &[u16]) -> bool {
    let unspecified = endpoint.ip().is_some_and(|ip| ip.is_unspecified());
    (endpoint.is_loopback() || unspecified) && own_ports.contains(&endpoint.port)
}

fn shared_headers(reader: &mut Reader<'_>) -> Option<Headers> {
    let text = reader.text("THROUGHLINE_HEADERS")?;
    let (headers, wrong) = parse_headers(text, true);
    for text in wrong {
        once(reader, "THROUGHLINE_HEADERS", &text);
    }
    Some(headers)
}

fn signal_headers(reader: &mut Reader<'_>, signal: Signal) -> Headers {
    let name = name_for(reader, signal, "HEADERS");
    let Some(text) = reader.text(&name) else {
        return Vec::new();
    };
    let (headers, wrong) = parse_headers(text, false);
    for text in wrong {
        once(reader, &name, &text);
    }
    headers
}

/// `name=value,name=value`, values percent-decoded. What is wrong names the entry's position, never its text:
/// a header list with a comma in the wrong place has a token where a name should be.
// OTLP Exporter, "Specifying headers via environment variables": the format of W3C Baggage without properties.
fn parse_headers(text: &str, secrets: bool) -> (Headers, Vec<String>) {
    let mut headers = Headers::new();
    let mut wrong = Vec::new();
    for (index, entry) in text
        .split(',')
        .enumerate()
        .filter(|(_, entry)| !entry.trim().is_empty())
    {
        match parse_header(entry, secrets) {
            Ok(header) => {
                headers.retain(|earlier| earlier.0 != header.0);
                headers.push(header);
            }
            Err(why) => wrong.push(format!("entry {}: {why}; it is left out", index + 1)),
        }
    }
    (headers, wrong)
}

fn parse_header(entry: &str, secrets: bool) -> Result<(String, HeaderSource), &'static str> {
    let (name, value) = entry
        .split_once('=')
        .ok_or("has no `=` between name and value")?;
    let name = percent_decoded(name.trim()).ok_or("has a `%` that starts no escape")?;
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "has a name that is no HTTP header name")?;
    if RESERVED.contains(&name.as_str()) {
        return Err("names a header that belongs to the connection");
    }
    let value =
        percent_decoded(value.trim()).ok_or("has a `%` that starts no escape, or is not UTF-8")?;
    HeaderValue::from_str(&value)
        .map_err(|_| "has a value with characters that no header may hold")?;
    let secret = secrets && (value.starts_with("ssm:") || is_secret_arn(&value));
    let value = if secret {
        HeaderSource::Secret(value)
    } else {
        HeaderSource::Literal(value)
    };
    Ok((name.as_str().to_owned(), value))
}

fn is_secret_arn(value: &str) -> bool {
    value.starts_with("arn:") && value.contains(":secretsmanager:")
}

fn proxy(reader: &Reader<'_>) -> ProxySettings {
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| reader.text(name))
            .map(str::to_owned)
    };
    ProxySettings {
        https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        // Upper case would be a request header of that name in a CGI program, but there is none here.
        http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
        no: first(&["no_proxy", "NO_PROXY"]),
    }
}

fn aws(reader: &mut Reader<'_>) -> AwsSettings {
    let secrets_extension_port = reader.port("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", 2773);
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| reader.text(name))
            .map(str::to_owned)
    };
    AwsSettings {
        region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
        access_key_id: first(&["AWS_ACCESS_KEY_ID"]),
        secret_access_key: first(&["AWS_SECRET_ACCESS_KEY"]),
        session_token: first(&["AWS_SESSION_TOKEN"]),
        secrets_extension_port,
        secrets_manager_endpoint: first(&["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"]),
        ssm_endpoint: first(&["AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"]),
    }
}

// === impl AwsSettings ===

impl fmt::Debug for AwsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsSettings")
            .field("region", &self.region)
            .field("credentials", &self.access_key_id.is_some())
            .finish_non_exhaustive()
    }
}
