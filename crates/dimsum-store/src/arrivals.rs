//! Frames that come in unasked: in the gaps of a joined request, or in the range of a fill.
//!
//! They are announced before they are asked for, so that a reader who misses one meanwhile waits for it instead of asking again.
//! What somebody waits for is decoded when it arrives; the rest is written as it came.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::device::WriteFailure;
use crate::fetch::Fetcher;
use crate::frames::Keep;
use crate::land;
use crate::origin::Origin;
use crate::queue::Taken;

/// Parts of one feed that are on their way from one origin. Whatever happens to the answer, dropping this lets those who wait for a
/// part of it ask for themselves.
#[derive(Debug)]
pub(crate) struct Arrivals {
    fetcher: Arc<Fetcher>,
    feed: usize,
    origin: Arc<Origin>,
    /// Announced, and not written yet.
    announced: BTreeSet<u32>,
    /// Received, and not written yet.
    raw: Vec<(u32, Bytes)>,
    raw_bytes: u64,
}

impl Arrivals {
    /// Announces parts. Those that somebody has asked for already are his.
    pub(crate) fn announce(
        fetcher: &Arc<Fetcher>,
        feed: usize,
        origin: &Arc<Origin>,
        parts: impl Iterator<Item = u32>,
    ) -> Self {
        let announced = fetcher.with(feed, |queue| {
            let free: BTreeSet<u32> = parts.filter(|part| !queue.flights.contains_key(part)).collect();
            for part in &free {
                *queue.arriving.entry(*part).or_default() += 1;
            }
            free
        });
        let (fetcher, origin) = (Arc::clone(fetcher), Arc::clone(origin));
        Self { fetcher, feed, origin, announced: announced.unwrap_or_default(), raw: Vec::new(), raw_bytes: 0 }
    }

    /// Takes a part that has arrived.
    pub(crate) fn arrived(&mut self, part: u32, frame: Bytes) {
        let taken = self.fetcher.with(self.feed, |queue| queue.take_over(part));
        match taken.unwrap_or(Taken::Another) {
            Taken::Reader => {
                self.settle(part);
                land::handed(&self.fetcher, self.feed, part, frame, &self.origin);
            }
            Taken::Another => {}
            Taken::Nobody => {
                self.raw_bytes += frame.len() as u64;
                self.raw.push((part, frame));
            }
        }
    }

    /// Bytes that wait to be written.
    pub(crate) const fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Writes what nobody waits for, on a thread that may block.
    pub(crate) async fn write(&mut self) -> Result<(), WriteFailure> {
        let raw = Arc::new(std::mem::take(&mut self.raw));
        self.raw_bytes = 0;
        if raw.is_empty() {
            return Ok(());
        }
        let (fetcher, feed, frames, chore) =
            (Arc::clone(&self.fetcher), self.feed, Arc::clone(&raw), self.fetcher.chore());
        let written = tokio::task::spawn_blocking(move || {
            let _chore = chore;
            let Some(feed) = fetcher.feeds.get(feed) else { return Ok(()) };
            let frames: Vec<(u64, Bytes)> =
                frames.iter().map(|(part, frame)| (feed.part(*part).start, frame.clone())).collect();
            feed.local().keep(&frames, Keep::Raw)
        });
        // Cancelled only with the runtime itself.
        let written = written.await.unwrap_or(Ok(()));
        for (part, frame) in raw.iter() {
            self.settle(*part);
            // Who came while it was being written had no file to find it in.
            if self.fetcher.with(self.feed, |queue| queue.take_over(*part)) == Some(Taken::Reader) {
                land::handed(&self.fetcher, self.feed, *part, frame.clone(), &self.origin);
            }
        }
        written
    }

    /// From now on who misses a part finds it on the disk, or asks for it.
    fn settle(&mut self, part: u32) {
        if self.announced.remove(&part) {
            self.fetcher.with(self.feed, |queue| queue.arriving_no_more(part));
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        let stranded: Vec<(usize, u32)> = std::mem::take(&mut self.announced)
            .into_iter()
            .filter(|part| self.fetcher.with(self.feed, |queue| queue.arriving_no_more(*part)) == Some(true))
            .map(|part| (self.feed, part))
            .collect();
        if !stranded.is_empty() {
            self.fetcher.enqueue(&stranded);
        }
    }
}
