//! Upstream over TLS: both protocols, client certificates, a proxy; certificates are made on the spot.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lambda_emulator::{Certificates, OtlpSink, Sandbox, Timeline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::p3_bounded::{builder, invoke, ledger, shut_down, spans};

const SPANS: &str = r#"{"spans":3}"#;

/// A TLS upstream with the files that a client needs for it.
struct Upstream {
    timeline: Timeline,
    sink: OtlpSink,
    folder: PathBuf,
}

impl Upstream {
    async fn start(name: &str, certificates: Certificates, client_auth: bool) -> Self {
        let timeline = Timeline::new();
        let folder =
            std::env::temp_dir().join(format!("throughline-{name}-{}", std::process::id()));
        certificates.write_to(&folder).unwrap();
        let sink = OtlpSink::start_tls(&timeline, &certificates, client_auth)
            .await
            .unwrap();
        Self {
            timeline,
            sink,
            folder,
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The variables for trusting this upstream, and for showing it who we are.
    fn with_certificates(&self, shown: bool) -> Vec<(&'static str, String)> {
        let mut variables = vec![("OTEL_EXPORTER_OTLP_CERTIFICATE", self.file("authority.pem"))];
        if shown {
            variables.push((
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                self.file("client.pem"),
            ));
            variables.push(("OTEL_EXPORTER_OTLP_CLIENT_KEY", self.file("client-key.pem")));
        }
        variables
    }

    async fn sandbox(&self, variables: Vec<(&'static str, String)>) -> Sandbox {
        // A handshake of a debug build on a loaded machine may take a second.
        let mut builder =
            builder(&self.timeline, &self.sink).extension_env("THROUGHLINE_FLUSH_TIMEOUT", "4s");
        for (name, value) in variables {
            builder = builder.extension_env(name, value);
        }
        builder.start().await.unwrap()
    }

    /// Plays two invocations; every span of each must be upstream before its freeze.
    async fn takes_all(&self, variables: Vec<(&'static str, String)>) {
        let sandbox = self.sandbox(variables).await;
        for number in 1..=2 {
            invoke(&sandbox, SPANS).await;
            let (log, timeline) = (sandbox.log_text(), self.timeline.to_text());
            assert_eq!(self.sink.spans().len(), 3 * number, "{log}\n{timeline}");
        }
        shut_down(&sandbox).await;
        assert_eq!(
            spans(&ledger(&sandbox), "exported"),
            6,
            "{}",
            sandbox.log_text()
        );
    }

    /// Plays two invocations that upstream takes nothing of, and returns the log, which says why once.
    async fn takes_nothing(&self, variables: Vec<(&'static str, String)>) -> String {
        let sandbox = self.sandbox(variables).await;
        invoke(&sandbox, SPANS).await;
        invoke(&sandbox, SPANS).await;
        shut_down(&sandbox).await;
        let log = sandbox.log_text();
        assert_eq!(self.sink.spans().len(), 0, "{log}");
        // Nothing is lost silently: what was received is in one of the columns.
        let ledger = ledger(&sandbox);
        assert_eq!(spans(&ledger, "received"), 6, "{log}");
        assert_eq!(spans(&ledger, "dropped/shutdown"), 6, "{log}");
        log
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn grpc(upstream: &Upstream) -> Vec<(&'static str, String)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.sink.grpc_url()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".into()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".into()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn http_over_tls() {
    let upstream = Upstream::start("https", Certificates::new(), false).await;
    upstream.takes_all(upstream.with_certificates(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_over_tls_with_a_client_certificate() {
    let upstream = Upstream::start("https-client", Certificates::new(), true).await;
    upstream.takes_all(upstream.with_certificates(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_tls_with_a_client_certificate() {
    let upstream = Upstream::start("grpc-client", Certificates::new(), true).await;
    let variables = [upstream.with_certificates(true), grpc(&upstream)].concat();
    upstream.takes_all(variables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_client_certificate_is_named() {
    let upstream = Upstream::start("no-client", Certificates::new(), true).await;
    let log = upstream
        .takes_nothing(upstream.with_certificates(false))
        .await;
    assert!(
        log.contains("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_named() {
    let upstream = Upstream::start("expired", Certificates::expired(), false).await;
    let log = upstream
        .takes_nothing(upstream.with_certificates(false))
        .await;
    assert!(log.contains("has expired"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_named() {
    let upstream = Upstream::start("unknown", Certificates::new(), false).await;
    let log = upstream.takes_nothing(vec![]).await;
    assert!(log.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{log}");
}

/// Upstream by a name that only the proxy can resolve.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_leads_to_both_protocols() {
    let upstream = Upstream::start("proxy", Certificates::new(), true).await;
    let port = |url: String| url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    for (protocol, port) in [
        ("http/protobuf", port(upstream.sink.url())),
        ("grpc", port(upstream.sink.grpc_url())),
    ] {
        let before = upstream.sink.spans().len();
        let (proxy, mut heads) = proxy(SocketAddr::from(([127, 0, 0, 1], port))).await;
        let mut variables = upstream.with_certificates(true);
        variables.extend([
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "https://collector.test:4443".to_owned(),
            ),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("HTTPS_PROXY", format!("http://user:secret@{proxy}")),
            ("NO_PROXY", "169.254.169.254,other.test".to_owned()),
        ]);
        let sandbox = upstream.sandbox(variables).await;
        invoke(&sandbox, SPANS).await;
        shut_down(&sandbox).await;
        assert_eq!(
            upstream.sink.spans().len() - before,
            3,
            "{}",
            sandbox.log_text()
        );
        let head = heads.recv().await.unwrap();
        assert!(
            head.starts_with("CONNECT collector.test:4443 HTTP/1.1\r\n"),
            "{head}"
        );
        // `user:secret` in base64.
        assert!(
            head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
            "{head}"
        );
        assert!(
            !sandbox.log_text().contains("secret"),
            "{}",
            sandbox.log_text()
        );
    }
}

/// A proxy that leads every tunnel to `target`, and reports what it was asked.
async fn proxy(target: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let _ = seen.send(String::from_utf8(head).unwrap());
                let mut upstream = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            });
        }
    });
    (address, heads)
}

/// A header whose value cannot be read keeps everything back, and says so without the function noticing.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_keeps_the_spans() {
    let upstream = Upstream::start("secret", Certificates::new(), false).await;
    let mut variables = upstream.with_certificates(false);
    // Nobody listens on the discard port, neither as Lambda's extension nor as AWS.
    variables.push(("THROUGHLINE_HEADERS", "x-api-key=ssm:/otlp/key".into()));
    variables.push(("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "9".into()));
    variables.push(("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9".into()));
    let log = upstream.takes_nothing(variables).await;
    assert!(log.contains("header x-api-key: ssm:/otlp/key"), "{log}");
}

/// A file of headers reaches upstream.
#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_file_are_sent() {
    let upstream = Upstream::start("file", Certificates::new(), false).await;
    let file = upstream.folder.join("headers");
    std::fs::write(&file, "# ours\nx-api-key = from a file\n").unwrap();
    let mut variables = upstream.with_certificates(false);
    variables.push((
        "THROUGHLINE_HEADERS",
        "x-api-key=from%20a%20variable,x-tenant=t".into(),
    ));
    variables.push(("THROUGHLINE_HEADERS_FILE", file.display().to_string()));
    let sandbox = upstream.sandbox(variables).await;
    invoke(&sandbox, SPANS).await;
    assert!(
        upstream
            .sink
            .wait_for_requests(1, Duration::from_secs(30))
            .await
    );
    let request = &upstream.sink.requests()[0];
    assert_eq!(request.header("x-api-key"), Some("from a file"));
    assert_eq!(request.header("x-tenant"), Some("t"));
    shut_down(&sandbox).await;
    assert!(
        !sandbox.log_text().contains("from a file"),
        "{}",
        sandbox.log_text()
    );
}
