//! The state of what is on its way: flights, queues, slots. Commands go in, effects come out.
//!
//! ```text
//! join ─→ Local ─┬─→ proven ─→ written          a unit that is missing has one flight, however many readers of however many images
//!   │            └─→ Queued ─→ Asked ─→ proven   wait for it; each image that takes part has a route in it
//!   └─→ Arriving ─→ Asked ─→ proven
//! ```
//!
//! A flight has one route for each image that reads the unit. An image waits for the route of another if that one only looks at this
//! disk, or asks the same place as it would itself. If it asks another place, both ask: a source that hangs delays no image that does
//! not use it. The first route that brings right bytes answers everybody; when one fails, those that waited for it go on themselves.
//!
//! A reader may join a flight whose source has failed already. So an error reaches the readers whose time is over, or who joined
//! before the try that failed (`fail.rs`). For the rest the route is tried once more, for all of them together.
//!
//! There is no I/O here, no lock, no thread and no clock. Whoever calls holds the lock, and carries out the effects after letting it
//! go.

mod admission;
mod fail;
mod fair;
mod flight;
mod join;
#[cfg(test)]
mod model;
mod plan;
mod queue;
#[cfg(test)]
mod random;
mod view;
#[cfg(test)]
mod world;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use admission::Admission;
pub(crate) use fail::ErrorReach;
pub(crate) use fair::FairQueue;
pub(crate) use flight::{
    Cargo, FeedId, FlightFacts, FrameOwner, FrameTable, ImageId, Landing, LaneId, RouteStage, Ticket,
};
pub(crate) use join::Miss;
pub(crate) use plan::RequestGroup;

use flight::{Flight, FlightWaiter, Route};
use queue::{FeedState, ImageState, Queue};

/// What is to be done after a command.
pub(crate) enum Effect<T: Cargo> {
    /// A reader is to be answered.
    Answer(T::Waiter, Result<T::Bytes, T::Error>),
    /// The unit is to be looked for on this disk; whoever does it calls `queue` if it is not there.
    Look(Ticket),
    /// A reader waits for a route from now on, which it has started if that is true; for records.
    Joined(Ticket, bool, T::Cause),
    /// Wrong bytes were found on this disk in the place of a unit.
    Damaged(FeedId, u32),
    /// A request is to be sent; it has a slot, which `release` gives back.
    Ask(RequestBatch<T>),
    /// An image has no flight and no chore any more, or no reader that waits for a source.
    Calm(ImageId),
}

/// Routes of one feed to be asked for together.
pub(crate) struct RequestBatch<T: Cargo> {
    /// Of the request, for records.
    pub(crate) number: u64,
    pub(crate) image: ImageId,
    pub(crate) feed: FeedId,
    /// Ascending by unit, with what went wrong before.
    pub(crate) routes: Vec<(Ticket, Vec<T::Failure>)>,
    /// Whether all of them were asked for before, in vain.
    pub(crate) is_retry: bool,
}

/// Effects in the order in which they came up.
pub(crate) type Effects<T> = Vec<Effect<T>>;

/// Units with one name for all images.
struct Lane<T: Cargo> {
    flights: HashMap<u32, Flight<T>>,
    /// Units in answers that come in without a flight: by which feed, and in how many answers.
    arriving: HashMap<u32, Vec<(FeedId, u32)>>,
    /// Feeds that lead here.
    feeds: usize,
}

/// All flights of a store.
pub(crate) struct FlightCore<T: Cargo> {
    lanes: HashMap<LaneId, Lane<T>>,
    queue: Queue<T>,
    last_id: u64,
}

impl<T: Cargo> FlightCore<T> {
    /// `slots` requests may be under way for all images together.
    pub(crate) fn new(slots: usize) -> Self {
        Self { lanes: HashMap::new(), queue: Queue::new(slots), last_id: 0 }
    }

    const fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Makes a lane for units that nobody has named before.
    pub(crate) const fn lane(&mut self) -> LaneId {
        LaneId(self.next_id())
    }

    /// Takes in an image that asks `place` first.
    pub(crate) fn enter(&mut self, place: Option<u64>) -> ImageId {
        let image = ImageId(self.next_id());
        self.queue.images.insert(image, ImageState::new(place));
        image
    }

    /// Adds a feed to an image; the first one is its meta.
    pub(crate) fn add_feed(&mut self, image: ImageId, lane: LaneId, frames: T::Frames, keeps_frames: bool) -> FeedId {
        let id = FeedId(self.next_id());
        self.queue.feeds.insert(id, FeedState::new(image, lane, frames, keeps_frames));
        if let Some(state) = self.queue.images.get_mut(&image) {
            state.feeds.push(id);
        }
        let new = || Lane { flights: HashMap::new(), arriving: HashMap::new(), feeds: 0 };
        self.lanes.entry(lane).or_insert_with(new).feeds += 1;
        id
    }

