//! A forward proxy that knows CONNECT alone and counts its tunnels.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Longest head of a CONNECT request.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A proxy on a loopback port, for `HTTPS_PROXY`; dropping it ends its tunnels.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    tunnels: Tunnels,
    server: JoinHandle<()>,
}

/// What a client asked the proxy for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `host:port`.
    pub target: String,
    /// Value of the `Proxy-Authorization` header.
    pub authorization: Option<String>,
}

type Tunnels = Arc<Mutex<Vec<Tunnel>>>;

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl ConnectProxy {
    /// Starts one.
    ///
    /// # Errors
    /// When no loopback port can be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let tunnels = Tunnels::default();
        let server = tokio::spawn(accept(listener, tunnels.clone()));
        Ok(Self {
            address,
            tunnels,
            server,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The tunnels that were asked for, in their order.
    pub fn tunnels(&self) -> Vec<Tunnel> {
        self.tunnels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn accept(listener: TcpListener, tunnels: Tunnels) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let tunnels = tunnels.clone();
        connections.spawn(async move {
            // A tunnel that breaks is the business of its two ends.
            let _ = tunnel(stream, tunnels).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn tunnel(mut client: TcpStream, tunnels: Tunnels) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return client
                .write_all(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n")
                .await;
        }
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let Some(target) = lines
        .next()
        .and_then(|line| line.strip_prefix("CONNECT ")?.split(' ').next())
    else {
        return client
            .write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let authorization = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
        .map(|(_, value)| value.trim().to_owned());
    let asked = Tunnel {
        target: target.to_owned(),
        authorization,
    };
    tunnels
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    let Ok(mut server) = TcpStream::connect(target).await else {
        return client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    server.set_nodelay(true)?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut client, &mut server)
        .await
        .map(|_| ())
}
