//! An ordered sink: many threads bring items, and a sink takes them in order.
//!
//! A SHA-256 over pieces that are compressed in parallel can only be computed in order. No extra thread does
//! it. The thread that brings the next item feeds it to the [`InOrderSink`], with all items that wait behind it. The
//! other threads leave their items and go on.

use std::collections::BTreeMap;

use parking_lot::{Condvar, Mutex};

/// Takes items in the order of their numbers.
pub(crate) trait InOrderSink {
    /// What it takes.
    type Item;

    /// Takes the next one.
    fn take(&mut self, item: Self::Item);
}

/// Brings items into order.
pub(crate) struct OrderedSink<S: InOrderSink> {
    state: Mutex<OrderedState<S>>,
    moved: Condvar,
    window: u64,
}

struct OrderedState<S: InOrderSink> {
    /// Number of the item to be taken next.
    next: u64,
    waiting: BTreeMap<u64, S::Item>,
    /// Away while a thread feeds it.
    sink: Option<S>,
    /// An item will never come.
    broken: bool,
}

/// The right, and the duty, to bring one item. Dropped without it, the sequence is broken and no thread waits for it
/// any more.
pub(crate) struct SinkSlot<'s, S: InOrderSink> {
    sequence: &'s OrderedSink<S>,
    number: u64,
    filled: bool,
}

impl<S: InOrderSink> OrderedSink<S> {
    /// Starts with item 0. An item that is `window` or more ahead of the next has to wait, so that few items are held.
    /// Items must be started in order, so that the next one is always on its way.
    pub(crate) fn new(sink: S, window: usize) -> Self {
        let state = OrderedState { next: 0, waiting: BTreeMap::new(), sink: Some(sink), broken: false };
        Self { state: Mutex::new(state), moved: Condvar::new(), window: window.max(1) as u64 }
    }

    /// Announces item `number`.
    pub(crate) fn slot(&self, number: u64) -> SinkSlot<'_, S> {
        SinkSlot { sequence: self, number, filled: false }
    }

    /// Returns the sink when all `count` items have been taken; none if one never came.
    pub(crate) fn finish(&self, count: u64) -> Option<S> {
        let mut state = self.state.lock();
        if state.next == count { state.sink.take() } else { None }
    }

    fn insert(&self, number: u64, item: S::Item) {
        let mut state = self.state.lock();
        while number >= state.next + self.window && !state.broken {
            self.moved.wait(&mut state);
        }
        if state.broken {
            return;
        }
        state.waiting.insert(number, item);
        // Who has it will see what was just left.
        let Some(mut sink) = state.sink.take() else { return };
        loop {
            let next = state.next;
            let Some(item) = state.waiting.remove(&next) else { break };
            drop(state);
            sink.take(item);
            state = self.state.lock();
            state.next += 1;
            self.moved.notify_all();
        }
        state.sink = Some(sink);
    }
}

impl<S: InOrderSink> SinkSlot<'_, S> {
    /// Brings the item; waits if it is too far ahead.
    pub(crate) fn put(mut self, item: S::Item) {
        self.sequence.insert(self.number, item);
        self.filled = true;
    }
}

impl<S: InOrderSink> Drop for SinkSlot<'_, S> {
    fn drop(&mut self) {
        if !self.filled {
            self.sequence.state.lock().broken = true;
            self.sequence.moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    struct List(Vec<u64>);

    impl InOrderSink for List {
        type Item = u64;

        fn take(&mut self, item: u64) {
            self.0.push(item);
        }
    }

    #[test]
    fn items_are_taken_in_order_whoever_is_faster() {
        const COUNT: u64 = 2_000;
        for (threads, window) in [(1, 1), (2, 1), (2, 4), (5, 10)] {
            let sequence = OrderedSink::new(List(Vec::new()), window);
            let next = AtomicU64::new(0);
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        loop {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            if number >= COUNT {
                                break;
                            }
                            let turn = sequence.slot(number);
                            // Some take longer than others.
                            for _ in 0..number * 7_919 % 13 {
                                thread::yield_now();
                            }
                            turn.put(number);
                        }
                    });
                }
            });
            let taken = sequence.finish(COUNT).unwrap().0;
            assert_eq!(taken, (0..COUNT).collect::<Vec<_>>(), "{threads} threads, window {window}");
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_goes_on_when_the_next_comes() {
        let sequence = OrderedSink::new(List(Vec::new()), 3);
        sequence.slot(2).put(2);
        sequence.slot(1).put(1);
        thread::scope(|scope| {
            let ahead = scope.spawn(|| sequence.slot(3).put(3));
            assert_eq!(sequence.state.lock().next, 0);
            assert_eq!(sequence.state.lock().waiting.len(), 2, "the fourth waits outside");
            sequence.slot(0).put(0);
            ahead.join().unwrap();
        });
        assert_eq!(sequence.finish(4).unwrap().0, [0, 1, 2, 3]);
    }

    #[test]
    fn nobody_waits_for_an_item_that_never_comes() {
        let sequence = OrderedSink::new(List(Vec::new()), 1);
        thread::scope(|scope| {
            scope.spawn(|| sequence.slot(5).put(5));
            drop(sequence.slot(0));
        });
        assert!(sequence.finish(1).is_none());
    }
}
