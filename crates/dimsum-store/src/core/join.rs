//! Readers that miss units: the beginning of flights.

use std::collections::hash_map::Entry;
use std::time::Instant;

use super::flight::{Cargo, FeedId, Flight, FlightWaiter, Route, RouteStage, Ticket};
use super::queue::Queue;
use super::{Effect, Effects, FlightCore};

/// A unit that is not here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Miss {
    pub(crate) feed: FeedId,
    pub(crate) unit: u32,
    /// Whether wrong bytes stand in its place.
    pub(crate) damaged: bool,
    /// How often something had been written there before the reader looked.
    pub(crate) seen: u64,
}

impl<T: Cargo> Queue<T> {
    /// Says whether an image that asks by `feed` may wait for a part that comes by another. It may if the part comes
    /// from where it would ask itself, or if it has nobody to ask.
    pub(super) fn may_wait_for(&self, feed: FeedId, other: FeedId) -> bool {
        let image = |feed| self.feeds.get(&feed).map(|state| state.image);
        let place = |feed| image(feed).and_then(|image| self.images.get(&image)).and_then(|image| image.place);
        image(feed) == image(other) || place(feed).is_none() || place(feed) == place(other)
    }

    /// Says whether another route is under way that a route may wait for.
    pub(super) fn is_served(&self, flight: &Flight<T>, index: usize) -> bool {
        let Some(feed) = flight.routes.get(index).map(|route| route.ticket.feed) else { return false };
        flight.routes.iter().enumerate().any(|(other, route)| other != index && self.serves(route, feed))
    }

    /// Says whether a feed may wait for a route.
    fn serves(&self, route: &Route<T>, feed: FeedId) -> bool {
        match route.stage {
            RouteStage::Waiting | RouteStage::Failed => false,
            // This disk does not hang.
            RouteStage::Local | RouteStage::Writing => true,
            RouteStage::Arriving | RouteStage::Queued | RouteStage::Asked => self.may_wait_for(feed, route.ticket.feed),
        }
    }
}

impl<T: Cargo> FlightCore<T> {
    /// Joins or starts the flight of each miss, with a waiter made for it if somebody is to be answered. All are known before the first
    /// request is cut, so neighbours go together.
    ///
    /// `fills` says how often something has been written now, `cause` who reads. Returns the misses that may have been filled since they were looked up;
    /// with `force` none.
    pub(crate) fn join<M>(
        &mut self,
        misses: Vec<M>,
        force: bool,
        (now, cause): (Instant, &T::Cause),
        (miss, fills): (impl Fn(&M) -> Miss, impl Fn(&M) -> u64),
        mut waiter: impl FnMut(M) -> Option<T::Waiter>,
        effects: &mut Effects<T>,
    ) -> Vec<M> {
        let mut again = Vec::new();
        for each in misses {
            let Miss { feed, unit, damaged, seen } = miss(&each);
            let Some(lane_id) = self.queue.feeds.get(&feed).map(|state| state.lane) else { continue };
            let ticket = Ticket { feed, unit, number: self.next_id() };
            let Some(lane) = self.lanes.get_mut(&lane_id) else { continue };
            if let Entry::Vacant(vacant) = lane.flights.entry(unit) {
                if !force && fills(&each) != seen {
                    again.push(each);
                    continue;
                }
                vacant.insert(Flight::new(damaged));
                if damaged {
                    effects.push(Effect::Damaged(feed, unit));
                }
            }
            let Some(flight) = lane.flights.get_mut(&unit) else { continue };
            if let Some(bytes) = &flight.proven {
                let bytes = bytes.clone();
                effects.extend(waiter(each).map(|waiter| Effect::Answer(waiter, Ok(bytes))));
                continue;
            }
            let of_feed = |waiter| FlightWaiter { feed, waiter, since: now, resigned: None };
            flight.waiters.extend(waiter(each).map(of_feed));
            self.take_part(ticket, (now, cause), effects);
        }
        again
    }

    /// Gives an image a route in a flight.
    fn take_part(&mut self, ticket: Ticket, (now, cause): (Instant, &T::Cause), effects: &mut Effects<T>) {
        let Some(lane) = self.lane_of(ticket).and_then(|lane| self.lanes.get_mut(&lane)) else { return };
        let Some(flight) = lane.flights.get(&ticket.unit) else { return };
        let own = flight.routes.iter().find(|route| route.ticket.feed == ticket.feed);
        if let Some(own) = own.filter(|own| own.stage != RouteStage::Failed) {
            effects.push(Effect::Joined(own.ticket, false, cause.clone()));
            return;
        }
        // One that failed is tried anew.
        self.start(Route::new(ticket, RouteStage::Failed, now, cause.clone()), effects);
    }

    /// Puts a route into its flight, in the place of the one that the feed had there, and chooses its first stage.
    pub(super) fn start(&mut self, mut route: Route<T>, effects: &mut Effects<T>) {
        let Ticket { feed, unit, .. } = route.ticket;
        let Some(lane) = self.lane_of(route.ticket).and_then(|lane| self.lanes.get_mut(&lane)) else { return };
        let arriving = lane.arriving.get(&unit).map_or(&[][..], Vec::as_slice);
        let arrives = arriving.iter().any(|(by, _)| self.queue.may_wait_for(feed, *by));
        let Some(flight) = lane.flights.get_mut(&unit) else { return };
        route.stage = match () {
            () if flight.routes.iter().any(|other| self.queue.serves(other, feed)) => RouteStage::Waiting,
            () if arrives => RouteStage::Arriving,
            () => RouteStage::Local,
        };
        effects.push(Effect::Joined(route.ticket, true, route.cause.clone()));
        if route.stage == RouteStage::Local {
            effects.push(Effect::Look(route.ticket));
        }
        match flight.routes.iter_mut().find(|other| other.ticket.feed == feed) {
            Some(own) => *own = route,
            None => {
                flight.routes.push(route);
                let image = self.queue.feeds.get(&feed).map(|feed| feed.image);
                if let Some(image) = image.and_then(|image| self.queue.images.get_mut(&image)) {
                    image.flights += 1;
                }
            }
        }
    }
}
