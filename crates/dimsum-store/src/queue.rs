//! What flies for one open image: per feed its flights, what is queued, and what arrives unasked. State only; `fetch.rs` moves it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::error::{ReadError, SourceFailure};
use crate::feed::Feed;
use crate::limits::{MAX_DISTRUSTED, MAX_REQUEST, MAX_REQUEST_CHUNKS, MAX_REQUESTS_PER_DEVICE, MAX_REQUESTS_PER_IMAGE};

/// A reader that waits for a unit. Gets the whole decoded unit.
pub(crate) type Waiter = Box<dyn FnOnce(Result<Bytes, ReadError>) + Send>;

/// What went wrong with units.
pub(crate) type Failures = HashMap<u32, Vec<SourceFailure>>;

/// One missing unit on its way, however many readers wait for it.
pub(crate) struct Flight {
    pub(crate) waiters: Vec<Waiter>,
    /// Whether wrong bytes stand in the unit's place in the decoded file.
    pub(crate) damaged: bool,
    /// Whether the frame that this disk has of it is wrong.
    pub(crate) frame_is_wrong: bool,
    pub(crate) since: Instant,
    pub(crate) stage: Stage,
    /// What went wrong before it was queued.
    pub(crate) failures: Vec<SourceFailure>,
}

/// How far a flight is.
#[derive(PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its frame is looked for on this disk.
    Local,
    /// Its frame is in an answer that is coming in.
    Arriving,
    /// Waits for a request.
    Queued,
    /// In somebody's hands.
    Asked,
    /// Proven, being written.
    Writing(Bytes),
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("waiters", &self.waiters.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Flights of all feeds.
    pub(crate) flights: usize,
    /// Writes that no flight stands for.
    pub(crate) chores: usize,
    pub(crate) feeds: Vec<FeedQueue>,
    /// Requests under way.
    pub(crate) active: usize,
    /// Where the search for the next device starts, so that none starves.
    turn: usize,
}

#[derive(Debug, Default)]
pub(crate) struct FeedQueue {
    pub(crate) flights: HashMap<u32, Flight>,
    /// Units in the order they were queued; those taken along by a neighbour's request are skipped.
    order: VecDeque<u32>,
    /// The same by their places.
    queued: BTreeSet<u32>,
    /// Units in answers that come in without a flight, and in how many of them.
    pub(crate) arriving: HashMap<u32, u32>,
    pub(crate) active: usize,
    /// Units whose frame on this disk is wrong.
    distrusted: HashSet<u32>,
    /// Frames fetched for a whole pack that is to be mended; a try is under way if there are any.
    pub(crate) frames_to_mend: u64,
}

/// Units to be asked for together.
pub(crate) struct Batch {
    pub(crate) feed: usize,
    /// Ascending.
    pub(crate) units: Vec<u32>,
    /// What went wrong with them before.
    pub(crate) failures: Failures,
}

impl Queue {
    pub(crate) fn new(feeds: usize) -> Self {
        Self { feeds: (0..feeds).map(|_| FeedQueue::default()).collect(), ..Self::default() }
    }

    /// Says whether no reader waits for a source.
    pub(crate) fn is_quiet(&self) -> bool {
        self.active == 0 && self.feeds.iter().all(|feed| feed.queued.is_empty())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.flights == 0 && self.chores == 0
    }

    /// Takes the longest waiting unit of the next feed that may run, and those near it.
    pub(crate) fn next_batch(&mut self, feeds: &[Feed], gap: u64) -> Option<Batch> {
        if self.active >= MAX_REQUESTS_PER_IMAGE {
            return None;
        }
        let count = self.feeds.len();
        // The meta first, then the devices in turn.
        let turns = std::iter::once(0).chain((0..count).map(|step| (self.turn + step) % count));
        for feed_index in turns {
            let (Some(queued), Some(feed)) = (self.feeds.get_mut(feed_index), feeds.get(feed_index)) else {
                continue;
            };
            if queued.active >= MAX_REQUESTS_PER_DEVICE {
                continue;
            }
            if let Some((units, failures)) = queued.take_batch(feed, gap) {
                queued.active += 1;
                self.active += 1;
                self.turn = feed_index + 1;
                return Some(Batch { feed: feed_index, units, failures });
            }
        }
        None
    }
}

impl FeedQueue {
    /// Lets a flight wait for a request.
    pub(crate) fn enqueue(&mut self, unit: u32) {
        if let Some(flight) = self.flights.get_mut(&unit) {
            flight.stage = Stage::Queued;
            self.queued.insert(unit);
            self.order.push_back(unit);
        }
    }

