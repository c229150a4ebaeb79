//! An answer of an origin: a range of a blob that comes in pieces and leaves as the parts that lie in it.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use dimsum_source::SourceError;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use crate::error::FailureReason;
use crate::fetch::cutter::FrameCutter;
use crate::fetch::feed::Feed;
use crate::fetch::link::Timing;
use crate::fetch::origin::OriginState;
use crate::stats::add;

/// Which counters an answer counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerMeter<'a> {
    pub(crate) requests: &'a AtomicU64,
    pub(crate) bytes: &'a AtomicU64,
}

/// A request under way. Dropping it ends the request; what it taught of the link is learnt.
pub(crate) struct RangeAnswer<'a> {
    origin: &'a OriginState,
    feed: &'a Feed,
    meter: AnswerMeter<'a>,
    stream: BoxStream<'a, Result<Bytes, SourceError>>,
    cutter: FrameCutter,
    /// Bytes asked for.
    must: u64,
    allowed: Duration,
    asked: Instant,
    first: Option<Instant>,
    timing: Timing,
}

impl<'a> RangeAnswer<'a> {
    /// Asks for parts of a feed, to be there within `allowed`.
    pub(crate) fn ask(
        origin: &'a OriginState,
        feed: &'a Feed,
        parts: RangeInclusive<u32>,
        allowed: Duration,
        meter: AnswerMeter<'a>,
    ) -> Self {
        let (first, last) = parts.into_inner();
        let range = feed.part(first).start..feed.part(last).end;
        add(meter.requests, 1);
        Self {
            origin,
            feed,
            meter,
            must: range.end.saturating_sub(range.start),
            stream: origin.source.stream_range(feed.blob().digest, range),
            cutter: FrameCutter::new(first, last),
            allowed,
            asked: Instant::now(),
            first: None,
            timing: Timing::default(),
        }
    }

    /// Returns the next part, `None` after the last.
    ///
    /// # Errors
    /// Why the rest does not come.
    pub(crate) async fn next(&mut self) -> Result<Option<(u32, Bytes)>, FailureReason> {
        loop {
            if let Some(part) = self.cutter.next(self.feed) {
                return Ok(Some(part));
            }
            let is = self.bytes();
            if is == self.must {
                return Ok(None);
            }
            let piece = tokio::time::timeout_at(self.asked + self.allowed, self.stream.next()).await;
            let piece = piece.map_err(|_| FailureReason::Deadline(self.allowed))?;
            let piece = piece.ok_or(FailureReason::Length { is, must: self.must })?;
            let piece = piece.map_err(|error| FailureReason::Source(error.into()))?;
            self.count(piece.len() as u64);
            if self.bytes() > self.must {
                return Err(FailureReason::Length { is: self.bytes(), must: self.must });
            }
            self.cutter.push(piece);
        }
    }

    /// Returns how long ago it was asked, and how many bytes have come.
    pub(crate) fn so_far(&self) -> (Duration, u64) {
        (self.asked.elapsed(), self.bytes())
    }

    fn count(&mut self, bytes: u64) {
        add(self.meter.bytes, bytes);
        let now = Instant::now();
        match self.first {
            None => {
                self.first = Some(now);
                self.timing.first = now.duration_since(self.asked);
                self.timing.first_bytes = bytes;
            }
            Some(first) => {
                self.timing.rest = now.duration_since(first);
                self.timing.rest_bytes = self.timing.rest_bytes.saturating_add(bytes);
            }
        }
    }

    const fn bytes(&self) -> u64 {
        self.timing.first_bytes.saturating_add(self.timing.rest_bytes)
    }
}

impl Drop for RangeAnswer<'_> {
    fn drop(&mut self) {
        self.origin.link.observe(self.timing);
    }
}
