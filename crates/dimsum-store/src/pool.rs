//! The fixed threads on which frames are decoded and verified, files written and waiting readers called.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dimsum_format::codec::Decompressor;
use parking_lot::{Condvar, Mutex};

use crate::core::{FairQueue, ImageId};

/// Cost of the smallest job, in decoded bytes: what calling a reader takes.
const MIN_JOB_COST: u64 = 4096;

/// Work for the pool. Its number is bounded by those who submit: requests under way times chunks of a request.
pub(crate) type Job = Box<dyn FnOnce(&mut Decompressor) + Send>;

/// A fixed number of threads and their queue.
#[derive(Debug)]
pub(crate) struct DecodePool {
    shared: Arc<PoolShared>,
}

/// Whose work it is. Owners share the threads by the cost of their work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobOwner(u64);

impl JobOwner {
    /// The store itself.
    pub(crate) const STORE: Self = Self(0);
}

impl From<ImageId> for JobOwner {
    fn from(image: ImageId) -> Self {
        Self(image.number())
    }
}

struct PoolShared {
    queue: Mutex<JobQueue>,
    wake: Condvar,
}

impl std::fmt::Debug for PoolShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolShared").field("jobs", &self.queue.lock().jobs.len()).finish()
    }
}

struct JobQueue {
    jobs: FairQueue<JobOwner, Job>,
    open: bool,
}

impl DecodePool {
    /// Starts `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let queue = Mutex::new(JobQueue { jobs: FairQueue::new(), open: true });
        let pool = Self { shared: Arc::new(PoolShared { queue, wake: Condvar::new() }) };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            std::thread::Builder::new().name(format!("dimsum-store-{number}")).spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Queues a job. After the end of the pool jobs are dropped, which their owners notice.
    pub(crate) fn submit(&self, owner: JobOwner, cost: u64, job: Job) {
        let mut queue = self.shared.queue.lock();
        if queue.open {
            // A job that costs nothing to decode still takes its turn.
            queue.jobs.push(owner, cost.max(MIN_JOB_COST), job);
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for DecodePool {
    /// Lets the threads finish what is queued. They are not joined: the last user of the pool may be one of them.
    fn drop(&mut self) {
        self.shared.queue.lock().open = false;
        self.shared.wake.notify_all();
    }
}

impl PoolShared {
    fn work(&self) {
        let mut decompressor = Decompressor::default();
        loop {
            let job = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(job) = queue.jobs.pop() {
                        break job;
                    }
                    if !queue.open {
                        return;
                    }
                    self.wake.wait(&mut queue);
                }
            };
            // A reader's callback that panics must not take the thread from the others. All that the job held is
            // dropped, and with it its readers are told.
            drop(catch_unwind(AssertUnwindSafe(|| job(&mut decompressor))));
        }
    }
}
