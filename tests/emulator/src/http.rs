//! The small HTTP server under the Lambda APIs and the SQS endpoint.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// A request with its body read whole.
pub(crate) type Call = Request<Bytes>;

/// Longest body that is read: above the 6 MB of Lambda's payloads, so that the rules above can refuse.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A server on a loopback port; dropping it closes the port and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves HTTP/1.1 on a free loopback port. A client that goes away drops its `answer` future.
pub(crate) async fn serve<F, Fut>(answer: F) -> io::Result<Server>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(accept(listener, Arc::new(answer)));
    Ok(Server { address, task })
}

async fn accept<F, Fut>(listener: TcpListener, answer: Arc<F>)
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(whole(request, &*answer).await) }
        });
        connections.spawn(async move {
            // A client that breaks its connection is its own business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn whole<F, Fut>(request: Request<Incoming>, answer: &F) -> Response<Full<Bytes>>
where
    F: Fn(Call) -> Fut,
    Fut: Future<Output = Response<Full<Bytes>>>,
{
    let (head, body) = request.into_parts();
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => answer(Request::from_parts(head, body.to_bytes())).await,
        Err(_) => json(
            StatusCode::PAYLOAD_TOO_LARGE,
            &serde_json::json!({"errorType": "RequestEntityTooLarge"}),
        ),
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// A header as text, `None` when absent or not text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
