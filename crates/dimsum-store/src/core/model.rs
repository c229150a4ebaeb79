//! Every interleaving of a few threads, by loom: each reader is answered once, no flight is left, nothing is fetched twice.
//!
//! The core has no lock of its own, so loom's mutex stands for the one that `fetch/traffic.rs` holds. Threads carry out the effects that
//! they get, as there.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::world::{CLOSED, Luck, Outcome, Readers, Task, TestCargo, arrive, images, join, step};
use super::{FeedId, FlightCore, ImageId, Ticket};

/// Threads are stopped at most this often where they need not be: all bugs of this kind that are known need two such stops.
const PREEMPTIONS: usize = 3;
const UNIT: u32 = 3;

struct Shared {
    core: Mutex<FlightCore<TestCargo>>,
    images: Vec<(ImageId, [FeedId; 2])>,
    /// The device file, and how often something was written to it.
    disk: Mutex<HashSet<u32>>,
    fills: AtomicU64,
    readers: Mutex<Readers>,
    /// How often a unit was brought.
    fetched: AtomicU64,
    /// The image whose source has nothing.
    without: Option<usize>,
    /// Whether no source has anything now.
    away: AtomicBool,
    damaged: AtomicU64,
    /// Time is the number of times that somebody asked for it.
    start: Instant,
    ticks: AtomicU64,
}

impl Shared {
    fn new(places: &[Option<u64>], waiters: u32) -> Arc<Self> {
        Self::without(places, waiters, None)
    }

    fn without(places: &[Option<u64>], waiters: u32, without: Option<usize>) -> Arc<Self> {
        let mut core = FlightCore::new(4);
        let (_, images) = images(&mut core, places);
        let mut readers = Readers::default();
        readers.0.extend((0..waiters).map(|waiter| (waiter, (UNIT, None))));
        Arc::new(Self {
            core: Mutex::new(core),
            images,
            disk: Mutex::new(HashSet::new()),
            fills: AtomicU64::new(0),
            readers: Mutex::new(readers),
            fetched: AtomicU64::new(0),
            without,
            away: AtomicBool::new(false),
            damaged: AtomicU64::new(0),
            start: Instant::now(),
            ticks: AtomicU64::new(0),
        })
    }

    fn device(&self, image: usize) -> FeedId {
        self.images[image].1[1]
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ticks.fetch_add(1, Ordering::AcqRel))
    }

    /// As `Image::read`: looks on the disk, joins, and looks again if something was written between.
    fn read(&self, image: usize, waiter: u32) {
        loop {
            let seen = self.fills.load(Ordering::Acquire);
            if self.disk.lock().unwrap().contains(&UNIT) {
                self.readers.lock().unwrap().take(vec![(waiter, Ok(UNIT))]);
                return;
            }
            let now = self.now();
            let joined = {
                let mut core = self.core.lock().unwrap();
                let fills = self.fills.load(Ordering::Acquire);
                join(&mut core, (self.device(image), UNIT), (seen, fills), now, false, waiter)
            };
            if let Some(outcome) = joined {
                return self.carry_out(outcome);
            }
        }
    }

    fn carry_out(&self, outcome: Outcome) {
        self.damaged.fetch_add(outcome.damaged as u64, Ordering::Relaxed);
        if !outcome.answers.is_empty() {
            self.readers.lock().unwrap().take(outcome.answers);
        }
        for task in outcome.tasks {
            match &task {
                Task::Decode(_) => drop(self.fetched.fetch_add(1, Ordering::Relaxed)),
                Task::Write(ticket) => {
                    self.disk.lock().unwrap().insert(ticket.unit);
                    self.fills.fetch_add(1, Ordering::Release);
                }
                _ => {}
            }
            let without = self.without.map(|image| self.device(image));
            let is_away = self.away.load(Ordering::Acquire);
            let luck = |ticket: Ticket| match () {
                () if is_away || without == Some(ticket.feed) => Luck::Absent,
                () => Luck::Right,
            };
            let now = self.now();
            let next = step(&mut self.core.lock().unwrap(), task, now, luck);
            self.carry_out(next);
        }
    }

    fn close(&self, image: usize) {
        let mut effects = Vec::new();
        self.core.lock().unwrap().leave(self.images[image].0, &CLOSED, &mut effects);
        self.carry_out(Outcome::of(effects, self.now()));
    }

    fn check(&self) {
        assert!(self.readers.lock().unwrap().all_answered(), "somebody still waits");
        let core = self.core.lock().unwrap();
        assert_eq!((core.flights(), core.requests()), (0, 0));
    }
}

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(test);
}

