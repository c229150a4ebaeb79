//! The fixed threads on which frames are decoded and verified, files written and waiting readers called.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dimsum_format::codec::Decompressor;
use parking_lot::{Condvar, Mutex};

/// Work for the pool. Its number is bounded by those who submit: requests under way times chunks of a request.
pub(crate) type Job = Box<dyn FnOnce(&mut Decompressor) + Send>;

/// A fixed number of threads and their queue.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("jobs", &self.queue.lock().jobs.len()).finish()
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    open: bool,
}

impl Pool {
    /// Starts `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), open: true });
        let pool = Self { shared: Arc::new(Shared { queue, wake: Condvar::new() }) };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            std::thread::Builder::new().name(format!("dimsum-store-{number}")).spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Queues a job. After the end of the pool jobs are dropped, which their owners notice.
    pub(crate) fn submit(&self, job: Job) {
        let mut queue = self.shared.queue.lock();
        if queue.open {
            queue.jobs.push_back(job);
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Pool {
    /// Lets the threads finish what is queued. They are not joined: the last user of the pool may be one of them.
    fn drop(&mut self) {
        self.shared.queue.lock().open = false;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut decompressor = Decompressor::default();
        loop {
            let job = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if !queue.open {
                        return;
                    }
                    self.wake.wait(&mut queue);
                }
            };
            // A reader's callback that panics must not take the thread from the others; what the job held is dropped, and
            // with it its readers are told.
            drop(catch_unwind(AssertUnwindSafe(|| job(&mut decompressor))));
        }
    }
}
