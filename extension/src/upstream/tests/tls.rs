//! Upstream over TLS, with certificates made on the spot.

use std::path::Path;

use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::grpc::{accepted_by_tonic, collect, grpc_to, spans};
use super::*;

/// A certificate with its key, in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Tells authorities apart: two of one name but different keys are another mistake than an unknown one.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// An authority that signs for these tests.
pub(super) struct Authority {
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CommonName,
            format!("authority {}", NUMBER.fetch_add(1, Ordering::SeqCst)),
        );
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn sign(&self, host: &str) -> Pair {
        self.sign_with(host, |_| {})
    }

    pub(super) fn sign_with(
        &self,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    }
}

/// A folder for PEM files that goes when it is dropped.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(test: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("throughline-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves OTLP/HTTP over TLS; `clients` is the authority that clients must be signed by.
pub(super) async fn serve_tls(
    pair: &Pair,
    clients: Option<&Authority>,
) -> (String, mpsc::UnboundedReceiver<Seen>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}/v1/traces",
        listener.local_addr().unwrap().port()
    );
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    accept_all(stream, connection, seen).await;
                }
            });
        }
    });
    (url, requests)
}

pub(super) fn trusting(url: &str, ca: &Path) -> Destination {
    let tls = TlsFiles {
        ca: Some(ca.to_owned()),
        ..TlsFiles::default()
    };
    Destination {
        tls,
        ..destination(url)
    }
}

async fn why(destination: Destination) -> String {
    let upstream = traces_to(destination);
    upstream.warm(Signal::Traces).await;
    match upstream.send(Signal::Traces, chunks()).await {
        Outcome::Unreachable { why } => why,
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn https_with_an_authority_of_ones_own() {
    let (files, authority) = (Files::new("ca"), Authority::new());
    let (url, mut requests) = serve_tls(&authority.sign("localhost"), None).await;
    let ca = files.put("ca.pem", &authority.certificate);
    let upstream = traces_to(trusting(&url, &ca));
    upstream.warm(Signal::Traces).await;
    for _ in 0..2 {
        assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
        let seen = requests.recv().await.unwrap();
        assert_eq!(
            (seen.connection, seen.body.as_slice()),
            (0, b"abcde".as_slice())
        );
    }
    // An address is a name too, when the certificate has it.
    let (url, _requests) = serve_tls(&authority.sign("127.0.0.1"), None).await;
    let upstream = traces_to(trusting(&url.replace("localhost", "127.0.0.1"), &ca));
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
}

#[tokio::test]
async fn a_bad_certificate_is_said_in_words() {
    let (files, authority) = (Files::new("bad"), Authority::new());
    let ca = files.put("ca.pem", &authority.certificate);
    let expired = authority.sign_with("localhost", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let early = authority.sign_with("localhost", |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let good = authority.sign("localhost");
    let table = [
        (&expired, Some(&ca), "expired"),
        (&early, Some(&ca), "not valid yet"),
        (&authority.sign("elsewhere"), Some(&ca), "not for localhost"),
        (&good, None, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
    ];
    for (pair, ca, reason) in table {
        let (url, _requests) = serve_tls(pair, None).await;
        let tls = TlsFiles {
            ca: ca.cloned(),
            ..TlsFiles::default()
        };
        let why = why(Destination {
            tls,
            ..destination(&url)
        })
        .await;
        assert!(
            why.contains(reason) && why.contains("localhost"),
            "{reason}: {why}"
        );
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let (files, authority) = (Files::new("client"), Authority::new());
    let ca = files.put("ca.pem", &authority.certificate);
    let (url, mut requests) = serve_tls(&authority.sign("localhost"), Some(&authority)).await;
    let with = |pair: &Pair| {
        let client_certificate = Some(files.put("client.pem", &pair.certificate));
        let client_key = Some(files.put("client.key", &pair.key));
        let tls = TlsFiles {
            ca: Some(ca.clone()),
            client_certificate,
            client_key,
        };
        Destination {
            tls,
            ..destination(&url)
        }
    };
    let upstream = traces_to(with(&authority.sign("client")));
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    assert_eq!(requests.recv().await.unwrap().body, b"abcde");
    for destination in [trusting(&url, &ca), with(&Authority::new().sign("client"))] {
        let why = why(destination).await;
        assert!(
            why.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn files_that_are_missing_or_something_else_are_named() {
    let files = Files::new("files");
    let (absent, text) = (files.0.join("absent"), files.put("text", "no PEM"));
    let good = Authority::new().sign("client");
    let certificate = files.put("good.pem", &good.certificate);
    let url = "https://localhost:1/";
    for (ca, client_certificate, client_key, named) in [
        (Some(&absent), None, None, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        (Some(&text), None, None, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        (
            None,
            Some(&text),
            Some(&text),
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ),
        (
            None,
            Some(&certificate),
            Some(&absent),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
        (
            None,
            Some(&certificate),
            Some(&certificate),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ),
    ] {
        let tls = TlsFiles {
            ca: ca.cloned(),
            client_certificate: client_certificate.cloned(),
            client_key: client_key.cloned(),
        };
        let why = crate::upstream::tls::config(&tls, Protocol::HttpProtobuf).unwrap_err();
        assert!(why.contains(named), "{url} {why}");
    }
}

#[tokio::test]
async fn servers_without_tls_are_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let outcome = why(destination(&url)).await;
    assert!(outcome.contains("http://"), "{outcome}");
}

#[tokio::test]
async fn grpc_over_tls_with_a_client_certificate() {
    let (files, authority) = (Files::new("grpc"), Authority::new());
    let (pair, client) = (authority.sign("localhost"), authority.sign("client"));
    let server = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pair.certificate, &pair.key))
        .client_ca_root(tonic::transport::Certificate::from_pem(
            &authority.certificate,
        ));
    let server = Server::builder().tls_config(server).unwrap();
    let (address, mut requests) = collect(server, accepted_by_tonic).await;
    let tls = TlsFiles {
        ca: Some(files.put("ca.pem", &authority.certificate)),
        client_certificate: Some(files.put("client.pem", &client.certificate)),
        client_key: Some(files.put("client.key", &client.key)),
    };
    let url = format!("https://localhost:{}", address.port());
    let upstream = traces_to(Destination {
        tls: tls.clone(),
        ..grpc_to(&url)
    });
    let sent = spans(&["a"]);
    let chunks = vec![Bytes::from(sent.encode_to_vec())];
    assert_eq!(upstream.send(Signal::Traces, chunks).await, accepted());
    assert_eq!(requests.recv().await.unwrap().0, sent);
    let tls = TlsFiles {
        client_certificate: None,
        client_key: None,
        ..tls
    };
    let why = why(Destination {
        tls,
        ..grpc_to(&url)
    })
    .await;
    assert!(
        why.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        "{why}"
    );
}
