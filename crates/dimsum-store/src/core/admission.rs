//! Who may hold how much of something that all images share, and who waits for it.
//!
//! An owner may hold as much as is free when it asks. The first takes at most half, and the next takes half of the
//! rest. So there is room for one more, however many hold on to theirs. An owner that holds nothing is always let in,
//! so each makes progress. The sum stays below the limit plus one admission for each owner. An owner that is not let in
//! waits; owners take turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

/// The account of one resource.
#[derive(Debug)]
pub(crate) struct Admission<O, I> {
    limit: u64,
    used: u64,
    most: u64,
    owners: HashMap<O, Share<I>>,
    /// Owners that wait, the next one first.
    line: VecDeque<O>,
}

#[derive(Debug)]
struct Share<I> {
    held: u64,
    waiting: VecDeque<Applicant<I>>,
}

#[derive(Debug)]
struct Applicant<I> {
    cost: u64,
    since: Instant,
    item: I,
}

impl<O: Copy + Eq + Hash, I> Admission<O, I> {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: 0, most: 0, owners: HashMap::new(), line: VecDeque::new() }
    }

    /// What all hold together.
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    /// The most that all held together.
    pub(crate) const fn most(&self) -> u64 {
        self.most
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.owners.values().map(|share| share.waiting.len()).sum()
    }

    /// Those of one owner that wait.
    pub(crate) fn waiting_of(&self, owner: O) -> usize {
        self.owners.get(&owner).map_or(0, |share| share.waiting.len())
    }

    /// Lets in at once, if there is room and nobody of the owner waits.
    pub(crate) fn enter(&mut self, owner: O, cost: u64) -> bool {
        let free = self.limit.saturating_sub(self.used);
        let new = || Share { held: 0, waiting: VecDeque::new() };
        let share = self.owners.entry(owner).or_insert_with(new);
        let fits = share.waiting.is_empty() && fits(share.held, cost, free);
        if fits {
            share.held = share.held.saturating_add(cost);
            self.used = self.used.saturating_add(cost);
            self.most = self.most.max(self.used);
        }
        fits
    }

    /// Lets an item wait that was not let in.
    pub(crate) fn wait(&mut self, owner: O, cost: u64, since: Instant, item: I) {
        let new = || Share { held: 0, waiting: VecDeque::new() };
        let share = self.owners.entry(owner).or_insert_with(new);
        if share.waiting.is_empty() {
            self.line.push_back(owner);
        }
        share.waiting.push_back(Applicant { cost, since, item });
    }

    /// Takes back what an owner held. Returns who is let in now, with what it was charged.
    pub(crate) fn leave(&mut self, owner: O, cost: u64) -> Vec<I> {
        self.used = self.used.saturating_sub(cost);
        if let Some(share) = self.owners.get_mut(&owner) {
            share.held = share.held.saturating_sub(cost);
            self.forget_if_empty(owner);
        }
        self.let_in()
    }

    fn let_in(&mut self) -> Vec<I> {
        let (mut entered, mut passed) = (Vec::new(), 0);
        while passed < self.line.len()
            && let Some(owner) = self.line.pop_front()
        {
            let free = self.limit.saturating_sub(self.used);
            let Some(share) = self.owners.get_mut(&owner) else { continue };
            match share.waiting.front().map(|first| first.cost) {
                Some(cost) if fits(share.held, cost, free) => {
                    entered.extend(share.waiting.pop_front().map(|first| first.item));
                    share.held = share.held.saturating_add(cost);
                    self.used = self.used.saturating_add(cost);
                    self.most = self.most.max(self.used);
                    passed = 0;
                }
                _ => passed += 1,
            }
            if !share.waiting.is_empty() {
                self.line.push_back(owner);
            }
        }
        entered
    }

    /// Takes out those that have waited since before a moment.
    pub(crate) fn expire(&mut self, before: Instant) -> Vec<I> {
        let mut expired = Vec::new();
        for share in self.owners.values_mut() {
            while share.waiting.front().is_some_and(|first| first.since < before) {
                expired.extend(share.waiting.pop_front().map(|first| first.item));
            }
        }
        let owners: Vec<O> = self.line.iter().copied().collect();
        self.line.retain(|owner| self.owners.get(owner).is_some_and(|share| !share.waiting.is_empty()));
        owners.into_iter().for_each(|owner| self.forget_if_empty(owner));
        expired
    }

    /// When the one that has waited longest came.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.owners.values().filter_map(|share| share.waiting.front()).map(|first| first.since).min()
    }

    fn forget_if_empty(&mut self, owner: O) {
        if self.owners.get(&owner).is_some_and(|share| share.held == 0 && share.waiting.is_empty()) {
            self.owners.remove(&owner);
        }
    }
}

