//! A queue in which owners share a worker's time by the cost of their work, not by its number.
//!
//! Each owner has a clock that goes on by the cost of what is taken from it; the owner whose clock is behind is next. An owner that
//! comes new starts at the clock of the one that was served last: waiting for nothing earns nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// Items by owner.
#[derive(Debug)]
pub(crate) struct FairQueue<O, I> {
    owners: HashMap<O, Account<I>>,
    /// Owners with items, by their clocks.
    order: BTreeSet<(u64, O)>,
    clock: u64,
}

#[derive(Debug)]
struct Account<I> {
    clock: u64,
    items: VecDeque<(u64, I)>,
}

impl<O: Copy + Ord + Hash, I> FairQueue<O, I> {
    pub(crate) fn new() -> Self {
        Self { owners: HashMap::new(), order: BTreeSet::new(), clock: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.values().map(|account| account.items.len()).sum()
    }

    /// Adds an item behind those of its owner.
    pub(crate) fn push(&mut self, owner: O, cost: u64, item: I) {
        let clock = self.clock;
        let account = self.owners.entry(owner).or_insert_with(|| Account { clock, items: VecDeque::new() });
        if account.items.is_empty() {
            account.clock = account.clock.max(clock);
            self.order.insert((account.clock, owner));
        }
        account.items.push_back((cost, item));
    }

    /// Takes the first item of the owner that is next.
    pub(crate) fn pop(&mut self) -> Option<I> {
        let (clock, owner) = self.order.pop_first()?;
        self.clock = self.clock.max(clock);
        let account = self.owners.get_mut(&owner)?;
        let (cost, item) = account.items.pop_front()?;
        account.clock = clock.saturating_add(cost);
        if account.items.is_empty() {
            // Its clock goes with it: at most one item's cost that it does not pay.
            self.owners.remove(&owner);
        } else {
            self.order.insert((account.clock, owner));
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_with_much_work_delays_another_by_one_item_of_each() {
        let mut queue = FairQueue::new();
        for number in 0..100 {
            queue.push(1, 8 << 20, (1, number));
        }
        assert_eq!(queue.pop(), Some((1, 0)));
        for number in 0..40 {
            queue.push(2, 256 << 10, (2, number));
        }
        let next: Vec<_> = (0..33).map(|_| queue.pop().unwrap().0).collect();
        assert!(next.iter().filter(|owner| **owner == 1).count() <= 2, "{next:?}");
        assert_eq!(queue.len(), 99 + 40 - 33);
    }

    #[test]
    fn items_of_one_owner_keep_their_order_and_none_is_lost() {
        let mut queue = FairQueue::new();
        (0..300).for_each(|number| queue.push(number % 7, u64::from(number % 5), number));
        let all: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
        for owner in 0..7 {
            assert!(all.iter().filter(|number| *number % 7 == owner).is_sorted());
        }
        assert_eq!((all.len(), queue.len()), (300, 0));
    }
}
