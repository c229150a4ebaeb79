//! Flights: one per missing unit, however many readers wait for it.
//!
//! ```text
//! join ─→ the frame on this disk? ─→ decode pool ─────────────────────────────────────────────→ proven ─→ written
//!   │            │ absent                                                                          ▲
//!   │            ├─→ the chunk in another device of this store (share.rs)? ─→ decode pool ─────────┤
//!   │            │ absent or wrong                                                                 │
//!   │            └─→ queue ─→ request with its neighbours, by cost ─→ origins, one after the other ┘
//!   └─→ in an answer that is coming in already (a fill, a bridged gap): waits for its frame ───────┘
//! ```
//!
//! Readers join a flight at any time; while its bytes are being written they get them from memory at once. Flights belong to one open
//! image: another image that has the same device but another source does not wait for this one's. Limits are per image and per
//! device, so sources that hang take no slot of another image, and no thread at all; what is on this disk needs no slot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimsum_format::Digest;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::error::{ReadError, SourceFailure};
use crate::feed::{Feed, META};
use crate::land;
use crate::origin::Origins;
use crate::queue::{Batch, FeedQueue, Flight, Queue, Stage, Waiter};
use crate::request::Request;
use crate::stats::{Counters, Event, EventKind, add};
use crate::store::Inner;

/// A unit that is not here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Miss {
    pub(crate) feed: usize,
    pub(crate) unit: u32,
    /// Whether wrong bytes stand in its place.
    pub(crate) damaged: bool,
    /// [`Feed::fills`] before the reader looked.
    pub(crate) seen: u64,
}

/// Everything that fetches for one open image.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) store: Arc<Inner>,
    pub(crate) image: Digest,
    /// Where bytes come from that this disk does not have.
    pub(crate) origins: Arc<Origins>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) counters: Arc<Counters>,
    /// Reads that wait.
    pub(crate) parked: AtomicUsize,
    /// Told when no reader waits for a source any more.
    pub(crate) quiet: Notify,
    queue: Mutex<Queue>,
    /// Notified when the last flight has ended.
    idle: Condvar,
}

/// What is known of a flight when its bytes are there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    /// Wrong bytes stand in its place in the decoded file.
    pub(crate) damaged: bool,
    /// The frame on this disk is wrong.
    pub(crate) frame_is_wrong: bool,
}

impl Fetcher {
    pub(crate) fn new(
        store: Arc<Inner>,
        image: Digest,
        origins: Arc<Origins>,
        feeds: Vec<Feed>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let queue = Mutex::new(Queue::new(feeds.len()));
        Arc::new(Self {
            store,
            image,
            origins,
            feeds,
            counters,
            parked: AtomicUsize::new(0),
            quiet: Notify::new(),
            queue,
            idle: Condvar::new(),
        })
    }

    /// Joins or starts the flight of each miss, with a waiter made for it if somebody is to be called. All are known before the first
    /// request is cut, so neighbours go together.
    ///
    /// Returns the misses that may have been filled since they were looked up; with `force` none.
    pub(crate) fn join<M>(
        self: &Arc<Self>,
        misses: Vec<M>,
        force: bool,
        miss: impl Fn(&M) -> Miss,
        waiter: impl Fn(M) -> Option<Waiter>,
    ) -> Vec<M> {
        let (mut again, mut ready, mut damaged, mut new) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        {
            let mut queue = self.queue.lock();
            let queue = &mut *queue;
            for each in misses {
                let Miss { feed, unit, damaged: is_damaged, seen } = miss(&each);
                let (Some(feed_queue), Some(source)) = (queue.feeds.get_mut(feed), self.feeds.get(feed)) else {
                    continue;
                };
                match feed_queue.flights.get_mut(&unit) {
                    Some(Flight { stage: Stage::Writing(bytes), .. }) => ready.push((waiter(each), bytes.clone())),
                    Some(flight) => flight.waiters.extend(waiter(each)),
                    None if !force && source.fills() != seen => again.push(each),
                    None => {
                        let arrives = feed_queue.arriving.contains_key(&unit);
                        let flight = Flight {
                            waiters: waiter(each).into_iter().collect(),
                            damaged: is_damaged,
                            frame_is_wrong: false,
                            since: Instant::now(),
                            stage: if arrives { Stage::Arriving } else { Stage::Local },
                            failures: Vec::new(),
                        };
                        feed_queue.flights.insert(unit, flight);
                        queue.flights += 1;
                        if !arrives {
                            new.push((feed, unit));
                        }
                        if is_damaged {
                            damaged.push(source.object(unit));
                        }
                    }
                }
            }
        }
        add(&self.counters.damage, damaged.len() as u64);
        for object in damaged {
            self.event(|| Event::new(EventKind::ChunkDamaged).image(self.image).object(object));
        }
        for (waiter, bytes) in ready {
            if let Some(waiter) = waiter {
                call(waiter, Ok(bytes));
            }
        }
        self.start(&new);
        again
    }

