//! `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

use std::fmt;
use std::net::IpAddr;

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::Stream;
use super::endpoint::Endpoint;
use super::text::{base64, percent_decoded};

/// The longest answer to CONNECT that is read.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// The proxy variables as they were set; plain data, filled by `config`.
///
/// Each exists in upper and lower case; the lower case goes first, as in curl.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// `https_proxy` or `HTTPS_PROXY`: for `https://` endpoints.
    pub https: Option<String>,
    /// `http_proxy` or `HTTP_PROXY`: for `http://` endpoints.
    pub http: Option<String>,
    /// `no_proxy` or `NO_PROXY`: hosts that are reached directly.
    pub no: Option<String>,
}

/// A proxy and what it wants to hear from us.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) endpoint: Endpoint,
    /// `Proxy-Authorization`, from the user name and password in the URL.
    pub(super) authorization: Option<HeaderValue>,
}

// === impl ProxySettings ===

impl ProxySettings {
    /// The proxy on the way to an endpoint, or `None` when it is reached directly.
    ///
    /// Loopback is never proxied: a collector beside the function is not reachable from a proxy.
    ///
    /// # Errors
    /// When the variable that applies is not the URL of a proxy.
    pub(super) fn on_the_way_to(&self, endpoint: &Endpoint) -> Result<Option<Proxy>, String> {
        let (name, url) = if endpoint.tls {
            ("HTTPS_PROXY", &self.https)
        } else {
            ("HTTP_PROXY", &self.http)
        };
        let Some(url) = url.as_deref().map(str::trim).filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        if endpoint.is_loopback() || self.bypassed(endpoint) {
            return Ok(None);
        }
        // The value is not shown: it may hold a password.
        Proxy::parse(url)
            .map(Some)
            .map_err(|why| format!("{name} {why}"))
    }

    /// Whether `NO_PROXY` names the endpoint's host.
    ///
    /// Its entries are separated by commas: `*`, a host that stands for its subdomains as well,
    /// an address, or a network as `10.0.0.0/8`; each may have a port.
    fn bypassed(&self, endpoint: &Endpoint) -> bool {
        let entries = self
            .no
            .as_deref()
            .unwrap_or_default()
            .split(',')
            .map(str::trim);
        entries
            .filter(|entry| !entry.is_empty())
            .any(|entry| names(entry, endpoint))
    }
}

fn names(entry: &str, endpoint: &Endpoint) -> bool {
    if entry == "*" {
        return true;
    }
    let (host, port) = split_port(entry);
    if port.is_some_and(|port| port != endpoint.port) {
        return false;
    }
    if let Some(ip) = endpoint.ip() {
        return match host.split_once('/') {
            Some((network, bits)) => contains(network, bits, ip),
            None => host.parse() == Ok(ip),
        };
    }
    let host = host
        .trim_start_matches('*')
        .trim_start_matches('.')
        .to_ascii_lowercase();
    let name = endpoint.host.to_ascii_lowercase();
    !host.is_empty()
        && name
            .strip_suffix(&host)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Takes `host:port` or `[v6]:port` apart; a bare IPv6 address has no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some(rest) = entry.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (
            host,
            port.strip_prefix(':').and_then(|port| port.parse().ok()),
        );
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

fn contains(network: &str, bits: &str, ip: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32u32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let ((network, width), (ip, ip_width)) = (number(network), number(ip));
    // A shift by the whole width is none that a number allows: a network of no bits holds everything.
    let shift = width.saturating_sub(bits);
    width == ip_width && bits <= width && (shift == 128 || network >> shift == ip >> shift)
}

// === impl Proxy ===

impl Proxy {
    /// Reads `http://user:password@host:port`; the scheme may be missing, and https is TLS to the proxy itself.
    fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(user, host)| (Some(user), host));
        let endpoint = Endpoint::parse(&format!("{scheme}://{host}"))
            .map_err(|why| format!("is not the URL of a proxy: it {why}"))?;
        let authorization = user.map(|user| {
            // RFC 7617, 2: user and password joined by a colon, in base64.
            let plain = percent_decoded(user);
            let plain = if plain.contains(&b':') {
                plain
            } else {
                [&plain[..], b":"].concat()
            };
            let value = HeaderValue::try_from(format!("Basic {}", base64(&plain)));
            let mut value = value.expect("base64 is visible ASCII");
            value.set_sensitive(true);
            value
        });
        Ok(Self {
            endpoint,
            authorization,
        })
    }

    /// Asks the proxy, over a stream to it, for a tunnel to `endpoint` (RFC 9110, 9.3.6).
    ///
    /// # Errors
    /// When it refuses, or answers with something else than HTTP.
    pub(super) async fn tunnel(
        &self,
        stream: &mut Stream,
        endpoint: &Endpoint,
    ) -> Result<(), String> {
        let at = endpoint.host_and_port();
        let mut request = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n").into_bytes();
        if let Some(value) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let proxy = self.endpoint.host_and_port();
        let failed = |error: std::io::Error| format!("the proxy {proxy} broke off: {error}");
        stream.write_all(&request).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_BYTES_MAX {
                return Err(format!("the proxy {proxy} answered CONNECT without an end"));
            }
            // Byte by byte: what follows the head belongs to the tunnel, where a server may speak first.
            answer.push(stream.read_u8().await.map_err(failed)?);
        }
        let line = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        match line.split(' ').nth(1) {
            Some(status) if line.starts_with("HTTP/1.") && status.starts_with('2') => Ok(()),
            Some("407") => Err(format!(
                "the proxy {proxy} wants other credentials than its URL has"
            )),
            _ => Err(format!(
                "the proxy {proxy} answered {:?} to CONNECT",
                line.chars().take(100).collect::<String>()
            )),
        }
    }
}

