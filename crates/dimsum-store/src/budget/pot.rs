//! Memory that many members share and each can give up: whoever holds most forgets first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Holds something that it can do without.
pub(crate) trait PotMember: std::fmt::Debug + Send + Sync {
    /// How much it should give, compared with others; 0 if nothing.
    fn weight(&self) -> u64;
    /// Gives up what it can without waiting, and tells the pot.
    fn give_up(&self);
}

/// A sum over all members, with a limit.
#[derive(Debug)]
pub(crate) struct SharedPot {
    limit: u64,
    used: AtomicU64,
    members: Mutex<Vec<Weak<dyn PotMember>>>,
}

impl SharedPot {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), members: Mutex::default() })
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn join(&self, member: Weak<dyn PotMember>) {
        let mut members = self.members.lock();
        // Here, where it grows: those that are gone go.
        members.retain(|member| member.strong_count() > 0);
        members.push(member);
    }

    /// A member holds more. Called without locks of members: they may be told to give up something.
    pub(crate) fn add(&self, amount: u64) {
        if self.used.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) > self.limit {
            self.relieve();
        }
    }

    /// A member holds less.
    pub(crate) fn sub(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Lets the heaviest members give up something, until the sum fits or nobody has anything.
    fn relieve(&self) {
        // Somebody else is at it.
        let Some(members) = self.members.try_lock() else { return };
        let mut heaviest: Vec<(u64, Arc<dyn PotMember>)> =
            members.iter().filter_map(Weak::upgrade).map(|member| (member.weight(), member)).collect();
        drop(members);
        heaviest.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        for (_, member) in heaviest.into_iter().filter(|(weight, _)| *weight > 0) {
            if self.used() <= self.limit {
                return;
            }
            member.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Holder(Arc<SharedPot>, AtomicU64);

    impl PotMember for Holder {
        fn weight(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }

        fn give_up(&self) {
            self.0.sub(self.1.swap(0, Ordering::Relaxed));
        }
    }

    #[test]
    fn the_heaviest_gives_first_and_the_sum_stays_below_the_limit() {
        let pot = SharedPot::new(100);
        let holders: Vec<Arc<Holder>> = (0..5).map(|_| Arc::new(Holder(Arc::clone(&pot), AtomicU64::new(0)))).collect();
        for holder in &holders {
            pot.join(Arc::downgrade(holder) as Weak<dyn PotMember>);
        }
        let grow = |number: usize, amount: u64| {
            holders[number].1.fetch_add(amount, Ordering::Relaxed);
            pot.add(amount);
        };
        grow(0, 60);
        for number in 1..5 {
            grow(number, 15);
        }
        assert_eq!((holders[0].weight(), pot.used()), (0, 60), "the one that held most");
        for round in 0..1000 {
            grow(round % 5, 7);
            assert!(pot.used() <= 100);
        }
    }
}
