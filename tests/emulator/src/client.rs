//! A small HTTP/1.1 client that keeps its connection: for telemetry deliveries and for queues.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::{io, time::Duration};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one server, plain HTTP.
#[derive(Debug)]
pub(crate) struct Client {
    host: String,
    port: u16,
    kept: Option<SendRequest<Full<Bytes>>>,
    connection: Option<JoinHandle<()>>,
}

impl Client {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            kept: None,
            connection: None,
        }
    }

    /// Sends a request and reads the answer whole. A kept connection that was closed meanwhile is no failure:
    /// the request is sent once more on a new one.
    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> io::Result<Response<Bytes>> {
        if let Some(mut sender) = self.kept.take().filter(|sender| !sender.is_closed()) {
            match sender.send_request(request.clone().map(Full::new)).await {
                Ok(response) => return self.whole(sender, response).await,
                Err(error)
                    if error.is_canceled()
                        || error.is_incomplete_message()
                        || error.is_closed() => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let mut sender = self.connect().await?;
        let response = sender
            .send_request(request.map(Full::new))
            .await
            .map_err(io::Error::other)?;
        self.whole(sender, response).await
    }

    async fn whole(
        &mut self,
        sender: SendRequest<Full<Bytes>>,
        response: Response<hyper::body::Incoming>,
    ) -> io::Result<Response<Bytes>> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.kept = Some(sender);
        Ok(Response::from_parts(head, body))
    }

    /// Closes the connection, a request on it included, and waits until it is closed.
    pub(crate) async fn close(&mut self) {
        self.kept = None;
        if let Some(connection) = self.connection.take() {
            connection.abort();
            // An aborted task is what was asked for.
            let _ = connection.await;
        }
    }

    async fn connect(&mut self) -> io::Result<SendRequest<Full<Bytes>>> {
        let address = (self.host.as_str(), self.port);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        self.connection = Some(tokio::spawn(async move {
            // Ends with the server or with us.
            let _ = connection.await;
        }));
        Ok(sender)
    }
}
