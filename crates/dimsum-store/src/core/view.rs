//! What is on its way, for people who look.

use std::sync::Arc;
use std::time::Instant;

use super::FlightCore;
use super::flight::{Cargo, ImageId, RouteStage, Ticket};

/// One route of a flight as it is now.
#[derive(Debug, Clone)]
pub(crate) struct RouteView {
    pub(crate) ticket: Ticket,
    pub(crate) image: ImageId,
    pub(crate) stage: RouteStage,
    /// Readers of this image that wait.
    pub(crate) waiters: usize,
    pub(crate) source: Option<Arc<str>>,
    /// How often a source was asked.
    pub(crate) attempts: u32,
    pub(crate) since: Instant,
}

impl<T: Cargo> FlightCore<T> {
    /// Returns the oldest routes, at most `limit`, and how many there are.
    pub(crate) fn view(&self, limit: usize) -> (Vec<RouteView>, usize) {
        let mut views = Vec::new();
        for flight in self.lanes.values().flat_map(|lane| lane.flights.values()) {
            for route in &flight.routes {
                let feed = route.ticket.feed;
                let Some(image) = self.queue.feeds.get(&feed).map(|feed| feed.image) else { continue };
                let waiters = flight.waiters.iter().filter(|each| each.feed == feed).count();
                let (ticket, stage, since) = (route.ticket, route.stage, route.since);
                let (source, attempts) = (route.source.clone(), route.attempts);
                views.push(RouteView { ticket, image, stage, waiters, source, attempts, since });
            }
        }
        let count = views.len();
        views.sort_by_key(|view| view.since);
        views.truncate(limit);
        (views, count)
    }

    /// Number of flights.
    pub(crate) fn flights(&self) -> usize {
        self.lanes.values().map(|lane| lane.flights.len()).sum()
    }

    /// Requests under way.
    pub(crate) const fn requests(&self) -> usize {
        self.queue.active()
    }
}
