//! Opening a stream to upstream: name, TCP, proxy, TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::endpoint::Endpoint;

/// An open stream, encrypted or not.
pub(super) struct Stream(Box<dyn Duplex>);

/// What HTTP needs of a stream.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens a TCP connection to the endpoint itself.
///
/// # Errors
/// A sentence saying what could not be reached and why.
pub(super) async fn tcp(endpoint: &Endpoint) -> Result<Stream, String> {
    let at = endpoint.host_and_port();
    let mut last = format!("{at}: the name has no address");
    for address in resolve(endpoint)
        .await
        .map_err(|error| format!("{at}: {error}"))?
    {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A request is written at once; waiting for more to send would only delay its end.
                let _ = stream.set_nodelay(true);
                return Ok(Stream::new(stream));
            }
            Err(error) => last = format!("{at}: {error}"),
        }
    }
    Err(last)
}

/// The addresses of a host. Only a name that is not `localhost` asks the resolver, which costs a thread.
async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let port = endpoint.port;
    if let Some(ip) = endpoint.ip() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if endpoint.is_loopback() {
        // RFC 6761, 6.3: `localhost` is loopback, whatever a resolver would say.
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    Ok(tokio::net::lookup_host((endpoint.host.as_str(), port))
        .await?
        .collect())
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