    /// Takes a flight off the queue into somebody's hands, if it waits there or for an answer that is coming in.
    pub(crate) fn take_over(&mut self, unit: u32) -> Taken {
        match self.flights.get_mut(&unit) {
            None => Taken::Nobody,
            Some(flight) if matches!(flight.stage, Stage::Arriving | Stage::Queued) => {
                flight.stage = Stage::Asked;
                self.queued.remove(&unit);
                Taken::Reader
            }
            Some(_) => Taken::Another,
        }
    }

    /// An answer with this unit has ended; says whether a flight waits that no other answer brings.
    pub(crate) fn arriving_no_more(&mut self, unit: u32) -> bool {
        match self.arriving.get_mut(&unit) {
            Some(answers) if *answers > 1 => {
                *answers -= 1;
                false
            }
            _ => {
                self.arriving.remove(&unit);
                self.flights.get(&unit).is_some_and(|flight| flight.stage == Stage::Arriving)
            }
        }
    }

    pub(crate) fn remove(&mut self, unit: u32) -> Option<Flight> {
        self.queued.remove(&unit);
        self.flights.remove(&unit)
    }

    /// Remembers that the frame on this disk is wrong.
    pub(crate) fn distrust(&mut self, unit: u32) {
        if self.distrusted.len() >= MAX_DISTRUSTED {
            self.distrusted.clear();
        }
        self.distrusted.insert(unit);
    }

    pub(crate) fn trust(&mut self, unit: u32) {
        self.distrusted.remove(&unit);
    }

    pub(crate) fn trusts(&self, unit: u32) -> bool {
        !self.distrusted.contains(&unit)
    }

    /// Takes the first queued unit with the queued units around it, as long as at most `gap` bytes lie between two and one request
    /// holds them.
    fn take_batch(&mut self, feed: &Feed, gap: u64) -> Option<(Vec<u32>, Failures)> {
        let seed = loop {
            let unit = self.order.pop_front()?;
            if self.queued.contains(&unit) {
                break unit;
            }
        };
        let mut group = Group::new(feed, seed, if feed.keeps_frames() { gap } else { 0 });
        for next in self.queued.range(seed.saturating_add(1)..) {
            if !group.append(*next) {
                break;
            }
        }
        for before in self.queued.range(..seed).rev() {
            if !group.prepend(*before) {
                break;
            }
        }
        let mut failures = HashMap::new();
        let units: Vec<u32> = group.units.into();
        for unit in &units {
            self.queued.remove(unit);
            if let Some(flight) = self.flights.get_mut(unit) {
                flight.stage = Stage::Asked;
                if !flight.failures.is_empty() {
                    failures.insert(*unit, std::mem::take(&mut flight.failures));
                }
            }
        }
        Some((units, failures))
    }
}

/// Whose a frame is that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A reader's, whose flight is in the caller's hands now.
    Reader,
    /// Somebody else sees to it.
    Another,
    /// Nobody waits for it.
    Nobody,
}

/// Units of one feed that fit into one request.
pub(crate) struct Group<'a> {
    feed: &'a Feed,
    gap: u64,
    span: std::ops::Range<u64>,
    /// Ascending.
    pub(crate) units: VecDeque<u32>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(feed: &'a Feed, unit: u32, gap: u64) -> Self {
        Self { feed, gap, span: feed.frame(unit), units: VecDeque::from([unit]) }
    }

    /// Adds a unit behind the others, if it is near enough.
    pub(crate) fn append(&mut self, unit: u32) -> bool {
        let frame = self.feed.frame(unit);
        let parts = unit.saturating_sub(self.units.front().copied().unwrap_or(unit));
        let fits =
            self.fits(frame.start.saturating_sub(self.span.end), frame.end.max(self.span.end) - self.span.start, parts);
        if fits {
            self.span.end = frame.end.max(self.span.end);
            self.units.push_back(unit);
        }
        fits
    }

    /// Adds a unit before the others, if it is near enough.
    fn prepend(&mut self, unit: u32) -> bool {
        let frame = self.feed.frame(unit);
        let parts = self.units.back().copied().unwrap_or(unit).saturating_sub(unit);
        let fits = self.fits(
            self.span.start.saturating_sub(frame.end),
            self.span.end - frame.start.min(self.span.start),
            parts,
        );
        if fits {
            self.span.start = frame.start.min(self.span.start);
            self.units.push_front(unit);
        }
        fits
    }

    const fn fits(&self, gap: u64, length: u64, parts: u32) -> bool {
        gap <= self.gap && length <= MAX_REQUEST && (parts as usize) < MAX_REQUEST_CHUNKS
    }
}
