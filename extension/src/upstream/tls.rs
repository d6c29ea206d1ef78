//! TLS to upstream: rustls with ring, the public authorities compiled in, or files of the user's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::connect::Stream;
use super::{Protocol, TlsFiles};

/// Sessions that are kept for resumption.
/// Chosen, because one route leads to one server; TLS 1.3 uses each ticket once and servers send two or more.
const SESSIONS_MAX: usize = 8;

/// Sets TLS up for one route. Done at its first connection, so that it costs nothing before the first `/next`.
///
/// # Errors
/// A file that cannot be read or holds something else; the variable that names it is said.
pub(super) fn config(files: &TlsFiles, protocol: Protocol) -> Result<Arc<ClientConfig>, String> {
    // Passed explicitly: with two providers in the tree rustls would refuse to choose, by a panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(files.ca.as_deref())?);
    let mut config = match (&files.client_certificate, &files.client_key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(chain(CLIENT_CERTIFICATE, certificate)?, private_key(key)?)
            .map_err(|error| format!("{CLIENT_CERTIFICATE} and {CLIENT_KEY}: {error}"))?,
        _ => builder.with_no_client_auth(),
    };
    // Both are offered by name; a gRPC server that is offered nothing does not speak HTTP/2 over TLS.
    config.alpn_protocols = vec![alpn(protocol).to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// Encrypts a stream to `host`, which the server's certificate must name.
///
/// # Errors
/// Why the handshake failed, in words that say what to change where that is known.
pub(super) async fn wrap(
    stream: Stream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<Stream, String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host} is no name that a certificate can have"))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| explain(&error, host))?;
    Ok(Stream::new(stream))
}

const CA: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const CLIENT_KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::HttpProtobuf => b"http/1.1",
        Protocol::Grpc => b"h2",
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let Some(path) = ca else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let mut roots = RootCertStore::empty();
    for certificate in chain(CA, path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{CA}: {}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// The certificates of a PEM file, at least one.
fn chain(variable: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{variable}: {}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
    let certificates: Vec<_> = certificates
        .collect::<Result<_, _>>()
        .map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        Err(failed(&"no PEM certificate in it"))
    } else {
        Ok(certificates)
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| format!("{CLIENT_KEY}: {}: {error}", path.display()))
}

/// The rustls error inside an I/O error, when there is one.
fn inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn explain(error: &io::Error, host: &str) -> String {
    let Some(tls) = inside(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                format!("{host} closed the connection during the TLS handshake; does it speak TLS?")
            }
            _ => format!("the TLS handshake with {host} failed: {error}"),
        };
    };
    explain_tls(tls, host)
}

/// Says what a TLS error means for whoever set the endpoint.
fn explain_tls(error: &rustls::Error, host: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => certificate(reason, host),
        rustls::Error::InvalidMessage(_) => {
            format!(
                "{host} answered the TLS handshake with something else; is it an http:// endpoint?"
            )
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            format!(
                "{host} does not speak the protocol over TLS that THROUGHLINE_PROTOCOL asks for"
            )
        }
        other => refused_certificate(&other.to_string(), host)
            .unwrap_or_else(|| format!("the TLS handshake with {host} failed: {other}")),
    }
}

/// Says that the server wants another client certificate, when that is what an error's text means.
///
/// With TLS 1.3 this alert comes after the handshake, in place of an answer; the request has not been read then.
/// It is known by its text, because HTTP/2 passes on no more of an I/O error.
pub(super) fn refused_certificate(error: &str, host: &str) -> Option<String> {
    /// The alerts about a client's certificate (RFC 8446, 6.2), as rustls writes them.
    const ALERTS: [&str; 9] = [
        "CertificateRequired",
        "BadCertificate",
        "CertificateUnknown",
        "CertificateExpired",
        "CertificateRevoked",
        "UnsupportedCertificate",
        "UnknownCA",
        "AccessDenied",
        "DecryptError",
    ];
    let (_, alert) = error.split_once("received fatal alert: ")?;
    let alert = ALERTS.into_iter().find(|name| alert.starts_with(name))?;
    Some(format!(
        "{host} did not take our client certificate ({alert}); see {CLIENT_CERTIFICATE}"
    ))
}

fn certificate(reason: &CertificateError, host: &str) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {host} has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {host} is not valid yet")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate that came is not for {host}")
        }
        CertificateError::UnknownIssuer => format!(
            "the certificate of {host} is not signed by an authority that is trusted here; {CA} names a file of others"
        ),
        other => format!("the certificate of {host} is not accepted: {other}"),
    }
}
