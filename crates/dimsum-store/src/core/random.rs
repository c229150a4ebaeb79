//! Random commands against what must hold whatever happens.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::world::{CLOSED, FAILED, Luck, Outcome, Readers, Task, TestCargo, arrive, images, join, step};
use super::{FeedId, FlightCore, ImageId, RouteStage};

const SLOTS: usize = 12;
const UNITS: u32 = 12;

#[derive(Debug, Clone)]
enum Act {
    /// A reader of an image misses a unit; it may have looked before the last fill.
    Read { image: usize, feed: usize, unit: u32, stale: bool },
    /// Some task is carried out.
    Work { which: usize, luck: Luck },
    /// Units are announced by an image.
    Announce { image: usize, units: Vec<u32> },
    /// An announced unit comes in, or its answer ends.
    Arrive { which: usize, luck: Luck },
    /// An image is closed.
    Close { image: usize },
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![3 => Just(Luck::Right), 1 => Just(Luck::Wrong), 2 => Just(Luck::Absent)]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0usize..4, 0usize..2, 0..UNITS, any::<bool>())
            .prop_map(|(image, feed, unit, stale)| Act::Read { image, feed, unit, stale }),
        8 => (any::<usize>(), luck()).prop_map(|(which, luck)| Act::Work { which, luck }),
        1 => (0usize..4, prop::collection::vec(0..UNITS, 1..6)).prop_map(|(image, units)| Act::Announce { image, units }),
        2 => (any::<usize>(), luck()).prop_map(|(which, luck)| Act::Arrive { which, luck }),
        1 => (0usize..4).prop_map(|image| Act::Close { image }),
    ];
    prop::collection::vec(act, 1..150)
}

/// The reference: what is written, who waits, what is under way.
struct Play {
    core: FlightCore<TestCargo>,
    images: Vec<(ImageId, [FeedId; 2])>,
    places: Vec<Option<u64>>,
    closed: HashSet<usize>,
    tasks: Vec<Task>,
    announced: Vec<(usize, u32)>,
    readers: Readers,
    /// Feed to the number of writes to its units.
    fills: HashMap<FeedId, u64>,
    /// When the source was asked whose failure a feed's readers of a unit heard of last.
    failed: HashMap<(FeedId, u32), Instant>,
    /// By whom each reader reads, and since when.
    joined: HashMap<u32, (FeedId, Instant)>,
    next: u32,
    /// Each act takes a millisecond.
    now: Instant,
}

impl Play {
    fn new() -> Self {
        let mut core = FlightCore::new(SLOTS);
        let places = vec![Some(1), Some(1), Some(2), None];
        let (_, images) = images(&mut core, &places);
        let (closed, tasks, announced) = (HashSet::new(), Vec::new(), Vec::new());
        let (readers, fills) = (Readers::default(), HashMap::new());
        let (failed, joined, now) = (HashMap::new(), HashMap::new(), Instant::now());
        Self { core, images, places, closed, tasks, announced, readers, fills, failed, joined, next: 0, now }
    }

