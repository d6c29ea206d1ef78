//! Random identifiers and free ports.

use std::{
    collections::HashSet,
    net::TcpListener,
    sync::{Mutex, PoisonError},
};

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A version 4 UUID, as request ids, extension ids and message ids are.
pub(crate) fn uuid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// A trace header as Lambda writes it: `Root=1-{seconds}-{96 bits};Parent={64 bits};Sampled={0,1}`.
pub(crate) fn trace_header(unix_ms: u64, sampled: bool) -> String {
    format!(
        "Root=1-{:08x}-{};Parent={};Sampled={}",
        unix_ms / 1000,
        hex(&random::<12>()),
        hex(&random::<8>()),
        u8::from(sampled)
    )
}

/// Ports below the range that Linux and macOS take for outgoing connections,
/// so that nobody but another server can take one between our look and the process that will listen there.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// A loopback port nobody listens on, never the same twice in this process.
pub(crate) fn free_port() -> std::io::Result<u16> {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let port = PORTS.start + u16::from_le_bytes(random::<2>()) % (PORTS.end - PORTS.start);
        if given.insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(std::io::Error::other("no free loopback port in 1000 tries"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        let header = trace_header(1_795_338_764_194, true);
        assert_eq!(
            header.len(),
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1".len()
        );
        assert_ne!(free_port().unwrap(), free_port().unwrap());
    }
}
