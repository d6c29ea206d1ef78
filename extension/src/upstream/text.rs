//! The two encodings that requests and proxies use for bytes in text.

/// Decodes `%xx`; what is no escape stands for itself (RFC 3986, 2.1).
pub(super) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .first_chunk::<2>()
            .filter(|two| first == b'%' && two[0] != b'+');
        let hex = digits.and_then(|two| str::from_utf8(two).ok());
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            rest = &after[2..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
}

/// Encodes bytes in base64, padded (RFC 4648, 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let six = (bits >> (18 - 6 * digit)) as usize & 63;
            out.push(if digit <= three.len() {
                char::from(DIGITS[six])
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded() {
        let table = [
            ("", "".as_bytes()),
            ("a b", b"a b"),
            ("%C3%a4%25", "ä%".as_bytes()),
            ("100%", b"100%"),
            ("%zz%4", b"%zz%4"),
            ("%+1", b"%+1"),
            ("%ü", "%ü".as_bytes()),
        ];
        for (encoded, plain) in table {
            assert_eq!(percent_decoded(encoded), plain, "{encoded}");
        }
    }

    // RFC 4648, 10: its test vectors.
    #[test]
    fn base64_of_every_length() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in table {
            assert_eq!(base64(plain.as_bytes()), encoded);
            assert_eq!(
                crate::otlp::base64(encoded).as_deref(),
                Some(plain.as_bytes())
            );
        }
    }
}
