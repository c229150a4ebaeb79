//! How frames become bytes: decoded and proven on the pool, given to their readers, then written.

use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::codec::Decompressor;
use dimsum_source::Source as _;
use tokio::sync::oneshot;

use crate::error::{FailureReason, ReadError, SourceFailure};
use crate::feed::Proof;
use crate::fetch::{Facts, Fetcher};
use crate::frames::Keep;
use crate::mend;
use crate::origin::Origin;
use crate::share::{self, Taken, Want};
use crate::stats::{Event, EventKind, add, source_failed};

/// Decodes the frame of a flight that is on this disk; if it is not or is wrong, the flight is queued.
pub(crate) fn local(fetcher: &Arc<Fetcher>, feed: usize, unit: u32) {
    let flight = Loose::new(fetcher, feed, unit);
    fetcher.store.pool.submit(Box::new(move |decompressor| flight.land_local(decompressor)));
}

/// Takes the chunk of a flight from another device of this node; if none has it any more, or wrong, the flight is queued.
pub(crate) fn sibling(fetcher: &Arc<Fetcher>, feed: usize, unit: u32) {
    let flight = Loose::new(fetcher, feed, unit);
    fetcher.store.pool.submit(Box::new(move |decompressor| flight.land_sibling(decompressor)));
}

/// Decodes a frame that came unasked for a flight that waits for it; if it is wrong, the flight is queued.
pub(crate) fn handed(fetcher: &Arc<Fetcher>, feed: usize, unit: u32, frame: Bytes, origin: &Arc<Origin>) {
    let (flight, origin) = (Loose::new(fetcher, feed, unit), Arc::clone(origin));
    fetcher.store.pool.submit(Box::new(move |decompressor| {
        match land(&flight.fetcher, feed, unit, &frame, origin.is_remote(), decompressor) {
            Ok(()) => flight.landed(),
            Err(reason) => {
                origin.demote();
                flight.refuse(origin.source.name(), reason, false);
                flight.queue();
            }
        }
    }));
}

/// Decodes a frame of a request, which learns how that went.
pub(crate) fn asked(
    fetcher: &Arc<Fetcher>,
    feed: usize,
    unit: u32,
    frame: Bytes,
    is_remote: bool,
) -> oneshot::Receiver<Result<(), FailureReason>> {
    let (give, take) = oneshot::channel();
    let fetcher = Arc::clone(fetcher);
    fetcher.clone().store.pool.submit(Box::new(move |decompressor| {
        // The request is gone only if its task was cancelled; the unit's readers have got their bytes all the same.
        drop(give.send(land(&fetcher, feed, unit, &frame, is_remote, decompressor)));
    }));
    take
}

/// Decodes and proves a frame, wakes its readers, then writes it: in this order, so that a full or slow disk costs readers nothing.
fn land(
    fetcher: &Arc<Fetcher>,
    feed_index: usize,
    unit: u32,
    frame: &Bytes,
    is_remote: bool,
    decompressor: &mut Decompressor,
) -> Result<(), FailureReason> {
    let Some(feed) = fetcher.feeds.get(feed_index) else { return Ok(()) };
    let bytes = decompressor.decompress(frame, feed.length(unit));
    let bytes = Bytes::from(bytes.map_err(|error| FailureReason::Frame(Arc::new(error)))?);
    let proof = feed.prove(unit, &bytes)?;
    let facts = deliver(fetcher, feed_index, unit, &bytes, &proof);
    if is_remote || facts.frame_is_wrong {
        let how = if facts.frame_is_wrong { Keep::Mends } else { Keep::Proven };
        match feed.local().keep(&[(feed.frame(unit).start, frame.clone())], how) {
            Ok(()) if facts.frame_is_wrong => {
                fetcher.with(feed_index, |queue| queue.trust(unit));
                mend::schedule(fetcher, feed_index);
            }
            Ok(()) => {}
            Err(failure) => fetcher.write_failed(failure),
        }
    }
    fetcher.land(feed_index, unit);
    Ok(())
}

/// Gives proven bytes to their readers, then writes them.
fn deliver(fetcher: &Arc<Fetcher>, feed_index: usize, unit: u32, bytes: &Bytes, proof: &Proof) -> Facts {
    add(&fetcher.counters.chunks_verified, 1);
    fetcher.proven(feed_index, unit, bytes);
    let facts = fetcher.facts(feed_index, unit);
    let Some(feed) = fetcher.feeds.get(feed_index) else { return facts };
    match feed.keep(unit, bytes, proof) {
        Ok(()) if facts.damaged => {
            add(&fetcher.counters.repairs, 1);
            fetcher.event(|| Event::new(EventKind::ChunkRepaired).image(fetcher.image).object(feed.object(unit)));
        }
        Ok(()) => {}
        Err(failure) => fetcher.write_failed(failure),
    }
    facts
}

/// A flight that no request holds: whatever happens to the job that has it, it ends.
struct Loose {
    fetcher: Arc<Fetcher>,
    feed: usize,
    unit: u32,
    is_held: bool,
}

impl Loose {
    fn new(fetcher: &Arc<Fetcher>, feed: usize, unit: u32) -> Self {
        Self { fetcher: Arc::clone(fetcher), feed, unit, is_held: true }
    }

    fn land_local(self, decompressor: &mut Decompressor) {
        let Some(feed) = self.fetcher.feeds.get(self.feed) else { return };
        for found in feed.local().read(&feed.frame(self.unit)) {
            let landed = found.and_then(|frame| {
                add(&self.fetcher.counters.local_requests, 1);
                add(&self.fetcher.counters.local_bytes, frame.len() as u64);
                land(&self.fetcher, self.feed, self.unit, &frame, false, decompressor)
            });
            match landed {
                Ok(()) => return self.landed(),
                Err(reason) => self.refuse(self.fetcher.store.packs.name(), reason, true),
            }
        }
        if self.fetcher.origins.is_empty() {
            // With an origin the frame is fetched again, and heals.
            self.share();
        } else {
            self.queue();
        }
    }

    fn land_sibling(self, decompressor: &mut Decompressor) {
        match share::take(&self.fetcher, self.feed, self.unit, Want::Bytes, decompressor) {
            Some(Taken { bytes, proof, .. }) => {
                deliver(&self.fetcher, self.feed, self.unit, &bytes, &proof);
                self.fetcher.land(self.feed, self.unit);
                self.landed();
            }
            None => self.queue(),
        }
    }

    fn landed(mut self) {
        self.is_held = false;
    }

    fn share(mut self) {
        self.is_held = false;
        self.fetcher.share(vec![(self.feed, self.unit)]);
    }

    fn queue(mut self) {
        self.is_held = false;
        self.fetcher.enqueue(&[(self.feed, self.unit)]);
    }

    fn refuse(&self, source: &str, reason: FailureReason, local: bool) {
        let failure = SourceFailure { source_name: source.to_owned(), reason };
        add(&self.fetcher.counters.source_failures, 1);
        if let Some(feed) = self.fetcher.feeds.get(self.feed) {
            let (image, object) = (self.fetcher.image, feed.object(self.unit));
            self.fetcher.event(|| source_failed(image, object, &failure));
        }
        self.fetcher.refused(self.feed, self.unit, failure, local);
    }
}

impl Drop for Loose {
    /// The pool has ended, or the job panicked.
    fn drop(&mut self) {
        if self.is_held {
            self.fetcher.fail(self.feed, self.unit, &ReadError::Closed);
        }
    }
}
