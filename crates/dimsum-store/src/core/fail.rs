//! Tries that bring nothing: whom their error reaches, who goes on, and the end of flights.
//!
//! A try that fails ends the wait of readers who joined before it began, or whose time is over. Others joined while it was failing: the
//! source may be back already. All of them together get one new try. Each try that fails so takes at least the readers with it for
//! whom it was begun; none gets more than two of its image.

use std::time::Instant;

use super::flight::{Cargo, FeedId, FlightWaiter, LaneId, Resignation, Route, RouteStage, Ticket};
use super::{Effect, Effects, FlightCore};

/// Which readers of a route an error is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorReach {
    /// All: a new try makes no sense.
    Everybody,
    /// Those who joined by then; the rest gets a new try.
    JoinedBy(Instant),
}

impl<T: Cargo> FlightCore<T> {
    /// Ends a route without bytes. The readers of its image whom `reach` names get `error` unless another route brings the bytes.
    pub(crate) fn fail(&mut self, ticket: Ticket, error: &T::Error, reach: ErrorReach, effects: &mut Effects<T>) {
        let Some(lane) = self.lane_of(ticket) else { return };
        let flight = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&ticket.unit));
        let Some(route) = flight.and_then(|flight| flight.route(ticket)) else { return };
        match route.stage {
            // Whoever wrote it is gone, and everybody has the bytes.
            RouteStage::Writing => self.end(lane, ticket.unit, effects),
            RouteStage::Failed => {}
            _ => {
                route.stage = RouteStage::Failed;
                let (since, cause) = (route.since, route.cause.clone());
                self.queue.remove(ticket.feed, ticket.unit);
                self.resign(ticket, error, reach);
                // First: the route of an image that waited for this one is the new try for this image too.
                self.promote(lane, ticket.unit, effects);
                self.retry(ticket, (since, cause), effects);
                self.settle(lane, ticket.unit, effects);
            }
        }
    }

    /// Gives `error` to the readers of a route who joined by `by`, as [`FlightCore::fail`] does, and leaves the route as it is. Says
    /// whether somebody is left for whom it should go on.
    pub(crate) fn expire(&mut self, ticket: Ticket, by: Instant, error: &T::Error, effects: &mut Effects<T>) -> bool {
        let Some(lane) = self.lane_of(ticket).filter(|_| self.route(ticket).is_some()) else { return false };
        self.resign(ticket, error, ErrorReach::JoinedBy(by));
        self.settle(lane, ticket.unit, effects);
        let flight = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&ticket.unit));
        let Some(flight) = flight else { return false };
        // A unit that nobody reads yet was wanted when its route began.
        flight.hopeful(ticket.feed).next().is_some() || flight.route(ticket).is_some_and(|route| route.since > by)
    }

    /// Gives an error to the readers of a feed's queued routes who joined by `by`; ends routes that nobody waits for any more.
    pub(crate) fn expire_queued(
        &mut self,
        feed: FeedId,
        by: Instant,
        error: impl Fn(u32) -> T::Error,
        effects: &mut Effects<T>,
    ) {
        let Some(lane) = self.queue.feeds.get(&feed).and_then(|state| self.lanes.get(&state.lane)) else { return };
        let routes = lane.flights.values().flat_map(|flight| &flight.routes);
        let is_old =
            |route: &&Route<T>| route.ticket.feed == feed && route.stage == RouteStage::Queued && route.since <= by;
        let old: Vec<Ticket> = routes.filter(is_old).map(|route| route.ticket).collect();
        for ticket in old {
            let error = error(ticket.unit);
            if !self.expire(ticket, by, &error, effects) {
                self.fail(ticket, &error, ErrorReach::JoinedBy(by), effects);
            }
        }
    }

    /// When the youngest reader of some routes' flights joined.
    pub(crate) fn youngest(&self, tickets: &[Ticket]) -> Option<Instant> {
        let flight = |ticket: &Ticket| self.lanes.get(&self.lane_of(*ticket)?)?.flights.get(&ticket.unit);
        let waiters = tickets.iter().filter_map(flight).flat_map(|flight| &flight.waiters);
        waiters.filter(|each| each.resigned.is_none()).map(|each| each.since).max()
    }

    fn resign(&mut self, ticket: Ticket, error: &T::Error, reach: ErrorReach) {
        let last_hope = self.last_id;
        let Some(lane) = self.lane_of(ticket).and_then(|lane| self.lanes.get_mut(&lane)) else { return };
        let Some(flight) = lane.flights.get_mut(&ticket.unit) else { return };
        for waiter in &mut flight.waiters {
            let is_reached = match reach {
                ErrorReach::Everybody => true,
                ErrorReach::JoinedBy(by) => waiter.since <= by,
            };
            if waiter.feed == ticket.feed && waiter.resigned.is_none() && is_reached {
                waiter.resigned = Some(Resignation { error: error.clone(), last_hope });
            }
        }
    }

    /// Tries a failed route once more if readers are left whom the error did not reach.
    fn retry(&mut self, ticket: Ticket, (since, cause): (Instant, T::Cause), effects: &mut Effects<T>) {
        let flight = self.lane_of(ticket).and_then(|lane| self.lanes.get(&lane)?.flights.get(&ticket.unit));
        if flight.is_some_and(|flight| flight.hopeful(ticket.feed).next().is_some()) {
            let ticket = Ticket { number: self.next_id(), ..ticket };
            let route = Route::new(ticket, RouteStage::Failed, since, cause);
            self.start(Route { is_retry: true, ..route }, effects);
        }
    }

    /// After a route has changed: those that waited for it and may not any more start; a flight that nobody carries ends.
    pub(super) fn go_on(&mut self, lane: LaneId, unit: u32, effects: &mut Effects<T>) {
        self.promote(lane, unit, effects);
        self.settle(lane, unit, effects);
    }

    /// Starts routes that waited for another and may not any more.
    fn promote(&mut self, lane: LaneId, unit: u32, effects: &mut Effects<T>) {
        let flight = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&unit));
        let Some(flight) = flight.filter(|flight| flight.proven.is_none()) else { return };
        for index in 0..flight.routes.len() {
            let waits = flight.routes.get(index).is_some_and(|route| route.stage == RouteStage::Waiting);
            if !waits || self.queue.is_served(flight, index) {
                continue;
            }
            if let Some(route) = flight.routes.get_mut(index) {
                route.stage = RouteStage::Local;
                effects.push(Effect::Look(route.ticket));
            }
        }
    }

    /// Answers readers whom no route can save any more, and ends a flight that nobody carries.
    fn settle(&mut self, lane: LaneId, unit: u32, effects: &mut Effects<T>) {
        let Some(flight) = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.get_mut(&unit)) else { return };
        if !flight.routes.iter().any(Route::is_active) {
            return self.end(lane, unit, effects);
        }
        let routes = &flight.routes;
        let is_lost = |each: &mut FlightWaiter<T>| {
            let saves = |route: &Route<T>, last_hope| {
                route.is_active() && route.ticket.feed != each.feed && route.ticket.number <= last_hope
            };
            each.resigned.as_ref().is_some_and(|own| !routes.iter().any(|route| saves(route, own.last_hope)))
        };
        effects.extend(flight.waiters.extract_if(.., is_lost).filter_map(refused));
    }

    /// Removes a flight; readers that are left get their error.
    pub(super) fn end(&mut self, lane: LaneId, unit: u32, effects: &mut Effects<T>) {
        let Some(flight) = self.lanes.get_mut(&lane).and_then(|lane| lane.flights.remove(&unit)) else { return };
        for route in &flight.routes {
            let feed = route.ticket.feed;
            self.queue.remove(feed, unit);
            let image = self.queue.feeds.get(&feed).map(|feed| feed.image);
            if let Some((id, image)) = image.and_then(|id| Some((id, self.queue.images.get_mut(&id)?))) {
                image.flights = image.flights.saturating_sub(1);
                if image.is_idle() {
                    effects.push(Effect::Calm(id));
                }
            }
        }
        effects.extend(flight.waiters.into_iter().filter_map(refused));
    }
}

/// The answer for a reader who resigned.
fn refused<T: Cargo>(waiter: FlightWaiter<T>) -> Option<Effect<T>> {
    let error = waiter.resigned?.error;
    Some(Effect::Answer(waiter.waiter, Err(error)))
}