    fn act(&mut self, act: Act) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        match act {
            Act::Read { image, feed, unit, stale } if !self.closed.contains(&image) => {
                let feed = self.images[image].1[feed];
                let fills = self.fills.values().sum();
                let (waiter, seen) = (self.next, fills - u64::from(stale && fills > 0));
                self.next += 1;
                self.readers.0.insert(waiter, (unit, None));
                self.joined.insert(waiter, (feed, now));
                // Who may have missed a fill looks again, and insists in the end.
                let again = |core: &mut _| join(core, (feed, unit), (fills, fills), now, true, waiter);
                let outcome = join(&mut self.core, (feed, unit), (seen, fills), now, false, waiter);
                let outcome = outcome.or_else(|| again(&mut self.core)).unwrap();
                self.take(outcome);
            }
            Act::Work { which, luck } if !self.tasks.is_empty() => {
                let task = self.tasks.remove(which % self.tasks.len());
                self.work(task, luck);
            }
            Act::Announce { image, units } if !self.closed.contains(&image) => {
                let units: std::collections::BTreeSet<u32> = units.into_iter().collect();
                let free = self.core.announce(self.images[image].1[1], units.into_iter());
                self.announced.extend(free.into_iter().map(|unit| (image, unit)));
            }
            Act::Arrive { which, luck } if !self.announced.is_empty() => {
                let (image, unit) = self.announced.remove(which % self.announced.len());
                let outcome = arrive(&mut self.core, (self.images[image].1[1], unit), now, luck);
                self.take(outcome);
            }
            Act::Close { image } if self.closed.insert(image) => {
                let mut effects = Vec::new();
                self.core.leave(self.images[image].0, &CLOSED, &mut effects);
                self.announced.retain(|(by, _)| *by != image);
                self.take(Outcome::of(effects, now));
            }
            _ => {}
        }
        self.check();
    }

    fn work(&mut self, task: Task, luck: Luck) {
        if let Task::Write(ticket) = &task {
            *self.fills.entry(ticket.feed).or_default() += 1;
        }
        if let Task::Fail(ticket, begun) = &task {
            let last = self.failed.entry((ticket.feed, ticket.unit)).or_insert(*begun);
            *last = (*last).max(*begun);
        }
        let outcome = step(&mut self.core, task, self.now, |_| luck);
        self.take(outcome);
    }

    fn take(&mut self, outcome: Outcome) {
        for (waiter, answer) in &outcome.answers {
            let ((feed, since), unit) = (self.joined[waiter], self.readers.0[waiter].0);
            let asked = self.failed.get(&(feed, unit));
            let is_heard = *answer != Err(FAILED) || asked.is_some_and(|asked| since <= *asked);
            assert!(is_heard, "reader {waiter} hears of a failure from before it came");
        }
        self.readers.take(outcome.answers);
        self.tasks.extend(outcome.tasks);
    }

    /// What holds at every moment.
    fn check(&self) {
        let (views, _) = self.core.view(usize::MAX);
        let place = |image: ImageId| {
            let at = self.images.iter().position(|(id, _)| *id == image).unwrap();
            (self.places[at], self.images[at].1)
        };
        let mut asked = HashSet::new();
        for view in views.iter().filter(|view| matches!(view.stage, RouteStage::Asked | RouteStage::Queued)) {
            let (place, [meta, _]) = place(view.image);
            let lane = if view.ticket.feed == meta { Some(view.image) } else { None };
            // Whoever has nobody to ask may be told so at any time.
            assert!(
                place.is_none() || asked.insert((place, lane, view.ticket.unit)),
                "asked twice at one place: {view:?}"
            );
        }
        assert!(self.core.requests() <= SLOTS + self.images.len(), "one slot for each image above the limit");
    }

    /// Carries everything out.
    fn finish(&mut self) {
        while !self.announced.is_empty() {
            self.act(Act::Arrive { which: 0, luck: Luck::Absent });
        }
        for turn in 0.. {
            let Some(task) = self.tasks.pop() else { break };
            let luck = [Luck::Right, Luck::Wrong, Luck::Absent][turn % 3];
            self.work(task, luck);
            assert!(turn < 100_000, "no end");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn whatever_happens_each_reader_is_answered_once_and_no_flight_is_left(acts in acts()) {
        let mut play = Play::new();
        acts.into_iter().for_each(|act| play.act(act));
        play.finish();
        prop_assert!(play.readers.all_answered(), "somebody still waits");
        prop_assert_eq!((play.core.flights(), play.core.requests()), (0, 0));
        for (image, _) in &play.images {
            prop_assert!(play.core.is_idle(*image) && play.core.is_quiet(*image));
        }
    }
}

#[test]
fn images_that_hang_leave_a_slot_for_every_other() {
    let mut core = FlightCore::new(64);
    let (_, images) = images(&mut core, &(0..20).map(Some).collect::<Vec<_>>());
    let (mut requests, now) = (Vec::new(), Instant::now());
    for (number, (_, [_, device])) in images.iter().enumerate() {
        let mut tasks = Vec::new();
        for unit in 0..40 {
            // Not next to each other, so that each is a request of its own; every image asks another place.
            let unit = unit * 50;
            tasks.extend(join(&mut core, (*device, unit), (0, 0), now, true, unit).unwrap().tasks);
        }
        let mut sent = 0;
        while let Some(task) = tasks.pop() {
            match task {
                Task::Send(..) => sent += 1,
                other => tasks.extend(step(&mut core, other, now, |_| Luck::Absent).tasks),
            }
        }
        assert!(sent >= 1, "image {number} of {requests:?}");
        requests.push(sent);
    }
    assert!(requests.iter().sum::<usize>() <= 64 + images.len(), "{requests:?}");
}