const fn fits(held: u64, cost: u64, free: u64) -> bool {
    held == 0 || held.saturating_add(cost) <= free
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_owner_that_holds_on_to_what_it_has_leaves_room_for_every_other() {
        let mut account: Admission<u32, ()> = Admission::new(100);
        let mut held = Vec::new();
        for owner in 0..10 {
            let mut count = 0;
            while account.enter(owner, 1) {
                count += 1;
            }
            held.push(count);
        }
        assert_eq!(held, [50, 25, 13, 6, 3, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn those_who_wait_are_let_in_by_turns_and_each_in_order() {
        let (mut account, now) = (Admission::new(10), Instant::now());
        assert!(account.enter(0, 10));
        for (owner, item) in [(1, 10), (1, 11), (2, 20), (1, 12), (2, 21)] {
            account.wait(owner, 4, now, item);
        }
        assert_eq!(account.leave(0, 10), [10, 20]);
        assert_eq!(account.leave(1, 4), [11]);
        assert_eq!(account.leave(2, 4), [21]);
        assert_eq!(account.leave(1, 4), [12]);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Enter(u8, u64),
        Leave(usize),
        Expire,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            4 => (0u8..5, 1u64..30).prop_map(|(owner, cost)| Act::Enter(owner, cost)),
            3 => any::<usize>().prop_map(Act::Leave),
            1 => Just(Act::Expire),
        ];
        prop::collection::vec(act, 1..200)
    }

    proptest! {
        #[test]
        fn every_item_is_let_in_or_expires_once_and_the_sum_is_bounded(acts in acts()) {
            const LIMIT: u64 = 64;
            let (mut account, start) = (Admission::new(LIMIT), Instant::now());
            let (mut inside, mut waiting) = (Vec::new(), Vec::new());
            let enter = |inside: &mut Vec<_>, waiting: &mut Vec<(u8, u64, usize)>, entered: Vec<usize>| {
                for number in entered {
                    let at = waiting.iter().position(|item| item.2 == number).expect("waited");
                    inside.push(waiting.remove(at));
                }
            };
            for (number, act) in acts.into_iter().enumerate() {
                match act {
                    Act::Enter(owner, cost) if account.enter(owner, cost) => inside.push((owner, cost, number)),
                    Act::Enter(owner, cost) => {
                        account.wait(owner, cost, start, number);
                        waiting.push((owner, cost, number));
                    }
                    Act::Leave(which) if !inside.is_empty() => {
                        let (owner, cost, _) = inside.remove(which % inside.len());
                        let entered = account.leave(owner, cost);
                        enter(&mut inside, &mut waiting, entered);
                    }
                    Act::Leave(_) => {}
                    Act::Expire => {
                        let expired = account.expire(start + std::time::Duration::from_secs(1));
                        prop_assert_eq!(expired.len(), waiting.len());
                        waiting.clear();
                    }
                }
                let used: u64 = inside.iter().map(|(_, cost, _)| cost).sum();
                prop_assert_eq!((account.used(), account.waiting()), (used, waiting.len()));
                prop_assert!(used <= LIMIT + 5 * 30, "one admission for each owner above the limit");
                for (owner, ..) in &waiting {
                    prop_assert!(inside.iter().any(|(holder, ..)| holder == owner), "who holds nothing does not wait");
                }
            }
            while let Some((owner, cost, _)) = inside.pop() {
                let entered = account.leave(owner, cost);
                enter(&mut inside, &mut waiting, entered);
            }
            prop_assert!(waiting.is_empty() && account.used() == 0 && account.owners.is_empty());
        }
    }
}
