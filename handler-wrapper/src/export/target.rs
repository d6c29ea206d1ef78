//! An endpoint, as configured.

use std::fmt;

use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Where to send, and with which headers.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// What the configured endpoint has before `/v1/…`, without a slash at its end.
    base: String,
    /// The whole path for traces, when the signal's own variable named it.
    traces: Option<String>,
    pub(super) tls: bool,
    pub(super) headers: HeaderMap,
    /// Certificates that are trusted instead of the public ones.
    #[cfg(feature = "tls")]
    roots: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// An endpoint that cannot be used, and why.
#[derive(Debug)]
pub(crate) struct TargetError(pub(crate) String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Target ===

impl Target {
    /// The extension's receiver in this sandbox.
    pub(crate) fn loopback(port: u16) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            base: String::new(),
            traces: None,
            tls: false,
            headers: HeaderMap::new(),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        }
    }

    /// An OTLP/HTTP endpoint; `/v1/traces` is put after its path.
    pub(crate) fn endpoint(url: &str) -> Result<Self, TargetError> {
        let bad = |what: &str| TargetError(format!("`{url}` {what}"));
        let uri: Uri = url.trim().parse().map_err(|_| bad("is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "tls") => true,
            Some("https") => {
                return Err(bad(
                    "is https, which needs the feature `tls` of the crate `throughline`, or the extension",
                ));
            }
            _ => return Err(bad("does not begin with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| bad("has no host"))?;
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            base: uri.path().trim_end_matches('/').to_owned(),
            traces: None,
            tls,
            headers: HeaderMap::new(),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        })
    }

    /// A signal's own endpoint, which is used as it is.
    pub(crate) fn signal_endpoint(url: &str) -> Result<Self, TargetError> {
        let mut target = Self::endpoint(url)?;
        let path = if target.base.is_empty() {
            "/"
        } else {
            &target.base
        };
        target.traces = Some(path.to_owned());
        target.base = String::new();
        Ok(target)
    }

    /// Adds `key=value,key=value` as `OTEL_EXPORTER_OTLP_HEADERS` has it, percent-encoded.
    ///
    /// Returns how many entries could not be used; they are not quoted, since they may be secrets.
    pub(crate) fn add_headers(&mut self, list: &str) -> usize {
        let mut bad = 0;
        for entry in list
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let header = entry.split_once('=').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                let mut value = HeaderValue::from_bytes(&percent_decode(value.trim())).ok()?;
                value.set_sensitive(true);
                Some((name, value))
            });
            match header {
                Some((name, value)) => {
                    self.headers.insert(name, value);
                }
                None => bad += 1,
            }
        }
        bad
    }

    /// Trusts the certificates of a PEM file, as `OTEL_EXPORTER_OTLP_CERTIFICATE` names one.
    ///
    /// Returns how many there are.
    #[cfg(feature = "tls")]
    pub(crate) fn trust(&mut self, pem: &[u8]) -> usize {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        self.roots = CertificateDer::pem_slice_iter(pem)
            .filter_map(Result::ok)
            .collect();
        self.roots.len()
    }

    #[cfg(feature = "tls")]
    pub(super) fn tls_config(&self) -> std::sync::Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        if self.roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        roots.add_parsable_certificates(self.roots.iter().cloned());
        // Named here, and not the process's default: another crate may bring a second provider,
        // and then there is no default.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the ciphers of the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        std::sync::Arc::new(config)
    }

    /// Host, port and the path that requests of this signal go to.
    #[cfg(all(test, feature = "metrics"))]
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}:{}{}", self.host, self.port, self.path(path))
    }

    pub(super) fn path(&self, path: &str) -> String {
        match &self.traces {
            Some(whole) => whole.clone(),
            None => format!("{}{path}", self.base),
        }
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => {
                decoded.push(byte);
                i += 3;
            }
            None => {
                decoded.push(bytes[i]);
                i += 1;
            }
        }
    }
    decoded
}
