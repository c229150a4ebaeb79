//! The core under its lock, and its effects carried out.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use dimsum_format::Digest;
use parking_lot::{Condvar, Mutex};
use tracing::Span;

use crate::core::{
    Cargo, Effect, Effects, ErrorReach, FeedId, FlightCore, FrameTable, ImageId, LaneId, RequestBatch, Ticket,
};
use crate::error::{ReadError, ReadObject, SourceFailure};
use crate::fetch::feed::FeedFrames;

/// A reader that waits for a unit. Gets the whole decoded unit.
pub(crate) type Waiter = Box<dyn FnOnce(Result<Bytes, ReadError>) + Send>;

/// What flights of this store carry.
#[derive(Debug)]
pub(crate) struct ReadCargo;

impl Cargo for ReadCargo {
    type Waiter = Waiter;
    type Bytes = Bytes;
    type Failure = SourceFailure;
    type Error = ReadError;
    type Frames = FeedFrames;
    type Cause = Span;
}

impl FrameTable for FeedFrames {
    fn frame(&self, unit: u32) -> std::ops::Range<u64> {
        self.range(unit)
    }
}

/// What an image does when the core says so. Called without the core's lock.
pub(crate) trait Crew: std::fmt::Debug + Send + Sync {
    /// Looks for units on this disk, and queues those that are not there.
    fn look(self: Arc<Self>, tickets: Vec<Ticket>);
    /// Sends a request, which gives its slot back when it ends.
    fn ask(self: Arc<Self>, batch: RequestBatch<ReadCargo>);
    /// Records that a reader waits for a route from now on, which it has started or not.
    fn joined(&self, ticket: Ticket, is_new: bool, cause: &Span);
    /// Counts wrong bytes that were found in the place of a unit.
    fn damaged(&self, feed: FeedId, unit: u32);
    /// Names a unit for people.
    fn name(&self, feed: FeedId, unit: u32) -> Option<(Digest, ReadObject)>;
    /// Nothing flies for it any more, or no reader of it waits for a source.
    fn calm(&self);
}

/// All flights of a store.
pub(crate) struct Traffic {
    core: Mutex<FlightCore<ReadCargo>>,
    crews: Mutex<HashMap<ImageId, Weak<dyn Crew>>>,
    /// Notified when nothing flies for some image any more.
    calm: Condvar,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").field("flights", &self.core.lock().flights()).finish_non_exhaustive()
    }
}

impl Traffic {
    /// `slots` requests may be under way for all images together.
    pub(crate) fn new(slots: usize) -> Self {
        Self { core: Mutex::new(FlightCore::new(slots)), crews: Mutex::default(), calm: Condvar::new() }
    }

    /// Makes a lane for units that nobody has named before.
    pub(crate) fn lane(&self) -> LaneId {
        self.core.lock().lane()
    }

    /// Takes in an image with its feeds: for each its lane, where its frames lie, and whether they are kept as they come.
    pub(crate) fn enter(
        &self,
        place: Option<u64>,
        feeds: impl Iterator<Item = (LaneId, FeedFrames, bool)>,
    ) -> (ImageId, Vec<FeedId>) {
        let mut core = self.core.lock();
        let image = core.enter(place);
        let feeds = feeds.map(|(lane, frames, keeps)| core.add_feed(image, lane, frames, keeps)).collect();
        (image, feeds)
    }

    /// Says who carries out what the core wants of an image.
    pub(crate) fn man(&self, image: ImageId, crew: Weak<dyn Crew>) {
        self.crews.lock().insert(image, crew);
    }

    /// An image was closed.
    pub(crate) fn leave(&self, image: ImageId) {
        self.crews.lock().remove(&image);
        self.run(|core, effects| core.leave(image, &ReadError::Closed, effects));
    }

