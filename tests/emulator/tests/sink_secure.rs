//! The sink over gRPC, TLS, client certificates and a proxy.
#![allow(clippy::unwrap_used, reason = "helpers of tests may, too")]

use lambda_emulator::*;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    Code,
    codec::CompressionEncoding,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

const LONG: Duration = Duration::from_secs(30);

fn request(name: &str) -> ExportTraceServiceRequest {
    let spans = vec![Span {
        name: name.into(),
        ..Span::default()
    }];
    let scope_spans = vec![ScopeSpans {
        spans,
        ..ScopeSpans::default()
    }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

async fn channel(
    url: &str,
    tls: Option<ClientTlsConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls)?,
        None => endpoint,
    };
    endpoint.connect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_takes_refuses_and_says_when_to_come_back() {
    let sink = OtlpSink::start().await.unwrap();
    let client = TraceServiceClient::new(channel(&sink.grpc_url(), None).await.unwrap());
    let mut client = client.send_compressed(CompressionEncoding::Gzip);
    sink.script([
        SinkAnswer::Ok,
        SinkAnswer::PartialSuccess {
            rejected: 1,
            message: "no".into(),
        },
        SinkAnswer::retry_after(503, 3),
        SinkAnswer::Grpc {
            code: 8,
            retry_after: None,
        },
        SinkAnswer::Poison("poison".into()),
    ]);
    client.export(request("a")).await.unwrap();
    let partial = client
        .export(request("b"))
        .await
        .unwrap()
        .into_inner()
        .partial_success
        .unwrap();
    assert_eq!(
        (partial.rejected_spans, partial.error_message.as_str()),
        (1, "no")
    );
    let busy = client.export(request("c")).await.unwrap_err();
    assert_eq!(busy.code(), Code::Unavailable);
    // google.rpc.Status { code 14, details [Any { RetryInfo { 3 s } }] }
    assert!(busy.details().windows(9).any(|bytes| bytes == b"RetryInfo"));
    assert!(
        busy.details().ends_with(&[0x0a, 0x02, 0x08, 0x03]),
        "{:?}",
        busy.details()
    );
    let full = client.export(request("d")).await.unwrap_err();
    assert_eq!(
        (full.code(), full.details()),
        (Code::ResourceExhausted, &[][..])
    );
    assert_eq!(
        client.export(request("poison")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    sink.set_default(SinkAnswer::Hang);
    let mut hanging = tonic::Request::new(request("e"));
    hanging.set_timeout(Duration::from_millis(50));
    client.export(hanging).await.unwrap_err();
    assert_eq!(sink.spans().len(), 1);
    assert_eq!(sink.arrived_spans().len(), 6);
    assert_eq!(sink.requests()[0].path, "grpc:traces");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_client_certificates() {
    let certificates = Certificates::new();
    let identity = || Identity::from_pem(&certificates.client, &certificates.client_key);
    let trust =
        || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&certificates.authority));
    for (client_auth, tls, works) in [
        (false, Some(trust()), true),
        (false, Some(ClientTlsConfig::new()), false),
        (true, Some(trust().identity(identity())), true),
        (true, Some(trust()), false),
    ] {
        let sink = OtlpSink::start_tls(&Timeline::new(), &certificates, client_auth)
            .await
            .unwrap();
        let sent = async {
            let mut client = TraceServiceClient::new(channel(&sink.grpc_url(), tls).await.ok()?);
            client.export(request("a")).await.ok()
        };
        assert_eq!(
            sent.await.is_some(),
            works,
            "gRPC, client_auth {client_auth}"
        );
        assert_eq!(
            post(&sink, &certificates, works && client_auth, None)
                .await
                .is_some(),
            works || !client_auth
        );
        let spans = usize::from(works) + usize::from(works || !client_auth);
        assert_eq!(sink.wait_for_spans(spans, LONG).await.unwrap().len(), spans);
    }
    let expired = Certificates::expired();
    let sink = OtlpSink::start_tls(&Timeline::new(), &expired, false)
        .await
        .unwrap();
    assert!(
        post(&sink, &expired, false, None).await.is_none(),
        "out of date"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_counts_its_tunnels() {
    let certificates = Certificates::new();
    let sink = OtlpSink::start_tls(&Timeline::new(), &certificates, false)
        .await
        .unwrap();
    let proxy = ConnectProxy::start().await.unwrap();
    assert!(
        post(&sink, &certificates, false, Some(&proxy))
            .await
            .is_some()
    );
    let target = sink.address().to_string();
    assert_eq!(
        proxy.tunnels(),
        [Tunnel {
            target,
            authorization: Some("Basic eDp5".into())
        }]
    );
    assert_eq!(sink.spans().len(), 1);
}

/// One export over HTTPS, `None` when TLS fails.
async fn post(
    sink: &OtlpSink,
    trusted: &Certificates,
    identity: bool,
    proxy: Option<&ConnectProxy>,
) -> Option<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(trusted.authority.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(roots);
    let config = if identity {
        let key = PrivateKeyDer::from_pem_slice(trusted.client_key.as_bytes()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(trusted.client.as_bytes()).unwrap()];
        config.with_client_auth_cert(chain, key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    let mut stream = match proxy {
        None => TcpStream::connect(sink.address()).await.unwrap(),
        Some(proxy) => {
            let mut stream = TcpStream::connect(proxy.url().trim_start_matches("http://"))
                .await
                .unwrap();
            let target = sink.address();
            let head = format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream
        }
    };
    if proxy.is_some() {
        let mut answer = [0; "HTTP/1.1 200 Connection established\r\n\r\n".len()];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await
        .ok()?;
    let body = request("https").encode_to_vec();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream
        .write_all(&[head.as_bytes(), &body].concat())
        .await
        .ok()?;
    let mut answer = Vec::new();
    // The sink closes without a TLS farewell, as many servers do.
    let _ = stream.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200").then_some(())
}
