//! The way to one place: how to connect there, and the connections that are idle.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::Uri;
use http::header::PROXY_AUTHORIZATION;
use rustls::ClientConfig;

use super::connect;
use super::connection::{Answer, Connection};
use super::http::Prepared;
use super::proxy::{Proxy, ProxySettings};
use super::tls;
use super::{Destination, Endpoint, Protocol, TlsFiles};

/// The age from which an idle connection is replaced on INVOKE.
/// Chosen, because upstreams close idle connections after 5 s (Node) to 75 s (nginx) and a load balancer's close
/// may never reach a paused sandbox; a needless reconnect costs half a millisecond of CPU beside the function.
const IDLE_AGE_MAX: Duration = Duration::from_secs(3);

/// Idle connections that are kept: as many as a flush uses at once.
const IDLE_MAX: usize = 4;

/// A place with what is open to it.
pub(super) struct Route {
    /// Scheme, host and port; the path is each destination's own.
    endpoint: Endpoint,
    protocol: Protocol,
    tls: TlsFiles,
    proxy: Result<Option<Proxy>, String>,
    /// Made at the first connection that needs it; it holds the sessions to resume.
    tls_config: Mutex<Option<Arc<ClientConfig>>>,
    idle: Mutex<Vec<Connection>>,
}

// === impl Route ===

impl Route {
    pub(super) fn to(destination: &Destination, proxies: &ProxySettings) -> Self {
        Self {
            endpoint: destination.endpoint.clone(),
            protocol: destination.protocol,
            tls: destination.tls.clone(),
            proxy: proxies.on_the_way_to(&destination.endpoint),
            tls_config: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// Whether a destination is reached this way, so that it can share the connections.
    pub(super) fn leads_to(&self, destination: &Destination) -> bool {
        let Endpoint {
            tls,
            host,
            port,
            path: _,
        } = &destination.endpoint;
        (*tls, host, *port) == (self.endpoint.tls, &self.endpoint.host, self.endpoint.port)
            && destination.protocol == self.protocol
            && destination.tls == self.tls
    }

    /// Leaves at least one connection that was used or opened lately, and none that was not.
    pub(super) async fn warm(&self) -> Result<(), String> {
        self.lock().retain(|idle| !idle.is_older_than(IDLE_AGE_MAX));
        let connection = match self.take_idle().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        self.put_idle(connection);
        Ok(())
    }

    /// Whether the proxy reads our requests and passes them on, as it does with plain HTTP/1.1;
    /// everything else goes through a tunnel.
    fn forwarded(&self) -> Option<&Proxy> {
        let plain = !self.endpoint.tls && self.protocol == Protocol::HttpProtobuf;
        self.proxy.as_ref().ok()?.as_ref().filter(|_| plain)
    }

    /// Changes a request into what a forwarding proxy wants: the whole URL, and credentials.
    pub(super) fn address(&self, prepared: &mut Prepared) -> Result<(), String> {
        let Some(proxy) = self.forwarded() else {
            return Ok(());
        };
        let whole = format!("http://{}{}", self.endpoint.authority(), prepared.uri);
        prepared.uri = Uri::try_from(whole).map_err(|error| error.to_string())?;
        if let Some(value) = &proxy.authorization {
            prepared.headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        Ok(())
    }

    /// Sends a request on an idle connection or a new one, and once more on a new one when an idle one was dead.
    ///
    /// # Errors
    /// Outer: nothing was sent. Inner: something may have arrived, but no answer came.
    pub(super) async fn exchange(
        &self,
        prepared: &Prepared,
    ) -> Result<Result<Answer, String>, String> {
        if let Some(mut connection) = self.take_idle().await {
            // An upstream that went away without a word is noticed only by writing to it.
            // At-least-once delivery allows to send again what may have arrived.
            if let Ok(answer) = connection.exchange(prepared.request()).await {
                return Ok(Ok(self.finish(connection, answer)));
            }
        }
        let mut connection = self.connect().await?;
        match connection.exchange(prepared.request()).await {
            Ok(answer) => Ok(Ok(self.finish(connection, answer))),
            Err(error) => self.failed(&error),
        }
    }

    fn finish(&self, connection: Connection, answer: Answer) -> Answer {
        if answer.whole {
            self.put_idle(connection);
        }
        answer
    }

    fn failed<T>(&self, error: &hyper::Error) -> Result<Result<T, String>, String> {
        let (at, error) = (self.endpoint.host_and_port(), chain(error));
        match tls::refused_certificate(&error, &at) {
            Some(why) => Err(why),
            None => Ok(Err(format!("{at}: {error}"))),
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = match self.proxy.as_ref().map_err(String::clone)? {
            None => connect::tcp(&self.endpoint).await?,
            Some(proxy) => self.connect_by(proxy).await?,
        };
        let stream = if self.endpoint.tls {
            let config = self.tls_config()?;
            tls::wrap(stream, &self.endpoint.host, config).await?
        } else {
            stream
        };
        Connection::handshake(stream, self.protocol)
            .await
            .map_err(|error| chain(&error))
    }

    async fn connect_by(&self, proxy: &Proxy) -> Result<connect::Stream, String> {
        let failed = |why| format!("the proxy cannot be reached: {why}");
        let mut stream = connect::tcp(&proxy.endpoint).await.map_err(failed)?;
        if proxy.endpoint.tls {
            // The public authorities: the user's file is about upstream, not about the proxy.
            let config = tls::config(&TlsFiles::default(), Protocol::HttpProtobuf)?;
            stream = tls::wrap(stream, &proxy.endpoint.host, config)
                .await
                .map_err(failed)?;
        }
        if self.forwarded().is_none() {
            proxy.tunnel(&mut stream, &self.endpoint).await?;
        }
        Ok(stream)
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut config = self
            .tls_config
            .lock()
            .expect("no panic while the lock is held");
        if let Some(config) = &*config {
            return Ok(config.clone());
        }
        let made = tls::config(&self.tls, self.protocol)?;
        Ok(config.insert(made).clone())
    }

    /// The idle connection that was used last and is still open; the others are dropped when they are not.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.lock().pop()?;
            if connection.is_ready().await {
                return Some(connection);
            }
        }
    }

    fn put_idle(&self, connection: Connection) {
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("no panic while the lock is held")
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !line.contains(&cause_text) {
            line = format!("{line}: {cause_text}");
        }
        source = cause.source();
    }
    line
}
