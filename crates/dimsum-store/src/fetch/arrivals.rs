//! Frames that come in unasked: in the gaps of a joined request, or in the range of a fill.
//!
//! They are announced before they are asked for, so that a reader who misses one meanwhile waits for it instead of asking again.
//! What somebody waits for is decoded when it arrives; the rest is written as it came.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::{FrameOwner, Ticket};
use crate::disk::device::WriteFailure;
use crate::disk::frames::Keep;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::land;
use crate::fetch::origin::OriginState;

/// Parts of one feed that are on their way from one origin. Whatever happens to the answer, dropping this lets those who wait for a
/// part of it ask for themselves.
#[derive(Debug)]
pub(crate) struct Arrivals {
    fetcher: Arc<Fetcher>,
    feed: usize,
    origin: Arc<OriginState>,
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
        origin: &Arc<OriginState>,
        parts: impl Iterator<Item = u32>,
    ) -> Self {
        let announce = |id| fetcher.services().traffic().run(|core, _| core.announce(id, parts));
        let announced = fetcher.feed_id(feed).map_or_else(Vec::new, announce).into_iter().collect();
        let (fetcher, origin) = (Arc::clone(fetcher), Arc::clone(origin));
        Self { fetcher, feed, origin, announced, raw: Vec::new(), raw_bytes: 0 }
    }

    /// Takes a part that has arrived.
    pub(crate) fn arrived(&mut self, part: u32, frame: Bytes) {
        match self.owner(part) {
            FrameOwner::Reader(ticket) => {
                self.settle(part);
                land::handed(&self.fetcher, self.feed, ticket, frame, &self.origin);
            }
            FrameOwner::Another => {}
            FrameOwner::Nobody => {
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
            let Some(feed) = fetcher.feed(feed) else { return Ok(()) };
            let frames: Vec<(u64, Bytes)> =
                frames.iter().map(|(part, frame)| (feed.part(*part).start, frame.clone())).collect();
            feed.local().keep(&frames, Keep::Raw)
        });
        // Cancelled only with the runtime itself.
        let written = written.await.unwrap_or(Ok(()));
        for (part, frame) in raw.iter() {
            self.settle(*part);
            // Who came while it was being written had no file to find it in.
            if let FrameOwner::Reader(ticket) = self.owner(*part) {
                land::handed(&self.fetcher, self.feed, ticket, frame.clone(), &self.origin);
            }
        }
        written
    }

    /// From now on who misses a part finds it on the disk, or asks for it.
    fn settle(&mut self, part: u32) {
        if self.announced.remove(&part) {
            self.no_more(part);
        }
    }

    /// Whose a part is that is here.
    fn owner(&self, part: u32) -> FrameOwner {
        let owner = |id| self.fetcher.services().traffic().run(|core, _| core.arrived(id, part));
        self.fetcher.feed_id(self.feed).map_or(FrameOwner::Another, owner)
    }

    /// Says who waited for a part and has no other answer to wait for.
    fn no_more(&self, part: u32) -> Vec<Ticket> {
        let stranded = |id| self.fetcher.services().traffic().run(|core, _| core.arrives_no_more(id, part));
        self.fetcher.feed_id(self.feed).map_or_else(Vec::new, stranded)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        let announced = std::mem::take(&mut self.announced);
        let stranded: Vec<Ticket> = announced.into_iter().flat_map(|part| self.no_more(part)).collect();
        if !stranded.is_empty() {
            // They may be routes of other images, whose gap is theirs.
            self.fetcher.services().traffic().run(|core, effects| core.queue(&stranded, None, effects));
        }
    }
}