    /// Gives a command, and carries out what follows from it.
    pub(crate) fn run<R>(&self, command: impl FnOnce(&mut FlightCore<ReadCargo>, &mut Effects<ReadCargo>) -> R) -> R {
        let mut effects = Vec::new();
        let result = command(&mut self.core.lock(), &mut effects);
        self.carry_out(effects);
        result
    }

    /// Looks at the state.
    pub(crate) fn view<R>(&self, look: impl FnOnce(&FlightCore<ReadCargo>) -> R) -> R {
        look(&self.core.lock())
    }

    /// Waits until no flight of an image is left: what was fetched is in the files, or could not be written.
    pub(crate) fn wait_idle(&self, image: ImageId) {
        let mut core = self.core.lock();
        while !core.is_idle(image) {
            self.calm.wait(&mut core);
        }
    }

    /// Names a unit of an image for people.
    pub(crate) fn names(&self, image: ImageId, feed: FeedId, unit: u32) -> Option<(Digest, ReadObject)> {
        self.crew(image)?.name(feed, unit)
    }

    /// Returns the span of the reader that started a route; a disabled one if there is none.
    pub(crate) fn cause(&self, ticket: Ticket) -> Span {
        self.view(|core| core.cause(ticket).cloned()).unwrap_or_else(Span::none)
    }

    fn carry_out(&self, effects: Effects<ReadCargo>) {
        let mut looks: Vec<Ticket> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Answer(waiter, result) => call(waiter, result),
                Effect::Look(ticket) => looks.push(ticket),
                Effect::Joined(ticket, is_new, cause) => {
                    if !cause.is_disabled()
                        && let Some(crew) = self.crew_of(ticket.feed)
                    {
                        crew.joined(ticket, is_new, &cause);
                    }
                }
                Effect::Damaged(feed, unit) => {
                    if let Some(crew) = self.crew_of(feed) {
                        crew.damaged(feed, unit);
                    }
                }
                Effect::Ask(batch) => self.ask(batch),
                Effect::Calm(image) => {
                    self.calm.notify_all();
                    if let Some(crew) = self.crew(image) {
                        crew.calm();
                    }
                }
            }
        }
        self.look(looks);
    }

    /// Starts looks of one image together, so that neighbours are asked for together.
    fn look(&self, mut tickets: Vec<Ticket>) {
        while let Some(first) = tickets.first().copied() {
            let image = self.core.lock().image_of(first.feed);
            let (own, others) = tickets.into_iter().partition(|ticket| self.core.lock().image_of(ticket.feed) == image);
            tickets = others;
            let own: Vec<Ticket> = own;
            match image.and_then(|image| self.crew(image)) {
                Some(crew) => crew.look(own),
                None => self.give_up(&own),
            }
        }
    }

    fn ask(&self, batch: RequestBatch<ReadCargo>) {
        match self.crew(batch.image) {
            Some(crew) => crew.ask(batch),
            None => {
                let tickets: Vec<Ticket> = batch.routes.iter().map(|(ticket, _)| *ticket).collect();
                self.give_up(&tickets);
                self.run(|core, effects| core.release(batch.feed, None, effects));
            }
        }
    }

    /// The image is being closed; [`Traffic::leave`] sees to the rest.
    fn give_up(&self, tickets: &[Ticket]) {
        self.run(|core, effects| {
            for ticket in tickets {
                core.fail(*ticket, &ReadError::Closed, ErrorReach::Everybody, effects);
            }
        });
    }

    fn crew(&self, image: ImageId) -> Option<Arc<dyn Crew>> {
        self.crews.lock().get(&image)?.upgrade()
    }

    fn crew_of(&self, feed: FeedId) -> Option<Arc<dyn Crew>> {
        let image = self.core.lock().image_of(feed)?;
        self.crew(image)
    }
}

/// Calls a waiter. One that panics must not keep the next from its bytes.
fn call(waiter: Waiter, result: Result<Bytes, ReadError>) {
    drop(catch_unwind(AssertUnwindSafe(|| waiter(result))));
}
