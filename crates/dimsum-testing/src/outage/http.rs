//! As much of HTTP/1.1 as a registry's clients speak, byte by byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;

/// The head of a request; its body is read by who wants it.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    headers: BTreeMap<String, String>,
}

impl RequestHead {
    /// Reads the next one; `None` when the client has hung up.
    pub(super) fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let mut first = lines.first().ok_or_else(bad)?.split(' ');
        let (method, target) = (first.next().ok_or_else(bad)?.to_owned(), first.next().ok_or_else(bad)?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Self { method, path: path.to_owned(), query: query.to_owned(), headers }))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the length of the body.
    pub(super) fn length(&self) -> usize {
        self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }

    /// Returns a parameter of the query, as it stands there but for `%3A`.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let parameters = self.query.split('&').filter_map(|each| each.split_once('='));
        parameters.filter(|(key, _)| *key == name).map(|(_, value)| value.replace("%3A", ":")).next()
    }

    /// Returns the range that was asked for, inside of a body of `length` bytes.
    pub(super) fn range(&self, length: u64) -> Option<Range<u64>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = last.parse::<u64>().map_or(length, |last| length.min(last + 1));
        Some(first.parse().ok()?..end)
    }
}

/// Reads a part of a body.
pub(super) fn read_body(stream: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// An answer that is about to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// The length that the head states: that of the body, except of an answer to HEAD.
    pub(super) length: u64,
}

impl Answer {
    pub(super) fn new(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Self {
        let length = body.len() as u64;
        Self { status, headers, body, length }
    }

    /// An error document of the distribution specification.
    pub(super) fn refusal(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"a test wants it"}}]}}"#);
        Self::new(status, vec![("Content-Type", "application/json".to_owned())], body.into_bytes())
    }

    pub(super) fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        self.write_head(stream)?;
        stream.write_all(&self.body)?;
        stream.flush()
    }

    /// Writes the head and half of the body.
    pub(super) fn write_half(&self, stream: &mut TcpStream) -> io::Result<()> {
        self.write_head(stream)?;
        stream.write_all(&self.body[..self.body.len() / 2])?;
        stream.flush()
    }

    fn write_head(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} Test\r\nContent-Length: {}\r\n", self.status, self.length);
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        stream.write_all((text + "\r\n").as_bytes())
    }
}
