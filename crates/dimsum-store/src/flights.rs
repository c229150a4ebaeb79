//! What is on its way, for people who ask why a read hangs.

use std::time::{Duration, Instant};

use dimsum_format::Digest;

use crate::core::RouteStage;
use crate::error::ReadObject;
use crate::limits::MAX_SHOWN_FLIGHTS;
use crate::store::Store;

/// What a flight waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlightStage {
    /// Another image's flight of the same chunk.
    Another,
    /// This disk: its frame, or another device that has the chunk.
    Disk,
    /// An answer that is coming in already.
    Arriving,
    /// A slot for a request.
    Queued,
    /// A source, or the decoding of what it sent.
    Source,
    /// Its bytes to be written; nobody waits for that.
    Writing,
    /// Another image's flight, after its own source failed.
    Failed,
}

/// One missing chunk of one image, as it is now.
#[derive(Debug, Clone)]
pub struct FlightInfo {
    /// Its number, as records have it. A flight of several images has one for each.
    pub flight: u64,
    /// The image that is read.
    pub image: Digest,
    /// The chunk, or the frame of the meta.
    pub object: ReadObject,
    /// What it waits for.
    pub stage: FlightStage,
    /// The source that was asked last.
    pub source: Option<String>,
    /// How often a source was asked.
    pub attempts: u32,
    /// Parts of reads that wait for it.
    pub waiters: usize,
    /// How long it has been missing.
    pub age: Duration,
}

/// What is on its way.
#[derive(Debug, Clone, Default)]
pub struct FlightList {
    /// The oldest, at most [`MAX_SHOWN_FLIGHTS`].
    pub flights: Vec<FlightInfo>,
    /// How many there are.
    pub total: usize,
}

impl Store {
    /// Returns what waits for what, and since when.
    #[must_use]
    pub fn flights(&self) -> FlightList {
        let (traffic, now) = (self.services().traffic(), Instant::now());
        let (views, total) = traffic.view(|core| core.view(MAX_SHOWN_FLIGHTS));
        let flights = views.into_iter().filter_map(|view| {
            let (image, object) = traffic.names(view.image, view.ticket.feed, view.ticket.unit)?;
            Some(FlightInfo {
                flight: view.ticket.number(),
                image,
                object,
                stage: stage(view.stage),
                source: view.source.map(|source| source.as_ref().to_owned()),
                attempts: view.attempts,
                waiters: view.waiters,
                age: now.saturating_duration_since(view.since),
            })
        });
        FlightList { flights: flights.collect(), total }
    }
}

const fn stage(stage: RouteStage) -> FlightStage {
    match stage {
        RouteStage::Waiting => FlightStage::Another,
        RouteStage::Local => FlightStage::Disk,
        RouteStage::Arriving => FlightStage::Arriving,
        RouteStage::Queued => FlightStage::Queued,
        RouteStage::Asked => FlightStage::Source,
        RouteStage::Writing => FlightStage::Writing,
        RouteStage::Failed => FlightStage::Failed,
    }
}