    /// The image asks another place first now.
    pub(crate) fn moved(&mut self, image: ImageId, place: Option<u64>) {
        if let Some(state) = self.queue.images.get_mut(&image) {
            state.place = place;
        }
    }

    /// The frames of a feed turned out to lie elsewhere.
    pub(crate) fn reframe(&mut self, feed: FeedId, frames: T::Frames) {
        if let Some(state) = self.queue.feeds.get_mut(&feed) {
            state.frames = frames;
        }
    }

    /// An image was closed: its readers, if there are any, get `closed`, and others that waited for its routes go on themselves.
    pub(crate) fn leave(&mut self, image: ImageId, closed: &T::Error, effects: &mut Effects<T>) {
        let feeds = self.queue.images.get(&image).map(|state| state.feeds.clone()).unwrap_or_default();
        let mut stranded = Vec::new();
        for feed in &feeds {
            let Some(lane) = self.queue.feeds.get(feed).map(|state| state.lane) else { continue };
            let units: Vec<u32> = self.lanes.get(&lane).map_or_else(Vec::new, |lane| {
                let takes_part = |flight: &Flight<T>| flight.routes.iter().any(|route| route.ticket.feed == *feed);
                lane.flights.iter().filter(|(_, flight)| takes_part(flight)).map(|(unit, _)| *unit).collect()
            });
            for unit in units {
                self.leave_flight(lane, *feed, unit, closed, effects);
            }
            if let Some(state) = self.lanes.get_mut(&lane) {
                let of_feed = |answers: &Vec<(FeedId, u32)>| answers.iter().any(|(by, _)| by == feed);
                let units: Vec<u32> =
                    state.arriving.iter().filter(|(_, answers)| of_feed(answers)).map(|(unit, _)| *unit).collect();
                state.arriving.retain(|_, answers| {
                    answers.retain(|(by, _)| by != feed);
                    !answers.is_empty()
                });
                stranded.extend(units.into_iter().flat_map(|unit| self.stranded(lane, unit)));
            }
        }
        for (_, lane) in self.queue.forget(image) {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.feeds = state.feeds.saturating_sub(1);
                if state.feeds == 0 {
                    self.lanes.remove(&lane);
                }
            }
        }
        self.queue(&stranded, None, effects);
        effects.push(Effect::Calm(image));
    }

    fn leave_flight(&mut self, lane: LaneId, feed: FeedId, unit: u32, closed: &T::Error, effects: &mut Effects<T>) {
        let Some(flight) = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&unit)) else { return };
        let gone: Vec<FlightWaiter<T>> = flight.waiters.extract_if(.., |each| each.feed == feed).collect();
        effects.extend(gone.into_iter().map(|each| Effect::Answer(each.waiter, Err(closed.clone()))));
        let wrote = flight.routes.iter().any(|r| r.ticket.feed == feed && r.stage == RouteStage::Writing);
        flight.routes.retain(|route| route.ticket.feed != feed);
        self.queue.remove(feed, unit);
        if let Some(image) = self.queue.feeds.get(&feed).map(|state| state.image)
            && let Some(state) = self.queue.images.get_mut(&image)
        {
            state.flights = state.flights.saturating_sub(1);
        }
        if wrote {
            // Everybody has the bytes, and nobody else would end it.
            self.end(lane, unit, effects);
        } else {
            self.go_on(lane, unit, effects);
        }
    }

    /// Lets routes wait for a request, and starts as many requests as may run. `gap` is what the image's first source costs now.
    pub(crate) fn queue(&mut self, tickets: &[Ticket], gap: Option<u64>, effects: &mut Effects<T>) {
        for ticket in tickets {
            let Some(lane) = self.lane_of(*ticket) else { continue };
            let Some(flight) = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&ticket.unit)) else {
                continue;
            };
            if flight.proven.is_some() {
                continue;
            }
            let Some(route) = flight.route(*ticket) else { continue };
            route.stage = RouteStage::Queued;
            self.queue.push(ticket.feed, ticket.unit);
            self.set_gap(ticket.feed, gap);
            self.go_on(lane, ticket.unit, effects);
        }
        self.pump(effects);
    }

    fn set_gap(&mut self, feed: FeedId, gap: Option<u64>) {
        if let Some(gap) = gap
            && let Some(image) = self.queue.feeds.get(&feed).map(|feed| feed.image)
            && let Some(image) = self.queue.images.get_mut(&image)
        {
            image.gap = gap;
        }
    }

    /// Starts as many requests as may run.
    fn pump(&mut self, effects: &mut Effects<T>) {
        while let Some((feed, units)) = self.queue.next() {
            let Some(state) = self.queue.feeds.get(&feed) else { continue };
            let (image, lane) = (state.image, state.lane);
            let Some(lane) = self.lanes.get_mut(&lane) else { continue };
            let (mut routes, mut is_retry) = (Vec::with_capacity(units.len()), true);
            for unit in units {
                let Some(flight) = lane.flights.get_mut(&unit) else { continue };
                let queued = |route: &&mut Route<T>| route.ticket.feed == feed && route.stage == RouteStage::Queued;
                if let Some(route) = flight.routes.iter_mut().find(queued) {
                    route.stage = RouteStage::Asked;
                    is_retry &= route.is_retry;
                    routes.push((route.ticket, std::mem::take(&mut route.failures)));
                }
            }
            let number = self.next_id();
            effects.push(Effect::Ask(RequestBatch { number, image, feed, routes, is_retry }));
        }
    }

    /// A request of this feed has ended.
    pub(crate) fn release(&mut self, feed: FeedId, gap: Option<u64>, effects: &mut Effects<T>) {
        let image = self.queue.feeds.get(&feed).map(|feed| feed.image);
        self.queue.release(feed);
        self.set_gap(feed, gap);
        self.pump(effects);
        effects.extend(image.filter(|image| self.queue.is_quiet(*image)).map(Effect::Calm));
    }

    /// Takes proven bytes: everybody who waits is answered, and whoever joins before [`FlightCore::landed`] too.
    pub(crate) fn proven(&mut self, ticket: Ticket, bytes: &T::Bytes, effects: &mut Effects<T>) -> Landing {
        let lane = self.lane_of(ticket).and_then(|lane| self.lanes.get_mut(&lane));
        let Some(flight) = lane.and_then(|lane| lane.flights.get_mut(&ticket.unit)) else { return Landing::Alone };
        if flight.proven.is_some() {
            return Landing::Second;
        }
        let damaged = flight.damaged;
        let Some(route) = flight.route(ticket) else { return Landing::Alone };
        route.stage = RouteStage::Writing;
        let facts = FlightFacts { damaged, frame_is_wrong: route.frame_is_wrong };
        flight.proven = Some(bytes.clone());
        let waiters = std::mem::take(&mut flight.waiters);
        effects.extend(waiters.into_iter().map(|each| Effect::Answer(each.waiter, Ok(bytes.clone()))));
        Landing::First(facts)
    }

    /// Ends a flight whose bytes were written, or could not be.
    pub(crate) fn landed(&mut self, ticket: Ticket, effects: &mut Effects<T>) {
        let Some(lane) = self.lane_of(ticket) else { return };
        let flight = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&ticket.unit));
        let writes = flight.and_then(|flight| flight.route(ticket)).is_some_and(|r| r.stage == RouteStage::Writing);
        if writes {
            self.end(lane, ticket.unit, effects);
        }
    }

    /// Remembers that a source failed a route before it was queued; `local` if it was this disk.
    pub(crate) fn refused(&mut self, ticket: Ticket, failure: T::Failure, local: bool) {
        if local && let Some(feed) = self.queue.feeds.get_mut(&ticket.feed) {
            feed.distrust(ticket.unit);
        }
        if let Some(route) = self.route(ticket) {
            route.frame_is_wrong |= local;
            route.failures.push(failure);
        }
    }

    /// Notes who is asked, for those who look at flights.
    pub(crate) fn asks(&mut self, tickets: &[Ticket], source: &Arc<str>) {
        for ticket in tickets {
            if let Some(route) = self.route(*ticket) {
                route.source = Some(Arc::clone(source));
                route.attempts = route.attempts.saturating_add(1);
            }
        }
    }

    /// Returns who started a route; nothing if it has ended.
    pub(crate) fn cause(&self, ticket: Ticket) -> Option<&T::Cause> {
        let flight = self.lanes.get(&self.lane_of(ticket)?)?.flights.get(&ticket.unit)?;
        flight.routes.iter().find(|route| route.ticket.number == ticket.number).map(|route| &route.cause)
    }

    /// Announces units that come in unasked. Returns those that nobody has a flight for.
    pub(crate) fn announce(&mut self, feed: FeedId, units: impl Iterator<Item = u32>) -> Vec<u32> {
        let lane = self.queue.feeds.get(&feed).map(|state| state.lane);
        let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(&lane)) else { return Vec::new() };
        let free: Vec<u32> = units.filter(|unit| !lane.flights.contains_key(unit)).collect();
        for unit in &free {
            let answers = lane.arriving.entry(*unit).or_default();
            match answers.iter_mut().find(|(by, _)| *by == feed) {
                Some((_, count)) => *count += 1,
                None => answers.push((feed, 1)),
            }
        }
        free
    }

    /// A frame has come in: says whose it is.
    pub(crate) fn arrived(&mut self, feed: FeedId, unit: u32) -> FrameOwner {
        let lane = self.queue.feeds.get(&feed).map(|state| state.lane);
        let Some(lane) = lane.and_then(|lane| self.lanes.get_mut(&lane)) else { return FrameOwner::Another };
        let Some(flight) = lane.flights.get_mut(&unit) else { return FrameOwner::Nobody };
        let waits = |route: &&mut Route<T>| matches!(route.stage, RouteStage::Arriving | RouteStage::Queued);
        if flight.proven.is_some() {
            return FrameOwner::Another;
        }
        let Some(route) = flight.routes.iter_mut().find(waits) else { return FrameOwner::Another };
        route.stage = RouteStage::Asked;
        self.queue.remove(route.ticket.feed, unit);
        FrameOwner::Reader(route.ticket)
    }

    /// An answer with this unit has ended. Returns routes that waited for it and have no other answer to wait for: to be queued.
    pub(crate) fn arrives_no_more(&mut self, feed: FeedId, unit: u32) -> Vec<Ticket> {
        let Some(lane_id) = self.queue.feeds.get(&feed).map(|state| state.lane) else { return Vec::new() };
        let Some(lane) = self.lanes.get_mut(&lane_id) else { return Vec::new() };
        if let Some(answers) = lane.arriving.get_mut(&unit) {
            for (by, count) in answers.iter_mut() {
                if *by == feed {
                    *count = count.saturating_sub(1);
                }
            }
            answers.retain(|(_, count)| *count > 0);
            if answers.is_empty() {
                lane.arriving.remove(&unit);
            }
        }
        self.stranded(lane_id, unit)
    }

    /// Returns routes that wait for an answer that does not come.
    fn stranded(&self, lane: LaneId, unit: u32) -> Vec<Ticket> {
        let Some(lane) = self.lanes.get(&lane) else { return Vec::new() };
        let Some(flight) = lane.flights.get(&unit) else { return Vec::new() };
        let left = lane.arriving.get(&unit).map_or(&[][..], Vec::as_slice);
        let arriving = flight.routes.iter().filter(|route| route.stage == RouteStage::Arriving);
        let stranded =
            arriving.filter(|route| !left.iter().any(|(by, _)| self.queue.may_wait_for(route.ticket.feed, *by)));
        stranded.map(|route| route.ticket).collect()
    }

    /// Starts a piece of work that counts as business of an image.
    pub(crate) fn chore(&mut self, image: ImageId) {
        if let Some(state) = self.queue.images.get_mut(&image) {
            state.chores += 1;
        }
    }

    /// It has ended.
    pub(crate) fn chore_done(&mut self, image: ImageId, effects: &mut Effects<T>) {
        if let Some(state) = self.queue.images.get_mut(&image) {
            state.chores = state.chores.saturating_sub(1);
            if state.is_idle() {
                effects.push(Effect::Calm(image));
            }
        }
    }

    /// Says whether an image has no flight and no chore.
    pub(crate) fn is_idle(&self, image: ImageId) -> bool {
        self.queue.images.get(&image).is_none_or(ImageState::is_idle)
    }

    /// Says whether no reader of an image waits for a source.
    pub(crate) fn is_quiet(&self, image: ImageId) -> bool {
        self.queue.is_quiet(image)
    }

    /// Says whether the frame on this disk may be looked at first.
    pub(crate) fn trusts(&self, feed: FeedId, unit: u32) -> bool {
        self.queue.feeds.get(&feed).is_some_and(|feed| feed.trusts(unit))
    }

    /// The frame on this disk is right again.
    pub(crate) fn trust(&mut self, feed: FeedId, unit: u32) {
        if let Some(feed) = self.queue.feeds.get_mut(&feed) {
            feed.trust(unit);
        }
    }

    /// Whose a feed is.
    pub(crate) fn image_of(&self, feed: FeedId) -> Option<ImageId> {
        self.queue.feeds.get(&feed).map(|state| state.image)
    }

    fn lane_of(&self, ticket: Ticket) -> Option<LaneId> {
        self.queue.feeds.get(&ticket.feed).map(|state| state.lane)
    }

    fn route(&mut self, ticket: Ticket) -> Option<&mut Route<T>> {
        let lane = self.lane_of(ticket)?;
        self.lanes.get_mut(&lane)?.flights.get_mut(&ticket.unit)?.route(ticket)
    }
}
