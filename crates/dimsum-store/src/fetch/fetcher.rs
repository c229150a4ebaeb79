//! What one open image has: sources, feeds, counters, and its part in the flights of the store.

use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_source::Source;
use tokio::sync::Notify;
use tracing::Span;

use crate::core::{ErrorReach, FeedId, FlightFacts, ImageId, Landing, Miss, Ticket};
use crate::disk::device::WriteFailure;
use crate::error::{ReadError, SourceFailure};
use crate::fetch::feed::Feed;
use crate::fetch::origin::Origins;
use crate::fetch::traffic::{Crew, Waiter};
use crate::pool::Job;
use crate::role::WriterLock;
use crate::services::Services;
use crate::stats::{Counters, Event, EventKind, add, source_failed};

/// Everything that fetches for one open image.
#[derive(Debug)]
pub(crate) struct Fetcher {
    services: Arc<Services>,
    image: Digest,
    /// Where bytes come from that this disk does not have.
    origins: Arc<Origins>,
    feeds: Vec<Feed>,
    counters: Arc<Counters>,
    id: ImageId,
    /// What the core calls the feeds.
    ids: Vec<FeedId>,
    /// Told when no reader waits for a source any more.
    quiet: Notify,
    /// Makes this process the owner of the store's files while the image is open.
    _writer: Arc<WriterLock>,
}

/// A unit that is not here, as an image sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissingUnit {
    /// Index of the feed.
    pub(crate) feed: usize,
    pub(crate) unit: u32,
    /// Whether wrong bytes stand in its place.
    pub(crate) damaged: bool,
    /// [`Feed::fills`] before the reader looked.
    pub(crate) seen: u64,
}

impl Fetcher {
    pub(crate) fn new(
        (services, writer): (&Arc<Services>, &Arc<WriterLock>),
        image: Digest,
        origins: &Arc<Origins>,
        feeds: Vec<Feed>,
        counters: &Arc<Counters>,
    ) -> Arc<Self> {
        let traffic = services.traffic();
        let entries = feeds.iter().map(|feed| {
            let lane = feed.lane().unwrap_or_else(|| traffic.lane());
            (lane, feed.table(), feed.keeps_frames())
        });
        let entries: Vec<_> = entries.collect();
        let (id, ids) = traffic.enter(origins.place(), entries.into_iter());
        Arc::new_cyclic(|this: &Weak<Self>| {
            services.traffic().man(id, this.clone() as Weak<dyn Crew>);
            Self {
                services: Arc::clone(services),
                image,
                origins: Arc::clone(origins),
                feeds,
                counters: Arc::clone(counters),
                id,
                ids,
                quiet: Notify::new(),
                _writer: Arc::clone(writer),
            }
        })
    }

    pub(crate) const fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(crate) const fn image(&self) -> Digest {
        self.image
    }

    /// What the core calls the image.
    pub(crate) const fn id(&self) -> ImageId {
        self.id
    }

    pub(crate) const fn origins(&self) -> &Arc<Origins> {
        &self.origins
    }

    pub(crate) fn feeds(&self) -> &[Feed] {
        &self.feeds
    }

    pub(crate) fn feed(&self, index: usize) -> Option<&Feed> {
        self.feeds.get(index)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) const fn shared_counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(crate) const fn quiet(&self) -> &Notify {
        &self.quiet
    }

    /// Adds the sources of another who opened the image.
    pub(crate) fn add_sources(&self, sources: &[Arc<dyn Source>]) {
        self.origins.add(sources);
        let place = self.origins.place();
        self.services.traffic().run(|core, _| core.moved(self.id, place));
    }

    /// What the core calls a feed.
    pub(crate) fn feed_id(&self, index: usize) -> Option<FeedId> {
        self.ids.get(index).copied()
    }

    /// Index of a feed by what the core calls it.
    pub(crate) fn index_of(&self, feed: FeedId) -> Option<usize> {
        self.ids.iter().position(|id| *id == feed)
    }

    /// Unwanted bytes that may be fetched between two frames to save a request, of the origin that is asked first.
    pub(crate) fn gap(&self) -> u64 {
        self.origins.list().first().map_or(0, |origin| origin.gap(self.services.joining()))
    }

