//! A missing unit on its way, and the routes by which it may come.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What the state machine carries and never looks into.
pub(crate) trait Cargo {
    /// A reader to be answered once.
    type Waiter;
    /// Proven bytes of a unit.
    type Bytes: Clone;
    /// Something that one source did wrong.
    type Failure;
    /// Why a route brought nothing.
    type Error: Clone;
    /// Where the frames of a feed lie.
    type Frames: FrameTable;
    /// The reader that started a route, for records.
    type Cause: Clone;
}

/// Where frames lie in their blob: a function that never changes, never waits and takes no lock.
pub(crate) trait FrameTable {
    /// Bytes of a unit's frame in the blob; empty if there is none.
    fn frame(&self, unit: u32) -> Range<u64>;
}

/// An open image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImageId(pub(super) u64);

impl ImageId {
    /// The number itself, never 0.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// A way of one image to the units of a lane: a blob, and where its frames lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FeedId(pub(super) u64);

/// Units with one name for all images: the chunks of a device, or the frames of one meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(super) u64);

/// The right to end one route. A ticket of a route that has ended does nothing, so nobody ends another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    pub(crate) feed: FeedId,
    pub(crate) unit: u32,
    pub(super) number: u64,
}

impl Ticket {
    /// The number of the route, for people; never 0.
    pub(crate) const fn number(self) -> u64 {
        self.number
    }
}

/// How far a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteStage {
    /// Another route of the flight is under way, and good enough to wait for.
    Waiting,
    /// Its frame is looked for on this disk, then in other devices of the store.
    Local,
    /// Its frame is in an answer that is coming in.
    Arriving,
    /// Waits for a request.
    Queued,
    /// In the hands of a request, or of the job that decodes what it brought.
    Asked,
    /// Proven, being written.
    Writing,
    /// Brought nothing.
    Failed,
}

/// One image's try to get a unit.
pub(super) struct Route<T: Cargo> {
    pub(super) ticket: Ticket,
    pub(super) stage: RouteStage,
    pub(super) since: Instant,
    /// Whether the frame that this disk has of it is wrong.
    pub(super) frame_is_wrong: bool,
    /// What went wrong before it was queued.
    pub(super) failures: Vec<T::Failure>,
    /// Who is asked now.
    pub(super) source: Option<Arc<str>>,
    /// How often a source was asked.
    pub(super) attempts: u32,
    /// Who started it.
    pub(super) cause: T::Cause,
    /// Whether a try of the same image failed before.
    pub(super) is_retry: bool,
}

impl<T: Cargo> Route<T> {
    pub(super) const fn new(ticket: Ticket, stage: RouteStage, since: Instant, cause: T::Cause) -> Self {
        Self {
            ticket,
            stage,
            since,
            frame_is_wrong: false,
            failures: Vec::new(),
            source: None,
            attempts: 0,
            cause,
            is_retry: false,
        }
    }

    /// Says whether it will end by itself.
    pub(super) const fn is_active(&self) -> bool {
        !matches!(self.stage, RouteStage::Waiting | RouteStage::Failed)
    }
}

/// A reader of a flight.
pub(super) struct FlightWaiter<T: Cargo> {
    /// The feed of the image that it reads.
    pub(super) feed: FeedId,
    pub(super) waiter: T::Waiter,
    /// When it joined.
    pub(super) since: Instant,
    /// The error of its image's route. Only a route of another image that was there by then can still save it.
    pub(super) resigned: Option<Resignation<T>>,
}

/// The error that a reader gets if no other route helps.
pub(super) struct Resignation<T: Cargo> {
    pub(super) error: T::Error,
    /// Number of the youngest route at that time. Routes that are tried anew have higher ones, so the wait for them has an end.
    pub(super) last_hope: u64,
}

/// One missing unit, however many readers of however many images wait for it.
pub(super) struct Flight<T: Cargo> {
    pub(super) waiters: Vec<FlightWaiter<T>>,
    /// Whether wrong bytes stand in the unit's place in the decoded file.
    pub(super) damaged: bool,
    /// Its bytes, while they are being written.
    pub(super) proven: Option<T::Bytes>,
    /// At most one for each feed.
    pub(super) routes: Vec<Route<T>>,
}

impl<T: Cargo> Flight<T> {
    pub(super) const fn new(damaged: bool) -> Self {
        Self { waiters: Vec::new(), damaged, proven: None, routes: Vec::new() }
    }

    pub(super) fn route(&mut self, ticket: Ticket) -> Option<&mut Route<T>> {
        self.routes.iter_mut().find(|route| route.ticket.number == ticket.number)
    }

    /// Readers of a feed who got no error yet.
    pub(super) fn hopeful(&self, feed: FeedId) -> impl Iterator<Item = &FlightWaiter<T>> {
        self.waiters.iter().filter(move |each| each.feed == feed && each.resigned.is_none())
    }
}

/// What is known of a flight when its bytes are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FlightFacts {
    /// Wrong bytes stand in its place in the decoded file.
    pub(crate) damaged: bool,
    /// The frame on this disk is wrong.
    pub(crate) frame_is_wrong: bool,
}

/// What bytes are good for that were proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    /// All who waited were answered; to be written.
    First(FlightFacts),
    /// Another route was first and writes them.
    Second,
    /// Nobody waits any more; to be written, since they are here.
    Alone,
}

/// Whose a frame is that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameOwner {
    /// A reader's, whose route is in the caller's hands now.
    Reader(Ticket),
    /// Somebody else sees to it.
    Another,
    /// Nobody waits for it.
    Nobody,
}
