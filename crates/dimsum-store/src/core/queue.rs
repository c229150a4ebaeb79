//! What waits for requests: per feed its queued units, per image its feeds, and the slots of the whole process.
//!
//! Images take turns, and within an image the meta goes first, then the devices in turn. An image may use as many slots
//! as are free besides its own, and always one. Those that hang leave room for others, however many hang.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use super::flight::{Cargo, FeedId, ImageId, LaneId};
use super::plan::RequestGroup;
use crate::limits::{MAX_DISTRUSTED, MAX_REQUESTS_PER_DEVICE, MAX_REQUESTS_PER_IMAGE};

/// A feed's part of the state.
pub(super) struct FeedState<T: Cargo> {
    pub(super) image: ImageId,
    pub(super) lane: LaneId,
    pub(super) frames: T::Frames,
    /// Whether frames are kept as they come, so that those between two wanted ones are not wasted.
    pub(super) keeps_frames: bool,
    /// Units in the order they were queued; those taken along by a neighbour's request are skipped.
    order: VecDeque<u32>,
    /// The same by their places.
    queued: BTreeSet<u32>,
    /// Requests under way.
    active: usize,
    /// Units whose frame on this disk is wrong.
    distrusted: HashSet<u32>,
}

impl<T: Cargo> FeedState<T> {
    pub(super) fn new(image: ImageId, lane: LaneId, frames: T::Frames, keeps_frames: bool) -> Self {
        Self {
            image,
            lane,
            frames,
            keeps_frames,
            order: VecDeque::new(),
            queued: BTreeSet::new(),
            active: 0,
            distrusted: HashSet::new(),
        }
    }

    pub(super) fn push(&mut self, unit: u32) {
        if self.queued.insert(unit) {
            self.order.push_back(unit);
        }
    }

    pub(super) fn remove(&mut self, unit: u32) {
        self.queued.remove(&unit);
        if self.queued.is_empty() {
            self.order.clear();
        }
    }

    /// Remembers that the frame on this disk is wrong.
    pub(super) fn distrust(&mut self, unit: u32) {
        if self.distrusted.len() >= MAX_DISTRUSTED {
            self.distrusted.clear();
        }
        self.distrusted.insert(unit);
    }

    pub(super) fn trust(&mut self, unit: u32) {
        self.distrusted.remove(&unit);
    }

    pub(super) fn trusts(&self, unit: u32) -> bool {
        !self.distrusted.contains(&unit)
    }

    /// Takes the unit that was queued first, with those near it.
    fn take(&mut self, gap: u64) -> Option<Vec<u32>> {
        if self.active >= MAX_REQUESTS_PER_DEVICE {
            return None;
        }
        let seed = loop {
            let unit = self.order.pop_front()?;
            if self.queued.contains(&unit) {
                break unit;
            }
        };
        let gap = if self.keeps_frames { gap } else { 0 };
        let units = RequestGroup::around(&self.frames, seed, gap, &self.queued);
        for unit in &units {
            self.remove(*unit);
        }
        self.active += 1;
        Some(units)
    }
}

/// An image's part of the state.
pub(super) struct ImageState {
    /// The meta first.
    pub(super) feeds: Vec<FeedId>,
    /// Where it asks first; `None` if it has nobody to ask.
    pub(super) place: Option<u64>,
    /// Unwanted bytes between two frames that are fetched to save a request.
    pub(super) gap: u64,
    /// Flights that it takes part in.
    pub(super) flights: usize,
    /// Work on the store's files that no flight stands for.
    pub(super) chores: usize,
    /// Requests under way.
    active: usize,
    /// Where the search for the next device starts, so that none starves.
    turn: usize,
    is_in_line: bool,
}

impl ImageState {
    pub(super) const fn new(place: Option<u64>) -> Self {
        let feeds = Vec::new();
        Self { feeds, place, gap: 0, flights: 0, chores: 0, active: 0, turn: 0, is_in_line: false }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.flights == 0 && self.chores == 0
    }
}