    /// Joins or starts the flight of each miss, with a waiter made for it if somebody is to be called.
    ///
    /// Returns the misses that may have been filled since they were looked up; with `force` none.
    pub(crate) fn join<M>(
        &self,
        misses: Vec<M>,
        force: bool,
        miss: impl Fn(&M) -> MissingUnit,
        waiter: impl FnMut(M) -> Option<Waiter>,
    ) -> Vec<M> {
        let known = misses.into_iter().filter(|each| self.ids.len() > miss(each).feed).collect();
        let of_core = |each: &M| {
            let MissingUnit { feed, unit, damaged, seen } = miss(each);
            let feed = self.feed_id(feed).expect("those of other feeds were left out");
            Miss { feed, unit, damaged, seen }
        };
        let fills = |each: &M| self.feed(miss(each).feed).map_or(0, Feed::fills);
        // Whoever reads is in its span; from here on the flights carry that.
        let (now, cause) = (Instant::now(), Span::current());
        let looks = (of_core, fills);
        self.services.traffic().run(|core, effects| core.join(known, force, (now, &cause), looks, waiter, effects))
    }

    /// Lets flights of this image wait for a request.
    pub(crate) fn queue(&self, tickets: &[Ticket]) {
        if !tickets.is_empty() {
            let gap = self.gap();
            self.services.traffic().run(|core, effects| core.queue(tickets, Some(gap), effects));
        }
    }

    /// A request of this feed has ended.
    pub(crate) fn release(&self, feed: FeedId) {
        let gap = self.gap();
        self.services.traffic().run(|core, effects| core.release(feed, Some(gap), effects));
    }

    /// Says whether no reader of this image waits for a source.
    pub(crate) fn is_quiet(&self) -> bool {
        self.services.traffic().view(|core| core.is_quiet(self.id))
    }

    /// Gives proven bytes to everybody who waits; from now on who joins gets them too.
    pub(crate) fn proven(&self, ticket: Ticket, bytes: &Bytes) -> Landing {
        self.services.traffic().run(|core, effects| core.proven(ticket, bytes, effects))
    }

    /// Ends a flight whose bytes were written, or could not be.
    pub(crate) fn landed(&self, ticket: Ticket) {
        self.services.traffic().run(|core, effects| core.landed(ticket, effects));
    }

    /// Ends a route without bytes.
    pub(crate) fn fail(&self, ticket: Ticket, error: &ReadError, reach: ErrorReach) {
        self.services.traffic().run(|core, effects| core.fail(ticket, error, reach, effects));
    }

    /// Counts and tells what a source did wrong before a route was queued; `local` if it was this disk.
    pub(crate) fn refuse(&self, (feed, ticket): (usize, Ticket), failure: SourceFailure, local: bool) {
        add(&self.counters.source_failures, 1);
        if let Some(feed) = self.feed(feed) {
            let (image, object) = (self.image, feed.object(ticket.unit));
            self.event(|| source_failed(image, object, &failure));
        }
        self.services.traffic().run(|core, _| core.refused(ticket, failure, local));
    }

    /// Waits until no flight is left: what was fetched is in the files, or could not be written.
    pub(crate) fn wait_idle(&self) {
        self.services.traffic().wait_idle(self.id);
    }

    /// Starts a piece of work that [`Fetcher::wait_idle`] waits for.
    pub(crate) fn chore(self: &Arc<Self>) -> Chore {
        self.services.traffic().run(|core, _| core.chore(self.id));
        Chore(Arc::clone(self))
    }

    /// Queues work for the decoding threads, at the cost of some decoded bytes.
    pub(crate) fn submit(&self, cost: u64, job: Job) {
        self.services.pool().submit(self.id.into(), cost, job);
    }

    /// Tells the event sink, if there is one.
    pub(crate) fn event(&self, event: impl FnOnce() -> Event) {
        if let Some(sink) = self.services.events() {
            sink.event(event());
        }
    }

    /// A file of the store could not be written; nothing is cached there.
    pub(crate) fn write_failed(&self, (path, error): WriteFailure) {
        add(&self.counters.write_errors, 1);
        self.event(|| Event::new(EventKind::StoreWriteFailed).image(self.image).path(path).reason(error.kind()));
    }

    /// Counts a repair of wrong bytes on this disk, if that is what a landing was.
    pub(crate) fn repaired(&self, feed: &Feed, unit: u32, facts: FlightFacts) {
        if facts.damaged {
            add(&self.counters.repairs, 1);
            self.event(|| Event::new(EventKind::ChunkRepaired).image(self.image).object(feed.object(unit)));
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.services.traffic().leave(self.id);
    }
}

/// Work on the store's files that no flight stands for.
#[derive(Debug)]
pub(crate) struct Chore(Arc<Fetcher>);

impl Drop for Chore {
    fn drop(&mut self) {
        self.0.services.traffic().run(|core, effects| core.chore_done(self.0.id, effects));
    }
}
