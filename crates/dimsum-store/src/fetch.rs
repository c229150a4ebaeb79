//! Flights: one per missing unit, however many readers wait for it.
//!
//! A flight starts in the queue of its feed, is taken into a request together with its neighbours, and ends when its bytes are
//! proven and written, or every source has failed. Readers join it at any time; while its bytes are being written they get them
//! from memory at once. Flights belong to one open image: another image that has the same device but another source does not wait
//! for this one's. Limits are per image and per device, so sources that hang take no slot of another image, and no thread at all.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_registry::Source;
use parking_lot::{Condvar, Mutex};

use crate::error::ReadError;
use crate::feed::Feed;
use crate::limits::{
    MAX_BRIDGE, MAX_DISTRUSTED, MAX_REQUEST, MAX_REQUEST_CHUNKS, MAX_REQUESTS_PER_DEVICE, MAX_REQUESTS_PER_IMAGE,
};
use crate::request::Request;
use crate::stats::{Counters, Event, add};
use crate::store::Inner;

/// A reader that waits for a unit. Gets the whole decoded unit.
pub(crate) type Waiter = Box<dyn FnOnce(Result<Bytes, ReadError>) + Send>;

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
    /// The store's own packs first.
    pub(crate) sources: Vec<Arc<dyn Source>>,
    pub(crate) feeds: Vec<Feed>,
    pub(crate) counters: Arc<Counters>,
    /// Reads that wait.
    pub(crate) parked: AtomicUsize,
    queue: Mutex<Queue>,
    /// Notified when the last flight has ended.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Flights of all feeds.
    flights: usize,
    feeds: Vec<FeedQueue>,
    /// Requests under way.
    active: usize,
    /// Where the search for the next device starts, so that none starves.
    turn: usize,
}

#[derive(Debug, Default)]
struct FeedQueue {
    flights: HashMap<u32, Flight>,
    /// Units in the order they were missed; those taken along by a neighbour's request are skipped.
    order: VecDeque<u32>,
    active: usize,
    /// Units whose frame in the store's own pack is wrong.
    distrusted: HashSet<u32>,
}

struct Flight {
    waiters: Vec<Waiter>,
    damaged: bool,
    since: Instant,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Queued,
    Asked,
    /// Proven, being written.
    Writing(Bytes),
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("waiters", &self.waiters.len()).finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(crate) fn new(
        store: Arc<Inner>,
        image: Digest,
        sources: Vec<Arc<dyn Source>>,
        feeds: Vec<Feed>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let queues = feeds.iter().map(|_| FeedQueue::default()).collect();
        let queue = Mutex::new(Queue { feeds: queues, ..Queue::default() });
        Arc::new(Self {
            store,
            image,
            sources,
            feeds,
            counters,
            parked: AtomicUsize::new(0),
            queue,
            idle: Condvar::new(),
        })
    }

