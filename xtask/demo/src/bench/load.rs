//! Export requests as fast as the extension takes them, for a bounded number or a bounded time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::otlp;

/// Spans in one request.
pub const SPANS: u64 = 100;
/// Connections side by side.
const CONNECTIONS: u64 = 4;

/// Sends until `requests` were answered on each connection or `most` has passed; gives how many spans were taken.
pub async fn send(port: u16, requests: u64, most: Duration) -> u64 {
    let until = Instant::now() + most;
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|number| tokio::spawn(connection(port, number, requests, until)))
        .collect();
    let mut taken = 0;
    for worker in workers {
        taken += worker.await.unwrap_or(0);
    }
    taken
}

async fn connection(port: u16, number: u64, requests: u64, until: Instant) -> u64 {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return 0;
    };
    let _ = stream.set_nodelay(true);
    let Ok((mut sender, connection)) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await
    else {
        return 0;
    };
    let connection = tokio::spawn(connection);
    // One body for all of them: what is measured must not wait for us.
    let body = Bytes::from(otlp::request(number, 0, SPANS));
    let mut taken = 0;
    for _ in 0..requests {
        if Instant::now() >= until {
            break;
        }
        let request = Request::post("/v1/traces")
            .header("host", "127.0.0.1")
            .header("content-type", "application/x-protobuf")
            .body(Full::new(body.clone()))
            .expect("the parts are fixed");
        let Ok(answer) = sender.send_request(request).await else {
            break;
        };
        let good = answer.status().is_success();
        if answer.into_body().collect().await.is_err() {
            break;
        }
        taken += if good { SPANS } else { 0 };
    }
    connection.abort();
    taken
}
