//! gzip in both directions, with a bound on what comes out.

use std::fmt;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// Why a compressed body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GunzipError {
    /// It would be longer than the bound after decompression.
    TooLarge,
    /// It is not gzip, is cut off, or its checksum is wrong.
    Malformed,
}

// === impl GunzipError ===

impl fmt::Display for GunzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is too large after decompression",
            Self::Malformed => "the body is not gzip as its content-encoding says",
        })
    }
}

impl std::error::Error for GunzipError {}

/// Decompresses a gzip body of one or more members to at most `bytes_max` bytes.
///
/// Memory stays near what comes out: a body that would expand further is given up at the bound.
///
/// # Errors
/// [`GunzipError`] when it would be longer, or is not gzip.
pub fn gunzip_bounded(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, GunzipError> {
    // Telemetry compresses 3 to 10 times; a first guess of 4 saves most of the regrowth.
    let mut out = Vec::with_capacity(body.len().saturating_mul(4).min(bytes_max));
    let bound = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    MultiGzDecoder::new(body)
        .take(bound)
        .read_to_end(&mut out)
        .map_err(|_| GunzipError::Malformed)?;
    if out.len() > bytes_max {
        Err(GunzipError::TooLarge)
    } else {
        Ok(out)
    }
}

/// Compresses what the chunks hold together into one gzip member.
#[must_use]
pub fn gzip<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    // Level 1 ("fast"): the flush is on the invocation's path, and telemetry shrinks well at any level.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for chunk in chunks {
        encoder
            .write_all(chunk)
            .expect("writing to a vector does not fail");
    }
    encoder.finish().expect("writing to a vector does not fail")
}
