//! TLS for both sides of the sink.

use crate::certificates::Certificates;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{io, sync::Arc};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// For the HTTP side.
pub(super) fn acceptor(certificates: &Certificates, client_auth: bool) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if client_auth {
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(&certificates.authority)?)
            .map_err(io::Error::other)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(certificates.server_key.as_bytes())
        .map_err(io::Error::other)?;
    let config = builder.with_single_cert(vec![certificate(&certificates.server)?], key);
    let mut config = config.map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

fn certificate(pem: &str) -> io::Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)
}

/// For the gRPC side.
pub(super) fn grpc(certificates: &Certificates, client_auth: bool) -> ServerTlsConfig {
    let config = ServerTlsConfig::new().identity(Identity::from_pem(
        &certificates.server,
        &certificates.server_key,
    ));
    match client_auth {
        true => config.client_ca_root(Certificate::from_pem(&certificates.authority)),
        false => config,
    }
}
