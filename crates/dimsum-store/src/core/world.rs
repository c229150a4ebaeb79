//! A small world around the core for tests: whoever gets an effect carries it out, step by step.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use super::{
    Cargo, Effect, Effects, ErrorReach, FeedId, FlightCore, FrameOwner, FrameTable, ImageId, Landing, LaneId, Miss,
    RequestBatch, Ticket,
};

/// Waiters are numbers, bytes are the number of their unit.
pub(super) struct TestCargo;

impl Cargo for TestCargo {
    type Waiter = u32;
    type Bytes = u32;
    type Failure = &'static str;
    type Error = &'static str;
    type Frames = EvenFrames;
    type Cause = ();
}

/// Frames of 100 bytes, one after the other.
pub(super) struct EvenFrames;

impl FrameTable for EvenFrames {
    fn frame(&self, unit: u32) -> Range<u64> {
        u64::from(unit) * 100..u64::from(unit) * 100 + 100
    }
}

pub(super) const CLOSED: &str = "closed";
/// Every other error.
pub(super) const FAILED: &str = "no source";

/// Something that is to be done.
pub(super) enum Task {
    Look(Ticket),
    /// Asks a source, from `begun` on.
    Send(RequestBatch<TestCargo>, Instant),
    /// The source had nothing for those who were there when it was asked.
    Fail(Ticket, Instant),
    Decode(Ticket),
    Write(Ticket),
    Release(FeedId),
}

/// How a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Luck {
    Right,
    Wrong,
    Absent,
}

/// What one command led to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) tasks: Vec<Task>,
    pub(super) answers: Vec<(u32, ToldReader)>,
    pub(super) damaged: usize,
}

impl Outcome {
    /// What follows from effects that come up at some time.
    pub(super) fn of(effects: Effects<TestCargo>, now: Instant) -> Self {
        let mut outcome = Self::default();
        for effect in effects {
            match effect {
                Effect::Answer(waiter, result) => outcome.answers.push((waiter, result)),
                Effect::Look(ticket) => outcome.tasks.push(Task::Look(ticket)),
                Effect::Ask(batch) => outcome.tasks.push(Task::Send(batch, now)),
                Effect::Damaged(..) => outcome.damaged += 1,
                Effect::Calm(_) | Effect::Joined(..) => {}
            }
        }
        outcome
    }
}

/// Does the part of a task that needs the core.
pub(super) fn step(
    core: &mut FlightCore<TestCargo>,
    task: Task,
    now: Instant,
    luck: impl Fn(Ticket) -> Luck,
) -> Outcome {
    let (mut effects, mut tasks) = (Vec::new(), Vec::new());
    match task {
        Task::Look(ticket) => match luck(ticket) {
            Luck::Right => tasks.push(Task::Decode(ticket)),
            Luck::Wrong => {
                core.refused(ticket, "wrong on disk", true);
                core.queue(&[ticket], Some(100), &mut effects);
            }
            Luck::Absent => core.queue(&[ticket], Some(100), &mut effects),
        },
        Task::Send(batch, begun) => {
            for (ticket, _) in batch.routes {
                match luck(ticket) {
                    Luck::Right => tasks.push(Task::Decode(ticket)),
                    _ => tasks.push(Task::Fail(ticket, begun)),
                }
            }
            tasks.push(Task::Release(batch.feed));
        }
        Task::Fail(ticket, begun) => core.fail(ticket, &FAILED, ErrorReach::JoinedBy(begun), &mut effects),
        Task::Decode(ticket) => match core.proven(ticket, &ticket.unit, &mut effects) {
            Landing::First(_) => tasks.push(Task::Write(ticket)),
            Landing::Second | Landing::Alone => {}
        },
        Task::Write(ticket) => core.landed(ticket, &mut effects),
        Task::Release(feed) => core.release(feed, Some(100), &mut effects),
    }
    let mut outcome = Outcome::of(effects, now);
    outcome.tasks.append(&mut tasks);
    outcome
}

/// A frame comes in for whoever waits for it.
pub(super) fn arrive(
    core: &mut FlightCore<TestCargo>,
    (feed, unit): (FeedId, u32),
    now: Instant,
    luck: Luck,
) -> Outcome {
    let mut effects = Vec::new();
    let owner = core.arrived(feed, unit);
    let stranded = core.arrives_no_more(feed, unit);
    core.queue(&stranded, None, &mut effects);
    let mut tasks = Vec::new();
    if let FrameOwner::Reader(ticket) = owner {
        match luck {
            Luck::Right => tasks.push(Task::Decode(ticket)),
            _ => core.queue(&[ticket], None, &mut effects),
        }
    }
    let mut outcome = Outcome::of(effects, now);
    outcome.tasks.append(&mut tasks);
    outcome
}

/// Joins one reader. `None` if the unit may have been filled since it was looked up.
pub(super) fn join(
    core: &mut FlightCore<TestCargo>,
    (feed, unit): (FeedId, u32),
    (seen, fills): (u64, u64),
    now: Instant,
    force: bool,
    waiter: u32,
) -> Option<Outcome> {
    let mut effects = Vec::new();
    let miss = Miss { feed, unit, damaged: unit.is_multiple_of(3), seen };
    let (cause, looks) = ((now, &()), (|(): &()| miss, |(): &()| fills));
    let again = core.join(vec![()], force, cause, looks, |()| Some(waiter), &mut effects);
    again.is_empty().then(|| Outcome::of(effects, now))
}

/// Images, each with a meta of its own and a way to the one device.
pub(super) fn images(
    core: &mut FlightCore<TestCargo>,
    places: &[Option<u64>],
) -> (LaneId, Vec<(ImageId, [FeedId; 2])>) {
    let device = core.lane();
    let enter = |place: &Option<u64>| {
        let (image, meta) = (core.enter(*place), core.lane());
        let feeds = [core.add_feed(image, meta, EvenFrames, false), core.add_feed(image, device, EvenFrames, true)];
        (image, feeds)
    };
    (device, places.iter().map(enter).collect())
}

/// What a reader was told: its unit, or why not.
type ToldReader = Result<u32, &'static str>;

/// Readers and their answers: each gets one.
#[derive(Default)]
pub(super) struct Readers(pub(super) HashMap<u32, (u32, Option<ToldReader>)>);

impl Readers {
    pub(super) fn take(&mut self, answers: Vec<(u32, Result<u32, &'static str>)>) {
        for (waiter, result) in answers {
            let (unit, answer) = self.0.get_mut(&waiter).expect("only who waits is answered");
            assert!(answer.is_none(), "answered twice");
            assert!(result.is_err() || result == Ok(*unit), "the bytes of another unit");
            *answer = Some(result);
        }
    }

    pub(super) fn all_answered(&self) -> bool {
        self.0.values().all(|(_, answer)| answer.is_some())
    }
}
