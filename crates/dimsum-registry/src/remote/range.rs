//! Bytes of a blob from a place in it on, over as many connections as it takes.
//!
//! Never more is taken than was asked for, and a byte counts only where the registry said that it stands. A 206 must be
//! for the place that was asked for. A 200 is accepted at the start of a blob, where it means the same.

use std::ops::Range;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_source::{SourceError, SourceFault};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::Repo;
use super::body::{Body, length};
use super::exchange::Call;
use super::failure::Failure;
use crate::fault::RegistryFault;

/// Bytes after which earlier broken connections are forgiven: a blob of many GB may break a few times.
const FORGIVEN_AFTER: u64 = 16 << 20;

/// Reads on and on; broken connections are hidden, up to a number.
#[derive(Debug)]
pub(super) struct RangeBody {
    blob: Digest,
    what: String,
    /// The next byte.
    at: u64,
    /// The end, exclusive. Unknown for a whole blob until the registry has said it.
    end: Option<u64>,
    part: Option<Part>,
    /// Tries that failed since bytes came, and bytes since.
    failed: u32,
    since: u64,
}

/// What one request gave.
#[derive(Debug)]
struct Part {
    body: Body,
    /// The end of what it gives, if it said so.
    end: Option<u64>,
}

impl RangeBody {
    /// Prepares reading a range, or all from a byte on.
    pub(super) fn new(blob: Digest, start: u64, end: Option<u64>) -> Self {
        let what = format!("blob {blob}");
        Self { blob, what, at: start, end, part: None, failed: 0, since: 0 }
    }

