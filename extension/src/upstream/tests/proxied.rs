//! Upstream through a proxy.

use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::Server;

use super::grpc::{accepted_by_tonic, collect, grpc_to, spans};
use super::*;

/// A proxy that leads every tunnel to `target`, wherever it was asked for; answers `refusal` when there is one.
async fn proxy(
    target: String,
    refusal: Option<&'static str>,
) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (seen, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (target, seen) = (target.clone(), seen.clone());
            tokio::spawn(async move {
                let (head, _) = read_request(&mut stream).await.unwrap();
                let _ = seen.send(head);
                if let Some(refusal) = refusal {
                    let _ = stream.write_all(refusal.as_bytes()).await;
                    return;
                }
                let mut upstream = TcpStream::connect(target).await.unwrap();
                stream
                    .write_all(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n")
                    .await
                    .unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
            });
        }
    });
    (address, heads)
}

fn through(proxy: &str, destination: Destination) -> Upstream {
    Upstream::new(UpstreamSettings {
        destinations: [Some(destination), None, None],
        proxy: ProxySettings {
            https: Some(format!("http://user:p%40ss@{proxy}")),
            http: Some(format!("http://user:p%40ss@{proxy}")),
            no: None,
        },
        ..UpstreamSettings::default()
    })
}

/// `user:p@ss` in base64, in the lower case of a head as it is read here.
const CREDENTIALS: &str = "proxy-authorization: basic dxnlcjpwqhnz\r\n";

#[tokio::test]
async fn plain_http_is_forwarded() {
    let (proxy, mut requests) = serve(vec![Act::Answer(OK); 2]).await;
    let proxy = proxy
        .trim_start_matches("http://")
        .trim_end_matches("/v1/traces")
        .to_owned();
    let upstream = through(&proxy, destination("http://collector.test:4318/v1/traces"));
    for _ in 0..2 {
        assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
        let seen = requests.recv().await.unwrap();
        let first = "post http://collector.test:4318/v1/traces http/1.1\r\n";
        assert!(seen.head.starts_with(first), "{}", seen.head);
        assert!(
            seen.head.contains("host: collector.test:4318\r\n"),
            "{}",
            seen.head
        );
        assert!(seen.head.contains(CREDENTIALS), "{}", seen.head);
        assert_eq!(
            (seen.connection, seen.body.as_slice()),
            (0, b"abcde".as_slice())
        );
    }
}

#[tokio::test]
async fn grpc_goes_through_a_tunnel() {
    let (address, mut requests) = collect(Server::builder(), accepted_by_tonic).await;
    let (proxy, mut heads) = proxy(address.to_string(), None).await;
    let upstream = through(&proxy, grpc_to("http://collector.test:4317"));
    let sent = spans(&["a"]);
    assert_eq!(
        upstream
            .send(Signal::Traces, vec![sent.encode_to_vec().into()])
            .await,
        accepted()
    );
    assert_eq!(requests.recv().await.unwrap().0, sent);
    let head = heads.recv().await.unwrap();
    assert!(
        head.starts_with("connect collector.test:4317 http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(CREDENTIALS), "{head}");
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let (files, authority) = (tls::Files::new("proxy"), tls::Authority::new());
    let (url, mut requests) = tls::serve_tls(&authority.sign("collector.test"), None).await;
    let (proxy, mut heads) =
        proxy(url.replace("https://", "").replace("/v1/traces", ""), None).await;
    let ca = files.put("ca.pem", &authority.certificate);
    let upstream = through(
        &proxy,
        tls::trusting("https://collector.test/v1/traces", &ca),
    );
    assert_eq!(upstream.send(Signal::Traces, chunks()).await, accepted());
    let seen = requests.recv().await.unwrap();
    assert!(
        seen.head.contains("host: collector.test\r\n"),
        "{}",
        seen.head
    );
    assert!(!seen.head.contains("proxy-authorization"), "{}", seen.head);
    assert!(
        heads
            .recv()
            .await
            .unwrap()
            .starts_with("connect collector.test:443 http/1.1\r\n")
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_is_said() {
    for (refusal, reason) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "credentials",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway"),
        ("SSH-2.0-x\r\n\r\n", "SSH"),
        ("HTTP/1.1 200", "broke off"),
    ] {
        let (proxy, _heads) = proxy(String::new(), Some(refusal)).await;
        let outcome = through(&proxy, destination("https://collector.test/"))
            .send(Signal::Traces, chunks())
            .await;
        let Outcome::Unreachable { why } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(why.contains(reason) && !why.contains("p@ss"), "{why}");
    }
}
