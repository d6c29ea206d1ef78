//! The headers of requests: literal ones, those of a file, and values that are kept in AWS.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Destination, HeaderSource, UpstreamSettings};
use crate::otlp::Signal;
use crate::secrets;

/// The age from which a refusal of our credentials makes us read them anew: they may have been rotated.
/// Chosen, because reading costs a request, and a wrong value stays wrong.
const REREAD_AFTER: Duration = Duration::from_secs(60);

/// The largest `THROUGHLINE_HEADERS_FILE`.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What has been read so far.
#[derive(Default)]
pub(super) struct Headers {
    /// Whole sets of headers, by signal.
    ready: Mutex<[Option<(HeaderMap, SystemTime)>; 3]>,
    /// Secrets by reference. Held while one is read, so that several requests do not read it several times.
    secrets: tokio::sync::Mutex<HashMap<String, String>>,
}

// === impl Headers ===

impl Headers {
    /// The headers of a signal's requests; read once, then kept.
    ///
    /// # Errors
    /// The file or a secret cannot be read, or something in it is no header.
    /// Then nothing is sent: without its credentials a request would only be refused.
    pub(super) async fn of(
        &self,
        signal: Signal,
        destination: &Destination,
        settings: &UpstreamSettings,
    ) -> Result<HeaderMap, String> {
        if let Some((headers, _)) = &self.ready()[signal.index()] {
            return Ok(headers.clone());
        }
        let headers = self.read(destination, settings).await?;
        self.ready()[signal.index()] = Some((headers.clone(), SystemTime::now()));
        Ok(headers)
    }

    /// Forgets what was read some time ago, after upstream has refused our credentials.
    pub(super) async fn refused(&self, signal: Signal) {
        {
            let mut ready = self.ready();
            let ready = &mut ready[signal.index()];
            let old = |at: &SystemTime| at.elapsed().map_or(true, |age| age > REREAD_AFTER);
            if !ready.as_ref().is_some_and(|(_, at)| old(at)) {
                return;
            }
            *ready = None;
        }
        self.secrets.lock().await.clear();
    }

    async fn read(
        &self,
        destination: &Destination,
        settings: &UpstreamSettings,
    ) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let file = settings
            .headers_file
            .as_deref()
            .map(read_file)
            .transpose()?
            .unwrap_or_default();
        // The file goes last, so that it wins over a variable of the same name.
        for (name, source) in destination.headers.iter().chain(&file) {
            let value = match source {
                HeaderSource::Literal(value) => value.clone(),
                HeaderSource::Secret(reference) => self
                    .secret(reference, settings)
                    .await
                    .map_err(|why| format!("header {name}: {why}"))?,
            };
            // The value never appears in a message: it may be a credential.
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("header {name}: its value cannot stand in a header"))?;
            value.set_sensitive(true);
            let name = HeaderName::try_from(name)
                .map_err(|_| format!("header {name}: no name of a header"))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn secret(&self, reference: &str, settings: &UpstreamSettings) -> Result<String, String> {
        let mut known = self.secrets.lock().await;
        if let Some(value) = known.get(reference) {
            return Ok(value.clone());
        }
        let (aws, proxy) = (&settings.aws, &settings.proxy);
        let value = secrets::read(reference, aws, proxy, SystemTime::now()).await?;
        known.insert(reference.to_owned(), value.clone());
        Ok(value)
    }

    fn ready(&self) -> MutexGuard<'_, [Option<(HeaderMap, SystemTime)>; 3]> {
        self.ready.lock().expect("no panic while the lock is held")
    }
}

const FILE: &str = "THROUGHLINE_HEADERS_FILE";

fn read_file(path: &Path) -> Result<Vec<(String, HeaderSource)>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{FILE}: {}: {error}", path.display());
    // A device or a pipe could hold the only thread for ever.
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(failed(&"not a file of at most 64 KiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    parse_file(&text).map_err(|line| failed(&format_args!("line {line} is not `name=value`")))
}

/// One header a line, `name=value` or `name: value`, as it stands and without escapes;
/// empty lines and those that begin with `#` say nothing. A value may name a secret.
///
/// The error is the number of the line, never its text.
fn parse_file(text: &str) -> Result<Vec<(String, HeaderSource)>, usize> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let header = |(index, line): (usize, &str)| {
        let (name, value) = line.split_once(['=', ':']).ok_or(index + 1)?;
        let (name, value) = (name.trim(), value.trim().to_owned());
        if HeaderName::try_from(name).is_err() {
            return Err(index + 1);
        }
        let secret = value.starts_with("ssm:")
            || (value.starts_with("arn:") && value.contains(":secretsmanager:"));
        let source = if secret {
            HeaderSource::Secret(value)
        } else {
            HeaderSource::Literal(value)
        };
        Ok((name.to_owned(), source))
    };
    lines.map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let literal =
            |name: &str, value: &str| (name.to_owned(), HeaderSource::Literal(value.into()));
        let text = "# token\nx-api-key = a=b,c%20d \n\nAuthorization: Bearer t:u\r\nx-s=ssm:/a\n";
        let secret = ("x-s".to_owned(), HeaderSource::Secret("ssm:/a".into()));
        let expected = vec![
            literal("x-api-key", "a=b,c%20d"),
            literal("Authorization", "Bearer t:u"),
            secret,
        ];
        assert_eq!(parse_file(text), Ok(expected));
        assert_eq!(parse_file(""), Ok(vec![]));
        assert_eq!(parse_file("a=b\nsecret"), Err(2));
        assert_eq!(parse_file("a b=c"), Err(1));
        assert_eq!(parse_file("=c"), Err(1));
    }
}
