//! Runs tasks on several threads and returns their results in order.
//!
//! One thread gives tasks and takes results. The window between them is bounded, so memory does not grow with the
//! number of tasks. The result does not depend on the speed of the threads.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Tasks in flight per thread: one being worked on, one waiting, so that no thread waits for the next task.
const TASKS_PER_JOB: usize = 2;

/// The giving and taking end.
#[derive(Debug)]
pub(crate) struct OrderedTasks<T, R> {
    tasks: Sender<(u64, T)>,
    results: Receiver<(u64, thread::Result<R>)>,
    /// Results from [`taken`](Self::taken) on, as far as they have come in.
    waiting: VecDeque<Option<R>>,
    taken: u64,
    window: usize,
}

/// Runs `body` beside `jobs` threads, each of which does tasks with a worker of its own.
pub(crate) fn with_workers<T: Send, R: Send, W, O>(
    jobs: NonZeroUsize,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, T) -> R + Sync,
    body: impl FnOnce(&mut OrderedTasks<T, R>) -> O,
) -> O {
    let window = jobs.get() * TASKS_PER_JOB;
    let (tasks, inbox) = bounded::<(u64, T)>(window);
    let (outbox, results) = bounded(window);
    thread::scope(|scope| {
        for _ in 0..jobs.get() {
            let (inbox, outbox) = (inbox.clone(), outbox.clone());
            let (worker, work) = (&worker, &work);
            scope.spawn(move || {
                let mut worker = worker();
                while let Ok((number, task)) = inbox.recv() {
                    // A panic must reach the thread that waits for this result.
                    let result = catch_unwind(AssertUnwindSafe(|| work(&mut worker, task)));
                    if outbox.send((number, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop((inbox, outbox));
        // Dropped at the end of this block, which ends the threads.
        let mut ordered = OrderedTasks { tasks, results, waiting: VecDeque::new(), taken: 0, window };
        body(&mut ordered)
    })
}

impl<T, R> OrderedTasks<T, R> {
    /// Gives a task, and returns the oldest result if the window is full.
    pub(crate) fn submit(&mut self, task: T) -> Option<R> {
        let ready = if self.waiting.len() >= self.window { self.take() } else { None };
        let number = self.taken + self.waiting.len() as u64;
        self.waiting.push_back(None);
        self.tasks.send((number, task)).expect("workers live as long as this end does");
        ready
    }

    /// Waits for the oldest result; none if all have been taken.
    pub(crate) fn take(&mut self) -> Option<R> {
        self.waiting.front()?;
        loop {
            if let Some(front) = self.waiting.front_mut().and_then(Option::take) {
                self.waiting.pop_front();
                self.taken += 1;
                return Some(front);
            }
            let (number, result) = self.results.recv().expect("workers live as long as this end does");
            let result = result.unwrap_or_else(|panic| resume_unwind(panic));
            let place = usize::try_from(number - self.taken).ok().and_then(|place| self.waiting.get_mut(place));
            *place.expect("a task in flight has a place") = Some(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_tasks() {
        for jobs in [1, 2, 5] {
            let jobs = NonZeroUsize::new(jobs).unwrap();
            let squares = with_workers(
                jobs,
                || (),
                |(), n: u64| n * n,
                |ordered| {
                    let mut results: Vec<_> = (0..1000).filter_map(|n| ordered.submit(n)).collect();
                    results.extend(std::iter::from_fn(|| ordered.take()));
                    results
                },
            );
            assert_eq!(squares, (0..1000).map(|n| n * n).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "worker")]
    fn a_panic_of_a_worker_does_not_hang() {
        let jobs = NonZeroUsize::new(2).unwrap();
        with_workers(
            jobs,
            || (),
            |(), ()| panic!("worker"),
            |ordered: &mut OrderedTasks<(), ()>| {
                ordered.submit(());
                ordered.take();
            },
        );
    }
}
