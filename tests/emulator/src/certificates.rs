//! Certificates made on the spot, for TLS upstreams of tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::{fs, io, path::Path};

/// An authority, and certificates of it for a server on this machine and for a client. Everything is PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate: what `OTEL_EXPORTER_OTLP_CERTIFICATE` wants.
    pub authority: String,
    /// For `localhost`, `127.0.0.1`, `::1` and `collector.test`, which a proxy may lead to.
    pub server: String,
    /// Its key.
    pub server_key: String,
    /// What `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` wants.
    pub client: String,
    /// What `OTEL_EXPORTER_OTLP_CLIENT_KEY` wants.
    pub client_key: String,
}

impl Certificates {
    /// New ones, good for decades.
    ///
    /// # Panics
    /// When the operating system has no random bytes.
    pub fn new() -> Self {
        Self::make(false).expect("certificates of fixed names can be made")
    }

    /// New ones, the server's out of date since the year 2001.
    ///
    /// # Panics
    /// When the operating system has no random bytes.
    pub fn expired() -> Self {
        Self::make(true).expect("certificates of fixed names can be made")
    }

    /// Writes `authority.pem`, `client.pem` and `client-key.pem` into a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("authority.pem"), &self.authority)?;
        fs::write(folder.join("client.pem"), &self.client)?;
        fs::write(folder.join("client-key.pem"), &self.client_key)
    }

    fn make(expired: bool) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let leaf = |names: &[&str], purpose, expired: bool| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names)?;
            params.extended_key_usages = vec![purpose];
            if expired {
                params.not_before = date_time_ymd(2000, 1, 1);
                params.not_after = date_time_ymd(2001, 1, 1);
            }
            let key = KeyPair::generate()?;
            Ok::<_, rcgen::Error>((
                params.signed_by(&key, &authority)?.pem(),
                key.serialize_pem(),
            ))
        };
        let names = ["localhost", "127.0.0.1", "::1", "collector.test"];
        let (server, server_key) = leaf(&names, ExtendedKeyUsagePurpose::ServerAuth, expired)?;
        let (client, client_key) = leaf(&["client"], ExtendedKeyUsagePurpose::ClientAuth, false)?;
        Ok(Self {
            authority: authority.pem(),
            server,
            server_key,
            client,
            client_key,
        })
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}
