//! Reading requests.

use std::io;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Bounds of what a client may send; far above what tests do.
const HEAD_BYTES_MAX: usize = 64 * 1024;
pub(super) const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str, token: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.to_ascii_lowercase().contains(token))
    }
}

/// The head of the next request, `None` when the client closed between requests.
pub(super) async fn read_head(reader: &mut Reader) -> io::Result<Option<Head>> {
    let Some(first) = read_line(reader).await? else {
        return Ok(None);
    };
    let mut words = first.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default().to_owned(),
        words.next().unwrap_or_default().to_owned(),
    );
    let mut headers = Vec::new();
    let mut head_bytes = first.len();
    loop {
        let line = read_line(reader)
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some(Head {
                method,
                path,
                headers,
            }));
        }
        head_bytes += line.len();
        if head_bytes > HEAD_BYTES_MAX {
            return Err(io::Error::other("the head of the request is too long"));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

async fn read_line(reader: &mut Reader) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader
        .take(HEAD_BYTES_MAX as u64)
        .read_until(b'\n', &mut line)
        .await?
        == 0
    {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.pop_if(|byte| *byte == b'\r');
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

pub(super) async fn read_body(reader: &mut Reader, head: &Head) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.has("transfer-encoding", "chunked") {
        loop {
            let line = read_line(reader)
                .await?
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size =
                size.map_err(|_| io::Error::other(format!("`{line}` is not the size of a chunk")))?;
            read_exactly(reader, size, &mut body).await?;
            // The line end after a chunk; after the last one, trailers until an empty line.
            while !read_line(reader)
                .await?
                .ok_or(io::ErrorKind::UnexpectedEof)?
                .is_empty()
            {}
            if size == 0 {
                return Ok(body);
            }
        }
    }
    let length = head.header("content-length").unwrap_or("0");
    let length = length
        .parse()
        .map_err(|_| io::Error::other(format!("content-length `{length}` is not a number")))?;
    read_exactly(reader, length, &mut body).await?;
    Ok(body)
}

async fn read_exactly(reader: &mut Reader, bytes: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len() as u64 + bytes > BODY_BYTES_MAX {
        return Err(io::Error::other("the body is too long"));
    }
    match reader.take(bytes).read_to_end(body).await? {
        read if read as u64 == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
