//! Room for reads that wait for chunks: who finds none waits for it, and images take turns.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use dimsum_source::Runtime;
use parking_lot::Mutex;

use crate::core::{Admission, ImageId};
use crate::pool::DecodePool;

/// What a read does when there is room for it, or when it has waited too long: then it is told for how long.
pub(crate) type ReadTurn = Box<dyn FnOnce(Result<(), Duration>) + Send>;

/// A read that waits, and whose it is.
type QueuedRead = (ImageId, ReadTurn);

/// The account of bytes that waiting reads hold.
pub(crate) struct ReadRoom {
    account: Mutex<ReadAccount>,
    pool: Weak<DecodePool>,
}

struct ReadAccount {
    admission: Admission<ImageId, QueuedRead>,
    /// Whether a task looks after those that wait too long.
    is_watched: bool,
}

impl std::fmt::Debug for ReadRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadRoom").field("used", &self.account.lock().admission.used()).finish_non_exhaustive()
    }
}

impl ReadRoom {
    pub(crate) fn new(limit: u64, pool: &Arc<DecodePool>) -> Self {
        let account = Mutex::new(ReadAccount { admission: Admission::new(limit), is_watched: false });
        Self { account, pool: Arc::downgrade(pool) }
    }

    /// Bytes held, the most that were held, and reads that wait.
    pub(crate) fn usage(&self) -> (u64, u64, usize) {
        let account = self.account.lock();
        (account.admission.used(), account.admission.most(), account.admission.waiting())
    }

    /// Takes room at once, if there is some and no read of the image waits for it.
    pub(crate) fn enter(&self, image: ImageId, bytes: u64) -> bool {
        self.account.lock().admission.enter(image, bytes)
    }

    /// Reads of an image that wait for room.
    pub(crate) fn waiting_of(&self, image: ImageId) -> usize {
        self.account.lock().admission.waiting_of(image)
    }

    /// Lets a read wait for room, for at most `deadline`. It is called on a thread of the pool.
    pub(crate) fn wait(
        self: &Arc<Self>,
        image: ImageId,
        bytes: u64,
        turn: ReadTurn,
        (runtime, deadline): (&Runtime, Duration),
    ) {
        let is_watched = {
            let mut account = self.account.lock();
            account.admission.wait(image, bytes, Instant::now(), (image, turn));
            std::mem::replace(&mut account.is_watched, true)
        };
        if !is_watched {
            runtime.spawn(Arc::clone(self).watch(deadline));
        }
        // What was given back before it waited told nobody.
        self.leave(image, 0);
    }

    /// Gives room back, and calls those who get it.
    pub(crate) fn leave(&self, image: ImageId, bytes: u64) {
        let entered = self.account.lock().admission.leave(image, bytes);
        self.call(entered, Ok(()));
    }

    fn call(&self, reads: Vec<QueuedRead>, how: Result<(), Duration>) {
        // Without a pool the store is gone, and a read that is dropped tells its reader.
        let Some(pool) = self.pool.upgrade() else { return };
        for (image, turn) in reads {
            pool.submit(image.into(), 0, Box::new(move |_| turn(how)));
        }
    }

    /// Ends reads that have waited for `deadline`, until none waits.
    async fn watch(self: Arc<Self>, deadline: Duration) {
        loop {
            let (expired, oldest) = {
                let mut account = self.account.lock();
                let before = Instant::now().checked_sub(deadline);
                let expired = before.map_or_else(Vec::new, |before| account.admission.expire(before));
                let oldest = account.admission.oldest();
                account.is_watched = oldest.is_some();
                (expired, oldest)
            };
            self.call(expired, Err(deadline));
            let Some(oldest) = oldest else { return };
            // A little later than the oldest one's time, so that it is over then.
            tokio::time::sleep_until((oldest + deadline + Duration::from_millis(1)).into()).await;
        }
    }
}
