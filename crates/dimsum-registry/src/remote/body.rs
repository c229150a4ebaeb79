//! Bodies of answers: read with a limit, and never slower than is accepted.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use dimsum_source::{SourceError, SourceFault};
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use serde::Deserialize;

use super::failure::{Failure, translate};
use super::origin::authority;
use super::timing::Timing;
use crate::fault::{RegistryFault, RegistryMessage};

/// Bytes of an error's body that are read: the documents of registries have a few hundred.
const MAX_ERROR_BODY: u64 = 16 << 10;
/// Letters of a registry's message that are shown.
const MAX_MESSAGE: usize = 300;
/// Memory that is taken at once for a body whose length only its sender vouches for.
const MAX_RESERVE: usize = 4 << 20;

/// A body as it arrives.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    host: String,
    what: String,
    timing: Timing,
    /// Time spent waiting, and bytes that came meanwhile.
    waited: Duration,
    came: u64,
}

impl Body {
    /// Takes the body of an answer.
    ///
    /// Nothing is ever decompressed: bytes are named by their digests as they are, and small bodies cannot grow.
    pub(super) fn of(response: Response, what: &str, timing: Timing) -> Result<Self, SourceError> {
        let host = authority(response.url());
        let encodings = response.headers().get_all(CONTENT_ENCODING);
        if encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let reason = "the answer has a Content-Encoding, which was not asked for".to_owned();
            return Err(RegistryFault::Answer { what: what.to_owned(), reason }.at(host));
        }
        Ok(Self { response, host, what: what.to_owned(), timing, waited: Duration::ZERO, came: 0 })
    }

    /// Returns the length that the answer claims.
    pub(super) fn length(&self) -> Option<u64> {
        length(self.response.headers())
    }

    /// Waits for the next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let started = Instant::now();
        let next = tokio::time::timeout(self.timing.idle, self.response.chunk()).await;
        self.waited += started.elapsed();
        let Ok(next) = next else { return Err(self.too_slow("no bytes came")) };
        let bytes = next.map_err(|error| Failure::passing(translate(&self.host, &self.what, error)))?;
        self.came += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.waited >= self.timing.idle {
            if self.came < self.timing.least {
                return Err(self.too_slow("too few bytes came"));
            }
            (self.waited, self.came) = (Duration::ZERO, 0);
        }
        Ok(bytes)
    }

    /// Reads all of a body of at most `limit` bytes. `Ok(None)` if it is longer.
    pub(super) async fn all(mut self, limit: u64) -> Result<Option<Bytes>, Failure> {
        if self.length().is_some_and(|length| length > limit) {
            return Ok(None);
        }
        let expected = self.length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut bytes = BytesMut::with_capacity(expected.min(MAX_RESERVE));
        while let Some(next) = self.next().await? {
            if (bytes.len() as u64).saturating_add(next.len() as u64) > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&next);
        }
        Ok(Some(bytes.freeze()))
    }

    fn too_slow(&self, reason: &'static str) -> Failure {
        let (host, what, after) = (self.host.clone(), self.what.clone(), self.timing.idle);
        Failure::passing(SourceFault::Deadline { what, reason, after }.at(host))
    }
}

/// Returns the `Content-Length` as it was sent, for HEAD too.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads what a registry says of an error; nothing if it says nothing that can be understood.
pub(super) async fn detail(response: Response, timing: Timing) -> Box<RegistryMessage> {
    let Ok(body) = Body::of(response, "error", timing) else { return Box::default() };
    // An endless error is not worth more than a silent one.
    match tokio::time::timeout(timing.idle, body.all(MAX_ERROR_BODY)).await {
        Ok(Ok(Some(bytes))) => Box::new(parse_detail(&bytes)),
        _ => Box::default(),
    }
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Refusal>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Refusal {
    code: String,
    message: String,
}

fn parse_detail(bytes: &[u8]) -> RegistryMessage {
    if let Ok(parsed) = serde_json::from_slice::<Errors>(bytes) {
        let first = parsed.errors.into_iter().next().unwrap_or_default();
        return RegistryMessage { code: tame(&first.code), message: tame(&first.message) };
    }
    // A line of plain text, as proxies give it.
    let text = str::from_utf8(bytes).unwrap_or_default().trim();
    let line = text.lines().next().filter(|_| !text.starts_with(['<', '{', '[']));
    RegistryMessage { code: String::new(), message: tame(line.unwrap_or_default()) }
}

/// Text from outside, fit for a terminal.
fn tame(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_cannot_control_a_terminal() {
        let detail = parse_detail(br#"{"errors": [{"code": "DENIED", "message": "no\u001b[2J\n", "detail": {}}]}"#);
        assert_eq!(detail.to_string(), " (DENIED: no[2J)");
        assert_eq!(parse_detail(b"<html>"), RegistryMessage::default());
        assert_eq!(parse_detail(br#"{"errors": []}"#), RegistryMessage::default());
        let long = format!(r#"{{"errors": [{{"message": "{}"}}]}}"#, "x".repeat(9999));
        assert_eq!(parse_detail(long.as_bytes()).message.len(), MAX_MESSAGE);
    }
}