    /// Waits for the next bytes; `None` at the end.
    pub(super) async fn next(&mut self, repo: &Repo) -> Result<Option<Bytes>, SourceError> {
        loop {
            if self.end.is_some_and(|end| self.at >= end) {
                self.part = None;
                return Ok(None);
            }
            match self.advance(repo).await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(failure) => {
                    self.part = None;
                    self.failed += 1;
                    repo.pause(failure, self.failed).await?;
                }
            }
        }
    }

    /// Does one thing: sends a request, or takes bytes.
    async fn advance(&mut self, repo: &Repo) -> Result<Option<Bytes>, Failure> {
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.request(repo).await?,
        };
        let Some(mut bytes) = part.body.next().await? else {
            return self.ended(repo, &part);
        };
        // A 200 may go on behind the range; the rest is not taken. A 206 may not.
        let left = part.end.or(self.end).map_or(u64::MAX, |end| end.saturating_sub(self.at));
        if bytes.len() as u64 > left {
            if part.end.is_some() {
                return Err(Failure::fatal(repo.answer_error(&self.what, "more bytes came than were announced")));
            }
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let count = bytes.len() as u64;
        self.at = self.at.saturating_add(count);
        self.since = self.since.saturating_add(count);
        if self.since >= FORGIVEN_AFTER {
            (self.failed, self.since) = (0, 0);
        }
        // At the end of what it announced the next request is made, if one is needed.
        if part.end.is_none_or(|end| self.at < end) {
            self.part = Some(part);
        }
        Ok(Some(bytes))
    }

    /// The connection ended in order, before the end was reached as far as that is known.
    fn ended(&mut self, repo: &Repo, part: &Part) -> Result<Option<Bytes>, Failure> {
        if part.end.or(self.end).is_none() {
            // Nobody knew the length: this is the end.
            self.end = Some(self.at);
            return Ok(None);
        }
        let (host, what) = (repo.registry.host.clone(), self.what.clone());
        let reason = format!("it ended at byte {}", self.at);
        Err(Failure::passing(RegistryFault::Broken { what, reason }.at(host)))
    }

    async fn request(&mut self, repo: &Repo) -> Result<Part, Failure> {
        let mut headers = HeaderMap::new();
        let range = match self.end {
            Some(end) => Some(format!("bytes={}-{}", self.at, end.saturating_sub(1))),
            None if self.at > 0 => Some(format!("bytes={}-", self.at)),
            None => None,
        };
        if let Some(range) = range {
            headers.insert(RANGE, HeaderValue::try_from(range).expect("digits make a header"));
        }
        let url = repo.blob_url(self.blob).await?;
        let (what, purpose) = (&*self.what, &repo.pull);
        let call = Call { method: Method::GET, url, headers, body: None, what, purpose };
        let response = match repo.moved.read_there(&repo.hub.wire, self.blob, &call.headers, what).await {
            Some(response) => response,
            None => repo.call(&call).await?,
        };
        repo.moved.remember(self.blob, &call.url, &response);
        let no_range = || {
            let range = self.at..self.end.unwrap_or_else(|| self.at.saturating_add(1));
            Failure::fatal(SourceFault::Range { digest: self.blob, range }.at(&repo.text))
        };
        let end = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let given = content_range(&response)
                    .map_err(|reason| Failure::fatal(repo.answer_error(what, format!("Content-Range: {reason}"))))?;
                self.check(repo, &given)?;
                if self.end.is_none_or(|end| given.bytes.end < end) && given.total == Some(given.bytes.end) {
                    // The blob is shorter than was asked for.
                    if self.end.is_some() {
                        return Err(no_range());
                    }
                    self.end = given.total;
                }
                Some(given.bytes.end)
            }
            StatusCode::OK if self.at == 0 => {
                let length = length(response.headers());
                match (self.end, length) {
                    (Some(end), Some(length)) if length < end => return Err(no_range()),
                    (None, length) => self.end = length,
                    _ => {}
                }
                None
            }
            StatusCode::OK => {
                return Err(Failure::fatal(
                    repo.answer_error(what, "the registry ignores Range, so nothing can be read from the middle"),
                ));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(no_range()),
            StatusCode::NOT_FOUND => {
                let source_name = repo.text.clone();
                return Err(Failure::fatal(
                    SourceFault::NotFound { object: "blob", digest: self.blob }.at(source_name),
                ));
            }
            _ => return Err(repo.refused(response, what, purpose).await),
        };
        Ok(Part { body: Body::of(response, what, repo.hub.wire.timing).map_err(Failure::fatal)?, end })
    }

    /// A part must begin where it was asked to, and may be shorter, as HTTP has it, but not longer.
    fn check(&self, repo: &Repo, given: &Given) -> Result<(), Failure> {
        let behind = self.end.is_some_and(|end| given.bytes.end > end);
        if given.bytes.start != self.at || behind || given.bytes.is_empty() {
            let reason = format!("bytes from {} on were asked for, {:?} came", self.at, given.bytes);
            return Err(Failure::fatal(repo.answer_error(&self.what, reason)));
        }
        Ok(())
    }
}

/// What a 206 says that it gives.
pub(super) struct Given {
    pub(super) bytes: Range<u64>,
    pub(super) total: Option<u64>,
}

fn content_range(response: &Response) -> Result<Given, &'static str> {
    let headers = response.headers();
    let multipart = |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/byteranges");
    if headers.get(CONTENT_TYPE).is_some_and(multipart) {
        return Err("several ranges came");
    }
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).ok_or("there is none")?;
    let given = parse_content_range(text).ok_or("malformed")?;
    match length(headers) {
        Some(length) if length != given.bytes.end.saturating_sub(given.bytes.start) => {
            Err("it does not fit the Content-Length")
        }
        _ => Ok(given),
    }
}

/// Parses `bytes FIRST-LAST/TOTAL`, where the total may be `*`.
pub(super) fn parse_content_range(text: &str) -> Option<Given> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let bytes = first..last.checked_add(1)?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let fits = first <= last && total.is_none_or(|total| bytes.end <= total);
    fits.then_some(Given { bytes, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_whole_or_nothing() {
        let given = parse_content_range("bytes 5-9/10").unwrap();
        assert_eq!((given.bytes, given.total), (5..10, Some(10)));
        assert_eq!(parse_content_range("bytes 0-0/*").unwrap().total, None);
        for text in [
            "",
            "bytes",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "bytes -1-4/10",
            "items 1-2/3",
            "bytes 1-18446744073709551615/*",
            "bytes 1-2",
        ] {
            assert!(parse_content_range(text).is_none(), "{text}");
        }
    }
}
