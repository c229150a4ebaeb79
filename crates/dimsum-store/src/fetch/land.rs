//! How frames become bytes: decoded and proven on the pool, given to their readers, then written.

use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::codec::Decompressor;
use dimsum_source::Source as _;
use tokio::sync::oneshot;

use crate::core::{ErrorReach, FlightFacts, Landing, Ticket};
use crate::disk::frames::Keep;
use crate::error::{FailureReason, ReadError, SourceFailure};
use crate::fetch::feed::UnitProof;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::mend;
use crate::fetch::origin::OriginState;
use crate::fetch::share::{self, SharedChunk, Want};
use crate::fetch::trace;
use crate::pool::Job;
use crate::stats::add;

/// Decodes the frame of a route that is on this disk; if it is not or is wrong, the route is queued.
pub(crate) fn local(fetcher: &Arc<Fetcher>, feed: usize, ticket: Ticket) {
    let flight = HeldRoute::new(fetcher, feed, ticket);
    submit(fetcher, feed, ticket.unit, Box::new(move |decompressor| flight.land_local(decompressor)));
}

/// Takes the chunk of a route from another device of this node; if none has it any more, or wrong, the route is queued.
pub(crate) fn sibling(fetcher: &Arc<Fetcher>, feed: usize, ticket: Ticket) {
    let flight = HeldRoute::new(fetcher, feed, ticket);
    submit(fetcher, feed, ticket.unit, Box::new(move |decompressor| flight.land_sibling(decompressor)));
}

/// Decodes a frame that came unasked for a route that waits for it; if it is wrong, the route is queued. The route may be another
/// image's, of the same device.
pub(crate) fn handed(fetcher: &Arc<Fetcher>, feed: usize, ticket: Ticket, frame: Bytes, origin: &Arc<OriginState>) {
    let (flight, origin) = (HeldRoute::new(fetcher, feed, ticket), Arc::clone(origin));
    let job = move |decompressor: &mut Decompressor| match land(
        &flight.fetcher,
        feed,
        ticket,
        &frame,
        origin.is_remote(),
        decompressor,
    ) {
        Ok(()) => flight.landed(),
        Err(reason) => {
            origin.demote();
            flight.refuse(origin.source.name(), reason, false);
            flight.queue();
        }
    };
    submit(fetcher, feed, ticket.unit, Box::new(job));
}

/// Decodes a frame of a request, which learns how that went.
pub(crate) fn asked(
    fetcher: &Arc<Fetcher>,
    feed: usize,
    ticket: Ticket,
    frame: Bytes,
    is_remote: bool,
) -> oneshot::Receiver<Result<(), FailureReason>> {
    let (give, take) = oneshot::channel();
    let owner = Arc::clone(fetcher);
    let job = move |decompressor: &mut Decompressor| {
        // The request is gone only if its task was cancelled; the unit's readers have got their bytes all the same.
        drop(give.send(land(&owner, feed, ticket, &frame, is_remote, decompressor)));
    };
    submit(fetcher, feed, ticket.unit, Box::new(job));
    take
}

fn submit(fetcher: &Arc<Fetcher>, feed: usize, unit: u32, job: Job) {
    let length = fetcher.feed(feed).map_or(0, |feed| feed.length(unit));
    fetcher.submit(length as u64, job);
}

/// Decodes and proves a frame, wakes its readers, then writes it: in this order, so that a full or slow disk costs readers nothing.
fn land(
    fetcher: &Arc<Fetcher>,
    feed_index: usize,
    ticket: Ticket,
    frame: &Bytes,
    is_remote: bool,
    decompressor: &mut Decompressor,
) -> Result<(), FailureReason> {
    let (Some(feed), unit) = (fetcher.feed(feed_index), ticket.unit) else { return Ok(()) };
    let bytes = decompressor.decompress(frame, feed.length(unit));
    let bytes = Bytes::from(bytes.map_err(|error| FailureReason::Frame(Arc::new(error)))?);
    let proof = feed.prove(unit, &bytes)?;
    let Some(facts) = deliver(fetcher, feed_index, ticket, &bytes, &proof) else { return Ok(()) };
    // What is known of the route's own frame says nothing of this one if the route is another image's.
    let mends = facts.frame_is_wrong && fetcher.feed_id(feed_index) == Some(ticket.feed);
    if is_remote || mends {
        let how = if mends { Keep::Mends } else { Keep::Proven };
        match feed.local().keep(&[(feed.frame(unit).start, frame.clone())], how) {
            Ok(()) if mends => {
                fetcher.services().traffic().run(|core, _| core.trust(ticket.feed, unit));
                mend::schedule(fetcher, feed_index);
            }
            Ok(()) => {}
            Err(failure) => fetcher.write_failed(failure),
        }
    }
    fetcher.landed(ticket);
    Ok(())
}

