//! The worker pool of a conversion, and the spool that compressed frames go to.
//!
//! The pool does two kinds of work. *Slices* are bytes in memory: the reader of a layer hands them over as they
//! arrive and waits while all workers are busy. *Batches* are the bundles of a layer whose content lies in a
//! file: they are done when there is no slice to do. So the next layer is read while the bundles of the last
//! one are compressed, and no thread is idle.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, Scope};

use dimsum_format::codec::Compressor;
use dimsum_recipe::temporary::TemporaryFile;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::ConvertError;

/// Slices waiting per thread, so that no thread waits for the reader, nor the reader for one slow slice.
const WAITING_PER_JOB: usize = 2;

/// Compresses, with the memory for it.
pub(crate) struct FrameEncoder {
    compressor: Compressor,
    frame: Vec<u8>,
    frames: Arc<TemporaryFile>,
}

/// Where a frame lies in the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpooledChunk {
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl SpooledChunk {
    /// A chunk of a pack that is there already.
    pub(crate) const NOWHERE: Self = Self { offset: 0, length: 0 };
}

type SliceTask = Box<dyn FnOnce(&mut FrameEncoder) -> Result<(), ConvertError> + Send>;
type BatchWork = Arc<dyn Fn(usize, &mut FrameEncoder) -> Result<(), ConvertError> + Send + Sync>;

/// The giving end. Dropped, the threads end after their current task.
pub(crate) struct WorkerPool {
    shared: Arc<WorkerPoolShared>,
    frames: Arc<TemporaryFile>,
    jobs: NonZeroUsize,
}

struct WorkerPoolShared {
    state: Mutex<PoolState>,
    /// Something to do, or the end.
    work: Condvar,
    /// Something done, or the end.
    done: Condvar,
}

#[derive(Default)]
struct PoolState {
    slices: VecDeque<SliceTask>,
    batches: VecDeque<TaskBatch>,
    running_slices: usize,
    running_batches: usize,
    ended: bool,
    failed: Option<ConvertError>,
}

/// Tasks `next..end` of a row of them.
struct TaskBatch {
    next: usize,
    end: usize,
    work: BatchWork,
}

enum PoolTask {
    Slice(SliceTask),
    OfBatch(usize, BatchWork),
}

impl FrameEncoder {
    /// Compresses bytes into the spool.
    pub(crate) fn store(&mut self, bytes: &[u8]) -> Result<SpooledChunk, ConvertError> {
        self.frame.clear();
        let compressed = self.compressor.compress(bytes, &mut self.frame);
        compressed.map_err(|source| ConvertError::format("chunk", source))?;
        let offset = self.frames.append(&self.frame)?;
        let length = u32::try_from(self.frame.len()).expect("a frame of 5 MiB has less than 16 MiB");
        Ok(SpooledChunk { offset, length })
    }
}

impl WorkerPool {
    /// Starts the threads, with a spool for frames.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        jobs: NonZeroUsize,
        level: i32,
        frames: TemporaryFile,
    ) -> Self {
        let shared = Arc::new(WorkerPoolShared { state: Mutex::default(), work: Condvar::new(), done: Condvar::new() });
        let frames = Arc::new(frames);
        for _ in 0..jobs.get() {
            let (shared, frames) = (Arc::clone(&shared), Arc::clone(&frames));
            scope.spawn(move || work(&shared, level, frames));
        }
        Self { shared, frames, jobs }
    }

    /// Returns how many threads there are.
    pub(crate) const fn jobs(&self) -> NonZeroUsize {
        self.jobs
    }

    /// Returns the spool.
    pub(crate) fn frames(&self) -> &TemporaryFile {
        &self.frames
    }

    /// Hands a slice over; waits while all are busy.
    pub(crate) fn slice(
        &self,
        slice: impl FnOnce(&mut FrameEncoder) -> Result<(), ConvertError> + Send + 'static,
    ) -> Result<(), ConvertError> {
        let room = self.jobs.get() * WAITING_PER_JOB;
        let mut state = self.wait(|state| state.slices.len() < room)?;
        state.slices.push_back(Box::new(slice));
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Hands over `count` tasks of one kind, to be started in order behind all batches before.
    pub(crate) fn batch(
        &self,
        count: usize,
        work: impl Fn(usize, &mut FrameEncoder) -> Result<(), ConvertError> + Send + Sync + 'static,
    ) {
        if count > 0 {
            self.shared.state.lock().batches.push_back(TaskBatch { next: 0, end: count, work: Arc::new(work) });
            self.shared.work.notify_all();
        }
    }

    /// Waits until all slices are done.
    pub(crate) fn wait_for_slices(&self) -> Result<(), ConvertError> {
        self.wait(|state| state.slices.is_empty() && state.running_slices == 0).map(drop)
    }

    /// Waits until all batches are done.
    pub(crate) fn wait_for_batches(&self) -> Result<(), ConvertError> {
        self.wait(|state| state.batches.is_empty() && state.running_batches == 0).map(drop)
    }

    fn wait(&self, until: impl Fn(&PoolState) -> bool) -> Result<MutexGuard<'_, PoolState>, ConvertError> {
        let mut state = self.shared.state.lock();
        loop {
            if state.ended {
                // If the error was told before, or a thread panicked, this is not what the caller will hear.
                return Err(state.failed.take().unwrap_or(ConvertError::Cancelled));
            }
            if until(&state) {
                return Ok(state);
            }
            self.shared.done.wait(&mut state);
        }
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.shared.end(None);
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl WorkerPoolShared {
    /// Ends all threads; tasks that have not begun are forgotten.
    fn end(&self, error: Option<ConvertError>) {
        let mut state = self.state.lock();
        state.ended = true;
        if state.failed.is_none() {
            state.failed = error;
        }
        let forgotten = (std::mem::take(&mut state.slices), std::mem::take(&mut state.batches));
        drop(state);
        self.work.notify_all();
        self.done.notify_all();
        drop(forgotten);
    }

    /// Waits for the next task; none at the end.
    fn next(&self) -> Option<PoolTask> {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(slice) = state.slices.pop_front() {
                state.running_slices += 1;
                return Some(PoolTask::Slice(slice));
            }
            if let Some(batch) = state.batches.front_mut() {
                let (number, work) = (batch.next, Arc::clone(&batch.work));
                batch.next += 1;
                if batch.next == batch.end {
                    state.batches.pop_front();
                }
                state.running_batches += 1;
                return Some(PoolTask::OfBatch(number, work));
            }
            self.work.wait(&mut state);
        }
    }
}