/// Shows which are set, never their values: a proxy's URL may hold a password.
impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("no", &self.no)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(no: &str) -> ProxySettings {
        ProxySettings {
            https: Some("http://secure:1".into()),
            http: Some("plain:2".into()),
            no: Some(no.into()),
        }
    }

    fn via(settings: &ProxySettings, url: &str) -> Option<String> {
        let endpoint = Endpoint::parse(url).unwrap();
        let proxy = settings.on_the_way_to(&endpoint).unwrap();
        proxy.map(|proxy| proxy.endpoint.host_and_port())
    }

    #[test]
    fn the_scheme_of_the_endpoint_chooses() {
        let settings = settings("");
        assert_eq!(via(&settings, "https://h"), Some("secure:1".into()));
        assert_eq!(via(&settings, "http://h"), Some("plain:2".into()));
        assert_eq!(via(&ProxySettings::default(), "https://h"), None);
        let empty = ProxySettings {
            https: Some(" ".into()),
            ..ProxySettings::default()
        };
        assert_eq!(via(&empty, "https://h"), None);
    }

    #[test]
    fn loopback_is_never_proxied() {
        for url in [
            "http://localhost",
            "https://LOCALHOST:1",
            "http://127.0.0.1:1",
            "http://127.9.9.9",
            "http://[::1]:1",
        ] {
            assert_eq!(via(&settings(""), url), None, "{url}");
        }
    }

    #[test]
    fn no_proxy() {
        let table = [
            ("*", "https://a.b", true),
            ("a.b", "https://a.b", true),
            ("a.b", "https://x.a.b", true),
            (".a.b", "https://x.a.b", true),
            ("*.a.b", "https://x.a.b", true),
            ("a.b", "https://xa.b", false),
            ("A.B", "https://a.b", true),
            ("c, a.b ,d", "https://a.b", true),
            ("a.b:443", "https://a.b", true),
            ("a.b:444", "https://a.b", false),
            ("10.0.0.1", "https://10.0.0.1", true),
            ("10.0.0.0/8", "https://10.9.9.9", true),
            ("10.0.0.0/8", "https://11.0.0.0", false),
            ("0.0.0.0/0", "https://11.0.0.0", true),
            ("0.0.0.0/33", "https://11.0.0.0", false),
            ("fd00::/8", "https://[fd01::1]", true),
            ("::/0", "https://[fd01::1]", true),
            ("fd00::/8", "https://10.0.0.1", false),
            ("[fd01::1]:443", "https://[fd01::1]", true),
            ("fd01::1", "https://[fd01::1]", true),
            ("0.1", "https://10.0.0.1", false),
            ("", "https://a.b", false),
            (",.", "https://a.b", false),
        ];
        for (no, url, direct) in table {
            assert_eq!(via(&settings(no), url).is_none(), direct, "{no:?} {url}");
        }
    }

    #[test]
    fn credentials_come_from_the_url() {
        let table = [
            ("http://h:1", None),
            (
                "http://Aladdin:open%20sesame@h:1/",
                Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ),
            ("user@h:1", Some("Basic dXNlcjo=")),
            ("http://a:b@c@h:1", Some("Basic YTpiQGM=")),
        ];
        for (url, authorization) in table {
            let proxy = Proxy::parse(url).unwrap();
            assert_eq!(proxy.endpoint.host_and_port(), "h:1");
            let value = proxy
                .authorization
                .map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(value.as_deref(), authorization, "{url}");
        }
    }

    #[test]
    fn a_proxy_that_is_none_is_said_without_its_value() {
        for url in [
            "socks5://u:secret@h",
            "http://u:secret@",
            "http://u:secret@h:port",
        ] {
            let settings = ProxySettings {
                https: Some(url.into()),
                ..ProxySettings::default()
            };
            let endpoint = Endpoint::parse("https://a").unwrap();
            let Err(error) = settings.on_the_way_to(&endpoint) else {
                panic!("{url}")
            };
            assert!(
                error.contains("HTTPS_PROXY") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