#[test]
fn readers_that_miss_together_fetch_once_and_each_is_answered_once() {
    model(|| {
        let shared = Shared::new(&[Some(1), Some(1)], 3);
        let others = [0, 1].map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.read(number as usize, number))
        });
        shared.read(0, 2);
        others.into_iter().for_each(|other| other.join().unwrap());
        shared.check();
        assert_eq!(shared.fetched.load(Ordering::Relaxed), 1, "fetched once");
    });
}

#[test]
fn a_source_that_fails_one_image_does_not_fail_another_that_asks_elsewhere() {
    model(|| {
        let shared = Shared::without(&[Some(1), Some(2)], 2, Some(0));
        let failing = Arc::clone(&shared);
        let failing = thread::spawn(move || failing.read(0, 0));
        shared.read(1, 1);
        failing.join().unwrap();
        shared.check();
        let readers = shared.readers.lock().unwrap();
        assert_eq!(readers.0[&1].1, Some(Ok(UNIT)));
    });
}

#[test]
fn an_image_that_is_closed_while_another_waits_for_its_route_leaves_the_other_its_answer() {
    model(|| {
        let shared = Shared::new(&[Some(1), Some(1)], 2);
        let reader = Arc::clone(&shared);
        let reader = thread::spawn(move || reader.read(0, 0));
        let other = Arc::clone(&shared);
        let other = thread::spawn(move || other.read(1, 1));
        shared.close(0);
        reader.join().unwrap();
        other.join().unwrap();
        let mut readers = shared.readers.lock().unwrap();
        // Who reads an image that is closed already is told nothing by the core: no such reader exists outside.
        readers.0.get_mut(&0).unwrap().1.get_or_insert(Err(CLOSED));
        assert_eq!(readers.0[&1].1, Some(Ok(UNIT)));
        drop(readers);
        shared.check();
    });
}

#[test]
fn who_waits_for_what_is_arriving_is_answered_by_it_or_asks_when_it_ends() {
    for luck in [Luck::Right, Luck::Wrong] {
        model(move || {
            let shared = Shared::new(&[Some(1)], 1);
            let feed = shared.device(0);
            shared.core.lock().unwrap().announce(feed, std::iter::once(UNIT));
            let reader = Arc::clone(&shared);
            let reader = thread::spawn(move || reader.read(0, 0));
            let now = shared.now();
            let outcome = arrive(&mut shared.core.lock().unwrap(), (feed, UNIT), now, luck);
            shared.carry_out(outcome);
            reader.join().unwrap();
            shared.check();
            assert_eq!(shared.readers.lock().unwrap().0[&0].1, Some(Ok(UNIT)));
        });
    }
}

#[test]
fn damage_that_two_readers_find_at_once_is_counted_and_repaired_once() {
    model(|| {
        let shared = Shared::new(&[Some(1)], 2);
        let other = Arc::clone(&shared);
        let other = thread::spawn(move || other.read(0, 0));
        shared.read(0, 1);
        other.join().unwrap();
        shared.check();
        assert_eq!((shared.damaged.load(Ordering::Relaxed), shared.fetched.load(Ordering::Relaxed)), (1, 1));
    });
}

#[test]
fn who_reads_after_a_source_is_back_gets_the_bytes_whatever_flight_is_still_failing() {
    for places in [&[Some(1)][..], &[Some(1), Some(1)], &[Some(1), Some(2)]] {
        model(move || {
            let shared = Shared::new(places, 2);
            shared.away.store(true, Ordering::Release);
            let early = Arc::clone(&shared);
            let early = thread::spawn(move || early.read(0, 0));
            shared.away.store(false, Ordering::Release);
            shared.read(places.len() - 1, 1);
            early.join().unwrap();
            shared.check();
            assert_eq!(shared.readers.lock().unwrap().0[&1].1, Some(Ok(UNIT)));
        });
    }
}

#[test]
fn all_who_join_a_flight_that_fails_get_one_new_one_together() {
    model(|| {
        let shared = Shared::new(&[Some(1)], 3);
        shared.away.store(true, Ordering::Release);
        let early = Arc::clone(&shared);
        let early = thread::spawn(move || early.read(0, 0));
        let late = Arc::clone(&shared);
        let late = thread::spawn(move || {
            late.away.store(false, Ordering::Release);
            late.read(0, 1);
        });
        shared.read(0, 2);
        early.join().unwrap();
        late.join().unwrap();
        shared.check();
        assert_eq!(shared.readers.lock().unwrap().0[&1].1, Some(Ok(UNIT)));
        assert_eq!(shared.fetched.load(Ordering::Relaxed), 1, "fetched once");
    });
}