/// Gives proven bytes to their readers, then writes them; nothing if another route does.
fn deliver(
    fetcher: &Arc<Fetcher>,
    feed_index: usize,
    ticket: Ticket,
    bytes: &Bytes,
    proof: &UnitProof,
) -> Option<FlightFacts> {
    add(&fetcher.counters().chunks_verified, 1);
    trace::of_flight(fetcher, ticket, "the bytes are proven");
    let facts = match fetcher.proven(ticket, bytes) {
        Landing::First(facts) => facts,
        Landing::Second => return None,
        Landing::Alone => FlightFacts::default(),
    };
    let feed = fetcher.feed(feed_index)?;
    match feed.keep(ticket.unit, bytes, proof) {
        Ok(()) => fetcher.repaired(feed, ticket.unit, facts),
        Err(failure) => fetcher.write_failed(failure),
    }
    Some(facts)
}

/// A route that no request holds: whatever happens to the job that has it, it ends.
struct HeldRoute {
    fetcher: Arc<Fetcher>,
    feed: usize,
    ticket: Ticket,
    is_held: bool,
}

impl HeldRoute {
    fn new(fetcher: &Arc<Fetcher>, feed: usize, ticket: Ticket) -> Self {
        Self { fetcher: Arc::clone(fetcher), feed, ticket, is_held: true }
    }

    fn land_local(self, decompressor: &mut Decompressor) {
        let Some(feed) = self.fetcher.feed(self.feed) else { return };
        for found in feed.local().read(&feed.frame(self.ticket.unit)) {
            let landed = found.and_then(|frame| {
                trace::of_flight(&self.fetcher, self.ticket, "the frame is on this disk");
                add(&self.fetcher.counters().local_requests, 1);
                add(&self.fetcher.counters().local_bytes, frame.len() as u64);
                land(&self.fetcher, self.feed, self.ticket, &frame, false, decompressor)
            });
            match landed {
                Ok(()) => return self.landed(),
                // The owner of the files may have taken it away.
                Err(_) if !self.fetcher.services().role().is_owner() => {}
                Err(reason) => self.refuse(self.fetcher.services().packs().name(), reason, true),
            }
        }
        if self.fetcher.origins().is_empty() {
            // With an origin the frame is fetched again, and heals.
            self.share();
        } else {
            self.queue();
        }
    }

    fn land_sibling(self, decompressor: &mut Decompressor) {
        match share::take(&self.fetcher, self.feed, self.ticket.unit, Want::Bytes, decompressor) {
            Some(SharedChunk { bytes, proof, .. }) => {
                trace::of_flight(&self.fetcher, self.ticket, "another device of this node has the chunk");
                deliver(&self.fetcher, self.feed, self.ticket, &bytes, &proof);
                self.fetcher.landed(self.ticket);
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
        share::start(&self.fetcher, vec![(self.feed, self.ticket)]);
    }

    fn queue(mut self) {
        self.is_held = false;
        self.fetcher.queue(&[self.ticket]);
    }

    fn refuse(&self, source: &str, reason: FailureReason, local: bool) {
        let failure = SourceFailure { source_name: source.to_owned(), reason };
        self.fetcher.refuse((self.feed, self.ticket), failure, local);
    }
}

impl Drop for HeldRoute {
    /// The pool has ended, or the job panicked.
    fn drop(&mut self) {
        if self.is_held {
            self.fetcher.fail(self.ticket, &ReadError::Closed, ErrorReach::Everybody);
        }
    }
}