/// Ends all threads if one panics: no thread must wait for it.
struct PanicWatch<'s>(&'s WorkerPoolShared);

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(None);
        }
    }
}

fn work(shared: &WorkerPoolShared, level: i32, frames: Arc<TemporaryFile>) {
    let _watch = PanicWatch(shared);
    let compressor = match Compressor::new(level) {
        Ok(compressor) => compressor,
        Err(source) => return shared.end(Some(ConvertError::format("chunk", source))),
    };
    let mut encoder = FrameEncoder { compressor, frame: Vec::new(), frames };
    while let Some(task) = shared.next() {
        let (done, of_batch) = match task {
            PoolTask::Slice(slice) => (slice(&mut encoder), false),
            PoolTask::OfBatch(number, work) => (work(number, &mut encoder), true),
        };
        if let Err(error) = done {
            return shared.end(Some(error));
        }
        let mut state = shared.state.lock();
        if of_batch {
            state.running_batches -= 1;
        } else {
            state.running_slices -= 1;
        }
        drop(state);
        shared.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use dimsum_recipe::temporary::TemporaryFiles;

    fn with_pool<R>(jobs: usize, body: impl FnOnce(&WorkerPool) -> R) -> R {
        let frames = TemporaryFiles::new(std::env::temp_dir()).create().unwrap();
        thread::scope(|scope| body(&WorkerPool::start(scope, NonZeroUsize::new(jobs).unwrap(), 3, frames)))
    }

    #[test]
    fn slices_go_before_batches_and_each_task_is_done_once() {
        for jobs in [1, 2, 5] {
            let done = Arc::new(Mutex::new(Vec::new()));
            let (release, hold) = crossbeam_channel::bounded::<()>(0);
            with_pool(jobs, |pool| {
                // Every thread is held until all work has been given.
                for _ in 0..jobs {
                    let hold = hold.clone();
                    pool.slice(move |_| hold.recv().map_err(|_| ConvertError::Cancelled)).unwrap();
                }
                let list = Arc::clone(&done);
                pool.batch(20, move |number, _| {
                    list.lock().push(100 + number);
                    Ok(())
                });
                let list = Arc::clone(&done);
                pool.slice(move |_| {
                    list.lock().push(0);
                    Ok(())
                })
                .unwrap();
                for _ in 0..jobs {
                    release.send(()).unwrap();
                }
                pool.wait_for_slices().unwrap();
                pool.wait_for_batches().unwrap();
            });
            let mut done = done.lock().clone();
            if jobs == 1 {
                assert_eq!(done, (0..1).chain(100..120).collect::<Vec<_>>());
            }
            done.sort_unstable();
            assert_eq!(done, (0..1).chain(100..120).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_everything_and_is_told_once() {
        let count = Arc::new(AtomicUsize::new(0));
        with_pool(2, |pool| {
            let seen = Arc::clone(&count);
            pool.batch(1_000_000, move |number, _| {
                seen.fetch_add(1, Ordering::Relaxed);
                if number == 3 { Err(ConvertError::Option { option: "this", reason: "fails" }) } else { Ok(()) }
            });
            assert!(matches!(pool.wait_for_batches(), Err(ConvertError::Option { .. })));
            assert!(matches!(pool.slice(|_| Ok(())), Err(ConvertError::Cancelled)));
        });
        assert!(count.load(Ordering::Relaxed) < 1_000_000);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_a_thread_does_not_hang() {
        with_pool(2, |pool| {
            pool.batch(5, |_, _| panic!("a task"));
            let _cancelled = pool.wait_for_batches();
        });
    }
}