    /// Starts flights: those whose frame is on this disk are decoded, others are looked for in other devices, or queued. A look at the disk is a few bytes of a
    /// file for each, which the reader's thread does itself.
    fn start(self: &Arc<Self>, new: &[(usize, u32)]) {
        let (mut absent, mut remote) = (Vec::new(), Vec::new());
        for run in new.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((feed_index, feed)) = run.first().and_then(|(index, _)| Some((*index, self.feeds.get(*index)?)))
            else {
                continue;
            };
            let here = feed.local().open();
            for (_, unit) in run {
                // With no origin there is nothing to lose by looking once more at a frame that was wrong.
                let may = self.origins.is_empty() || self.with(feed_index, |queue| queue.trusts(*unit)) == Some(true);
                if may && here.has(&feed.frame(*unit)) {
                    land::local(self, feed_index, *unit);
                } else if may && feed_index != META {
                    absent.push((feed_index, *unit));
                } else {
                    // A wrong frame is fetched again whoever else has the chunk, so that the pack heals.
                    remote.push((feed_index, *unit));
                }
            }
        }
        self.enqueue(&remote);
        self.share(absent);
    }

    /// Lets flights wait for a request, and starts as many requests as may run.
    pub(crate) fn enqueue(self: &Arc<Self>, units: &[(usize, u32)]) {
        if units.is_empty() {
            return;
        }
        {
            let mut queue = self.queue.lock();
            for (feed, unit) in units {
                if let Some(feed) = queue.feeds.get_mut(*feed) {
                    feed.enqueue(*unit);
                }
            }
        }
        self.pump();
    }

    /// Starts as many requests as may run.
    fn pump(self: &Arc<Self>) {
        let gap = self.gap();
        while let Some(batch) = self.next_batch(gap) {
            let request = Request::new(Arc::clone(self), batch);
            self.store.spawn(request.run());
        }
    }

    fn next_batch(&self, gap: u64) -> Option<Batch> {
        self.queue.lock().next_batch(&self.feeds, gap)
    }

    /// A request of this feed has ended.
    pub(crate) fn release(self: &Arc<Self>, feed: usize) {
        {
            let mut queue = self.queue.lock();
            queue.active = queue.active.saturating_sub(1);
            if let Some(feed) = queue.feeds.get_mut(feed) {
                feed.active = feed.active.saturating_sub(1);
            }
        }
        self.pump();
        if self.is_quiet() {
            self.quiet.notify_waiters();
        }
    }

    /// Says whether no reader waits for a source.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.lock().is_quiet()
    }

    /// Unwanted bytes that may be fetched between two frames to save a request, of the origin that is asked first.
    fn gap(&self) -> u64 {
        self.origins.list().first().map_or(0, |origin| origin.gap(self.store.joining))
    }

    /// Gives proven bytes to everybody who waits; from now on who joins gets them too.
    pub(crate) fn proven(&self, feed: usize, unit: u32, bytes: &Bytes) {
        let waiters = self.with(feed, |queue| {
            let flight = queue.flights.get_mut(&unit)?;
            flight.stage = Stage::Writing(bytes.clone());
            Some(std::mem::take(&mut flight.waiters))
        });
        for waiter in waiters.flatten().into_iter().flatten() {
            call(waiter, Ok(bytes.clone()));
        }
    }

    /// Returns what is known of a flight.
    pub(crate) fn facts(&self, feed: usize, unit: u32) -> Facts {
        let facts = self.with(feed, |queue| {
            let Flight { damaged, frame_is_wrong, .. } = queue.flights.get(&unit)?;
            Some(Facts { damaged: *damaged, frame_is_wrong: *frame_is_wrong })
        });
        facts.flatten().unwrap_or_default()
    }

    /// Remembers that a source failed a flight before it was queued; `local` if it was this disk.
    pub(crate) fn refused(&self, feed: usize, unit: u32, failure: SourceFailure, local: bool) {
        self.with(feed, |queue| {
            if local {
                queue.distrust(unit);
            }
            if let Some(flight) = queue.flights.get_mut(&unit) {
                flight.frame_is_wrong |= local;
                flight.failures.push(failure);
            }
        });
    }

    /// Ends a flight whose bytes were written, or could not be.
    pub(crate) fn land(&self, feed: usize, unit: u32) {
        // Nobody waits any more: since the bytes were proven, who came got them at once.
        drop(self.end(feed, unit));
    }

    /// Ends a flight without bytes.
    pub(crate) fn fail(&self, feed: usize, unit: u32, error: &ReadError) {
        let flight = self.end(feed, unit);
        for waiter in flight.into_iter().flat_map(|flight| flight.waiters) {
            call(waiter, Err(error.clone()));
        }
    }

    fn end(&self, feed: usize, unit: u32) -> Option<Flight> {
        let mut queue = self.queue.lock();
        let flight = queue.feeds.get_mut(feed).and_then(|feed| feed.remove(unit))?;
        queue.flights = queue.flights.saturating_sub(1);
        if queue.is_idle() {
            self.idle.notify_all();
        }
        Some(flight)
    }

    /// Waits until no flight is left: what was fetched is in the files, or could not be written.
    pub(crate) fn wait_idle(&self) {
        let mut queue = self.queue.lock();
        while !queue.is_idle() {
            self.idle.wait(&mut queue);
        }
    }

    /// Starts a piece of work that [`Fetcher::wait_idle`] waits for.
    pub(crate) fn chore(self: &Arc<Self>) -> Chore {
        self.queue.lock().chores += 1;
        Chore(Arc::clone(self))
    }

    /// Returns the units of a feed that have been queued for at least `age`: when a source hangs, they are not to wait once more
    /// for each request before them.
    pub(crate) fn queued_for(&self, feed: usize, age: Duration) -> Vec<u32> {
        let queue = self.queue.lock();
        let flights = queue.feeds.get(feed).into_iter().flat_map(|feed| &feed.flights);
        let old = |flight: &Flight| flight.stage == Stage::Queued && flight.since.elapsed() >= age;
        flights.filter(|(_, flight)| old(flight)).map(|(unit, _)| *unit).collect()
    }

    /// Looks at, or changes, the queue of a feed.
    pub(crate) fn with<T>(&self, feed: usize, look: impl FnOnce(&mut FeedQueue) -> T) -> Option<T> {
        self.queue.lock().feeds.get_mut(feed).map(look)
    }

    /// Tells the event sink, if there is one.
    pub(crate) fn event(&self, event: impl FnOnce() -> Event) {
        if let Some(sink) = &self.store.events {
            sink.event(event());
        }
    }

    /// A file of the store could not be written; nothing is cached there.
    pub(crate) fn write_failed(&self, (path, error): crate::device::WriteFailure) {
        add(&self.counters.write_errors, 1);
        self.event(|| Event::new(EventKind::StoreWriteFailed).image(self.image).path(path).reason(error.kind()));
    }
}

/// Work on the store's files that no flight stands for.
#[derive(Debug)]
pub(crate) struct Chore(Arc<Fetcher>);

impl Drop for Chore {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.chores = queue.chores.saturating_sub(1);
        if queue.is_idle() {
            self.0.idle.notify_all();
        }
    }
}

/// Calls a waiter. One that panics must not keep the next from its bytes.
fn call(waiter: Waiter, result: Result<Bytes, ReadError>) {
    drop(catch_unwind(AssertUnwindSafe(|| waiter(result))));
}
