//! `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

use std::fmt;

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

// === impl ProxySettings ===

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