    /// Joins or starts the flight of each miss, with a waiter made for it if somebody is to be called. All are known before the first request is cut, so
    /// neighbours go together.
    ///
    /// Returns the misses that may have been filled since they were looked up; with `force` none.
    pub(crate) fn join<M>(
        self: &Arc<Self>,
        misses: Vec<M>,
        force: bool,
        miss: impl Fn(&M) -> Miss,
        waiter: impl Fn(M) -> Option<Waiter>,
    ) -> Vec<M> {
        let (mut again, mut ready, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
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
                        let flight = Flight {
                            waiters: waiter(each).into_iter().collect(),
                            damaged: is_damaged,
                            since: Instant::now(),
                            stage: Stage::Queued,
                        };
                        feed_queue.flights.insert(unit, flight);
                        feed_queue.order.push_back(unit);
                        queue.flights += 1;
                        if is_damaged {
                            damaged.push(source.object(unit));
                        }
                    }
                }
            }
        }
        add(&self.counters.damage, damaged.len() as u64);
        for object in damaged {
            self.event(|| Event::Damaged { image: self.image, object });
        }
        for (waiter, bytes) in ready {
            if let Some(waiter) = waiter {
                call(waiter, Ok(bytes));
            }
        }
        self.pump();
        again
    }

    /// Starts as many requests as may run.
    pub(crate) fn pump(self: &Arc<Self>) {
        while let Some((feed, units)) = self.next_batch() {
            let request = Request::new(Arc::clone(self), feed, units);
            self.store.spawn(request.run());
        }
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
    }

    /// Gives proven bytes to everybody who waits; from now on who joins gets them too.
    pub(crate) fn proven(&self, feed: usize, unit: u32, bytes: &Bytes) {
        let waiters = {
            let mut queue = self.queue.lock();
            let flight = queue.feeds.get_mut(feed).and_then(|feed| feed.flights.get_mut(&unit));
            let Some(flight) = flight else { return };
            flight.stage = Stage::Writing(bytes.clone());
            std::mem::take(&mut flight.waiters)
        };
        for waiter in waiters {
            call(waiter, Ok(bytes.clone()));
        }
    }

    /// Says whether the flight of a unit was started because wrong bytes stood in its place.
    pub(crate) fn is_repair(&self, feed: usize, unit: u32) -> bool {
        let queue = self.queue.lock();
        let flight = queue.feeds.get(feed).and_then(|feed| feed.flights.get(&unit));
        flight.is_some_and(|flight| flight.damaged)
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

    /// Waits until no flight is left: what was fetched is in the files, or could not be written.
    pub(crate) fn wait_idle(&self) {
        let mut queue = self.queue.lock();
        while queue.flights > 0 {
            self.idle.wait(&mut queue);
        }
    }

    fn end(&self, feed: usize, unit: u32) -> Option<Flight> {
        let mut queue = self.queue.lock();
        let flight = queue.feeds.get_mut(feed).and_then(|feed| feed.flights.remove(&unit))?;
        queue.flights = queue.flights.saturating_sub(1);
        if queue.flights == 0 {
            self.idle.notify_all();
        }
        Some(flight)
    }

    /// Returns the units of a feed that have been queued for at least `age`: when a source hangs, they are not to wait once more
    /// for each request before them.
    pub(crate) fn queued_for(&self, feed: usize, age: Duration) -> Vec<u32> {
        let queue = self.queue.lock();
        let flights = queue.feeds.get(feed).into_iter().flat_map(|feed| &feed.flights);
        let old = |flight: &Flight| flight.stage == Stage::Queued && flight.since.elapsed() >= age;
        flights.filter(|(_, flight)| old(flight)).map(|(unit, _)| *unit).collect()
    }

    /// Remembers that the store's own pack has a wrong frame for this unit.
    pub(crate) fn distrust(&self, feed: usize, unit: u32) {
        if let Some(feed) = self.queue.lock().feeds.get_mut(feed) {
            if feed.distrusted.len() >= MAX_DISTRUSTED {
                feed.distrusted.clear();
            }
            feed.distrusted.insert(unit);
        }
    }

    /// Says whether it is remembered so.
    pub(crate) fn distrusts(&self, feed: usize, unit: u32) -> bool {
        self.queue.lock().feeds.get(feed).is_some_and(|feed| feed.distrusted.contains(&unit))
    }

    /// Tells the event sink, if there is one.
    pub(crate) fn event(&self, event: impl FnOnce() -> Event) {
        if let Some(sink) = &self.store.events {
            sink.event(&event());
        }
    }

    /// Takes the longest waiting unit of the next feed that may run, and its neighbours.
    fn next_batch(&self) -> Option<(usize, Vec<u32>)> {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        if queue.active >= MAX_REQUESTS_PER_IMAGE {
            return None;
        }
        let count = queue.feeds.len();
        // The meta first, then the devices in turn.
        let turns = std::iter::once(0).chain((0..count).map(|step| (queue.turn + step) % count));
        for feed_index in turns {
            let (Some(queued), Some(feed)) = (queue.feeds.get_mut(feed_index), self.feeds.get(feed_index)) else {
                continue;
            };
            if queued.active >= MAX_REQUESTS_PER_DEVICE {
                continue;
            }
            if let Some(units) = queued.take_batch(feed) {
                queued.active += 1;
                queue.active += 1;
                queue.turn = feed_index + 1;
                return Some((feed_index, units));
            }
        }
        None
    }
}

impl FeedQueue {
    fn is_queued(&self, unit: u32) -> bool {
        self.flights.get(&unit).is_some_and(|flight| flight.stage == Stage::Queued)
    }

    /// Takes the first queued unit with the queued units next to it, within the limits of one request.
    fn take_batch(&mut self, feed: &Feed) -> Option<Vec<u32>> {
        let seed = loop {
            let unit = self.order.pop_front()?;
            if self.is_queued(unit) {
                break unit;
            }
        };
        let mut span = feed.frame(seed);
        let (mut first, mut last) = (seed, seed);
        let fits = |span: &std::ops::Range<u64>| span.end - span.start <= MAX_REQUEST;
        while let Some(next) = last.checked_add(1).filter(|next| self.is_queued(*next)) {
            let wider = span.start..feed.frame(next).end.max(span.end);
            let gap = feed.frame(next).start.saturating_sub(span.end);
            if gap > MAX_BRIDGE || !fits(&wider) || (next - first) as usize >= MAX_REQUEST_CHUNKS {
                break;
            }
            (span, last) = (wider, next);
        }
        while let Some(before) = first.checked_sub(1).filter(|before| self.is_queued(*before)) {
            let wider = feed.frame(before).start.min(span.start)..span.end;
            let gap = span.start.saturating_sub(feed.frame(before).end);
            if gap > MAX_BRIDGE || !fits(&wider) || (last - before) as usize >= MAX_REQUEST_CHUNKS {
                break;
            }
            (span, first) = (wider, before);
        }
        let units: Vec<u32> = (first..=last).collect();
        for unit in &units {
            if let Some(flight) = self.flights.get_mut(unit) {
                flight.stage = Stage::Asked;
            }
        }
        Some(units)
    }
}

/// Calls a waiter. One that panics must not keep the next from its bytes.
fn call(waiter: Waiter, result: Result<Bytes, ReadError>) {
    drop(catch_unwind(AssertUnwindSafe(|| waiter(result))));
}
