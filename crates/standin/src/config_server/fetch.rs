//! HTTP GET, as little of it as a config server takes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For all of a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers that lead elsewhere, one after another.
const REDIRECTS: usize = 3;
/// Bytes an answer may have.
const LIMIT: u64 = 1 << 20;

/// The body of a 2xx answer.
pub async fn get(url: &str) -> Result<Vec<u8>, String> {
    match timeout(PATIENCE, follow(url)).await {
        Ok(got) => got.map_err(|error| format!("{url}: {error}")),
        Err(_) => Err(format!("{url}: no answer")),
    }
}

async fn follow(url: &str) -> io::Result<Vec<u8>> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        let answer = once(&url).await?;
        match answer.status {
            200..300 => return Ok(answer.body),
            300..400 => url = answer.location.ok_or_else(|| wrong("it leads nowhere"))?,
            status => return Err(wrong(format!("HTTP status {status}"))),
        }
    }
    Err(wrong("it leads elsewhere for ever"))
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

/// HTTP/1.0: the end of the connection is the end of the answer.
async fn once(url: &str) -> io::Result<Answer> {
    let rest = url.strip_prefix("http://").ok_or_else(|| wrong("it is not http"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:80"),
    };
    let mut stream = TcpStream::connect(&address).await?;
    let path = if path.is_empty() { "/" } else { path };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LIMIT).read_to_end(&mut answer).await?;
    read(&answer)
}

fn read(answer: &[u8]) -> io::Result<Answer> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or_else(|| wrong("it breaks off"))?);
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let header = |wanted: &str| {
        let mut headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let body = body[4..].to_vec();
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| body.len() < length) {
        return Err(wrong("it breaks off"));
    }
    Ok(Answer {
        status: status.ok_or_else(|| wrong("it is no HTTP"))?,
        location: header("location"),
        body,
    })
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let answer = read(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"{}".as_slice()));
        let moved = read(b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n\r\n").unwrap();
        assert_eq!(
            (moved.status, moved.location.as_deref()),
            (302, Some("http://elsewhere/"))
        );
        for broken in [
            "",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "x\r\n\r\n",
        ] {
            assert!(read(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }
}
