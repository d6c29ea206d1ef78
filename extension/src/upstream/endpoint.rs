//! An endpoint's URL, taken apart.

use std::fmt;
use std::net::IpAddr;

/// How OTLP is spoken to upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `http/protobuf`: the default of the OTLP exporter specification.
    #[default]
    HttpProtobuf,
    /// `grpc`.
    Grpc,
}

/// Scheme, host, port and path of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port; the scheme's own when the URL has none.
    pub port: u16,
    /// Path and query, starting with `/`.
    pub path: String,
}

/// Why a URL is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError(&'static str);

// === impl Endpoint ===

impl Endpoint {
    /// Reads `http://host:port/path` or `https://…`; the port defaults to 80 or 443, the path to `/`.
    ///
    /// # Errors
    /// Another scheme or none, no host, a port that is none, or a user name (credentials belong into headers).
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or(EndpointError("has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(EndpointError("is neither http:// nor https://")),
        };
        let uri: http::Uri = format!("http://{rest}")
            .parse()
            .map_err(|_| EndpointError("is not a URL"))?;
        let authority = uri.authority().ok_or(EndpointError("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(EndpointError(
                "has credentials in it, which belong into the headers",
            ));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(EndpointError("has no host"));
        }
        if authority.port_u16().is_none() && authority.as_str().len() != authority.host().len() {
            return Err(EndpointError(
                "has a port that is no number from 0 to 65535",
            ));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The host as an address, when it is one: such an endpoint needs no resolver (and no second thread).
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// `host:port` as it stands in a `Host` header: brackets around IPv6, no port where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        let host = self.bracketed();
        if self.port == own {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// `host:port` with the port in any case, as CONNECT wants it.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

// === impl EndpointError ===

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for EndpointError {}