/// Feeds, images, and the order in which they get slots.
pub(super) struct Queue<T: Cargo> {
    pub(super) feeds: HashMap<FeedId, FeedState<T>>,
    pub(super) images: HashMap<ImageId, ImageState>,
    /// Images with queued units, the next one first.
    line: VecDeque<ImageId>,
    active: usize,
    slots: usize,
}

impl<T: Cargo> Queue<T> {
    pub(super) fn new(slots: usize) -> Self {
        Self { feeds: HashMap::new(), images: HashMap::new(), line: VecDeque::new(), active: 0, slots }
    }

    /// Requests under way for all images.
    pub(super) const fn active(&self) -> usize {
        self.active
    }

    /// Lets a unit wait for a request.
    pub(super) fn push(&mut self, feed: FeedId, unit: u32) {
        let Some(state) = self.feeds.get_mut(&feed) else { return };
        state.push(unit);
        let image = state.image;
        if let Some(state) = self.images.get_mut(&image)
            && !std::mem::replace(&mut state.is_in_line, true)
        {
            self.line.push_back(image);
        }
    }

    pub(super) fn remove(&mut self, feed: FeedId, unit: u32) {
        if let Some(state) = self.feeds.get_mut(&feed) {
            state.remove(unit);
        }
    }

    /// Takes units for the next request, and the slot for it.
    pub(super) fn next(&mut self) -> Option<(FeedId, Vec<u32>)> {
        for _ in 0..self.line.len() {
            let image = self.line.pop_front()?;
            let taken = self.next_of(image);
            let waits = self.images.get(&image).is_some_and(|state| {
                state.feeds.iter().any(|feed| self.feeds.get(feed).is_some_and(|feed| !feed.queued.is_empty()))
            });
            if waits {
                self.line.push_back(image);
            } else if let Some(state) = self.images.get_mut(&image) {
                state.is_in_line = false;
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    fn next_of(&mut self, image: ImageId) -> Option<(FeedId, Vec<u32>)> {
        let state = self.images.get_mut(&image)?;
        let free = self.slots.saturating_sub(self.active);
        if state.active >= MAX_REQUESTS_PER_IMAGE || (state.active > 0 && state.active >= free) {
            return None;
        }
        let count = state.feeds.len();
        let turns = std::iter::once(0).chain((0..count).map(|step| (state.turn + step) % count.max(1)));
        for index in turns {
            let Some(feed) = state.feeds.get(index).copied() else { continue };
            let Some(units) = self.feeds.get_mut(&feed).and_then(|feed| feed.take(state.gap)) else { continue };
            state.turn = index + 1;
            state.active += 1;
            self.active += 1;
            return Some((feed, units));
        }
        None
    }

    /// A request of this feed has ended.
    pub(super) fn release(&mut self, feed: FeedId) {
        let Some(state) = self.feeds.get_mut(&feed) else { return };
        state.active = state.active.saturating_sub(1);
        if let Some(image) = self.images.get_mut(&state.image) {
            image.active = image.active.saturating_sub(1);
        }
        self.active = self.active.saturating_sub(1);
    }

    /// Says whether no reader of an image waits for a source.
    pub(super) fn is_quiet(&self, image: ImageId) -> bool {
        self.images.get(&image).is_none_or(|state| {
            let waits = |feed| self.feeds.get(feed).is_some_and(|feed: &FeedState<T>| !feed.queued.is_empty());
            state.active == 0 && !state.feeds.iter().any(waits)
        })
    }

    /// Forgets an image; returns its feeds. The slots of its requests are free.
    pub(super) fn forget(&mut self, image: ImageId) -> Vec<(FeedId, LaneId)> {
        let Some(state) = self.images.remove(&image) else { return Vec::new() };
        self.active = self.active.saturating_sub(state.active);
        self.line.retain(|waiting| *waiting != image);
        state.feeds.into_iter().filter_map(|id| Some((id, self.feeds.remove(&id)?.lane))).collect()
    }
}
