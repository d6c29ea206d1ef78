//! AWS Signature Version 4 for one request ("Create a signed AWS API request").

use std::time::SystemTime;

use ring::digest::{SHA256, digest};
use ring::hmac;

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// The path, escaped as it is sent.
    pub(super) path: &'a str,
    /// The query in canonical form: escaped and sorted.
    pub(super) query: &'a str,
    /// Lower-case names and trimmed values, sorted by name.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
}

/// An access key; a session token is a header like others.
#[derive(Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a str,
}

/// The `Authorization` header of a request. `amz_date` is its `x-amz-date`.
pub(super) fn authorization(
    request: &Request<'_>,
    credentials: &Credentials<'_>,
    region: &str,
    service: &str,
    amz_date: &str,
) -> String {
    let day = &amz_date[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
    let signed_headers = names.join(";");
    let canonical = hex(digest(&SHA256, canonical(request, &signed_headers).as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{canonical}");
    let key = signing_key(credentials.secret_access_key, day, region, service);
    let signature = hex(&hmac_sha256(&key, &to_sign));
    let access_key = credentials.access_key_id;
    format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed_headers}, Signature={signature}"
    )
}

fn canonical(request: &Request<'_>, signed_headers: &str) -> String {
    let Request {
        method,
        path,
        query,
        headers,
        body,
    } = request;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let payload = hex(digest(&SHA256, body).as_ref());
    format!("{method}\n{path}\n{query}\n{headers}\n{signed_headers}\n{payload}")
}

fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> Vec<u8> {
    let first = format!("AWS4{secret}").into_bytes();
    [day, region, service, "aws4_request"]
        .into_iter()
        .fold(first, |key, part| hmac_sha256(&key, part))
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as `x-amz-date` has it: `20150830T123600Z`.
pub(super) fn amz_date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month and day of a number of days since 1970 in the Gregorian calendar.
/// Counted in eras of 400 years that begin in March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The credentials of AWS's published examples.
    const EXAMPLE: Credentials<'_> = Credentials {
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    };
    const DATE: &str = "20150830T123600Z";

    fn signature(
        method: &str,
        query: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> String {
        let request = Request {
            method,
            path: "/",
            query,
            headers,
            body: body.as_bytes(),
        };
        let authorization = authorization(&request, &EXAMPLE, "us-east-1", "service", DATE);
        authorization.rsplit('=').next().unwrap().to_owned()
    }

    // AWS's Signature Version 4 test suite, by the names of its cases.
    #[test]
    fn the_published_suite() {
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", DATE)];
        let table = [
            (
                "get-vanilla",
                "GET",
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "Param1=value1&Param2=value2",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-vanilla",
                "POST",
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
        ];
        for (case, method, query, expected) in table {
            assert_eq!(signature(method, query, &plain, ""), expected, "{case}");
        }
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", "example.amazonaws.com"),
            ("x-amz-date", DATE),
        ];
        assert_eq!(
            signature("POST", "", &form, "Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            "post-x-www-form-urlencoded"
        );
    }

    // "Create a signed AWS API request", the example of IAM's ListUsers, from the key to the header.
    #[test]
    fn the_documented_example() {
        let key = signing_key(EXAMPLE.secret_access_key, "20150830", "us-east-1", "iam");
        assert_eq!(
            hex(&key),
            "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
        );
        let headers = [
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", DATE),
        ];
        let request = Request {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &headers,
            body: b"",
        };
        assert_eq!(
            authorization(&request, &EXAMPLE, "us-east-1", "iam", DATE),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn dates() {
        let table = [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_799, "20000229T235959Z"),
            (951_868_800, "20000301T000000Z"),
            (1_440_938_160, DATE),
            (1_709_164_800, "20240229T000000Z"),
            (4_107_542_400, "21000301T000000Z"),
        ];
        for (seconds, date) in table {
            assert_eq!(
                amz_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
                date
            );
        }
    }
}
