//! Filling: the rest of an image's packs, streamed in large ranges behind the readers, and kept as it comes.
//!
//! A fill costs network and disk and hardly any CPU; frames are proven when they are read. It runs in the runtime of the store. All who
//! want an image filled share one fill, which ends when the last of them does not want it any more. One that is kept up tries again
//! by itself after a full disk or a lost registry.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tracing::{Instrument as _, debug, debug_span};

use crate::error::FillError;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::filler::Filler;
use crate::fetch::origin;
use crate::fetch::progress::{FillProgress, FillReport, FillShared, FillState};

/// A share in a fill under way. When the last one of an image is dropped the fill ends; what it brought stays.
#[derive(Debug)]
pub struct Fill {
    shared: Arc<FillShared>,
    /// Given back when this share is cancelled.
    task: Mutex<Option<Arc<FillTask>>>,
}

/// The task of a fill, for all who want it.
#[derive(Debug)]
struct FillTask {
    abort: AbortHandle,
    shared: Arc<FillShared>,
}

/// The fill of an image, if there is one.
#[derive(Debug, Default)]
pub(crate) struct FillSlot(Mutex<Weak<FillTask>>);

impl FillSlot {
    /// Joins the fill of an image or starts it; with `keep` it tries again after it has failed.
    pub(crate) fn start(&self, fetcher: &Arc<Fetcher>, report: FillReport, keep: bool) -> Fill {
        let mut slot = self.0.lock();
        let running = slot.upgrade().filter(|task| task.shared.state().outcome().is_none());
        let task = match running {
            Some(task) => {
                task.shared.join(report, keep);
                task
            }
            None => {
                let task = Arc::new(FillTask::start(fetcher, report, keep));
                *slot = Arc::downgrade(&task);
                task
            }
        };
        Fill { shared: Arc::clone(&task.shared), task: Mutex::new(Some(task)) }
    }
}

impl FillTask {
    fn start(fetcher: &Arc<Fetcher>, report: FillReport, keep: bool) -> Self {
        let shared = Arc::new(FillShared::new());
        shared.join(report, keep);
        let run = FillRun(Filler { fetcher: Arc::clone(fetcher), shared: Arc::clone(&shared) });
        let span = debug_span!(parent: None, "fill", image = %fetcher.image());
        let abort = fetcher.services().start(async move { run.run().await }.instrument(span));
        Self { abort, shared }
    }
}

impl Drop for FillTask {
    fn drop(&mut self) {
        self.abort.abort();
        self.shared.set(FillState::Failed { reason: FillError::Ended });
    }
}

/// A fill from its first try to its end.
struct FillRun(Filler);

impl FillRun {
    async fn run(&self) {
        let (shared, mut failures) = (&self.0.shared, 0);
        loop {
            let before = shared.progress().done;
            debug!("fills");
            let reason = match self.0.run().await {
                Ok(()) => {
                    debug!("everything is here");
                    return shared.set(FillState::Done);
                }
                Err(reason) if !shared.keeps() => return shared.set(FillState::Failed { reason }),
                Err(reason) => reason,
            };
            failures = if shared.progress().done > before { 1 } else { failures + 1 };
            let policy = self.0.fetcher.services().fill_policy();
            debug!(%reason, failures, "the fill has stopped");
            let pause = origin::backed_off(policy.first_resume, failures - 1, policy.max_resume);
            shared.set(FillState::Waiting { reason, pause });
            // Told or not: then it is time.
            drop(tokio::time::timeout(pause, shared.resume().notified()).await);
            shared.set(FillState::Running);
        }
    }
}

impl Drop for FillRun {
    /// The task was ended, or panicked.
    fn drop(&mut self) {
        self.0.shared.set(FillState::Failed { reason: FillError::Ended });
    }
}

impl Fill {
    /// Returns how far it is.
    #[must_use]
    pub fn progress(&self) -> FillProgress {
        self.shared.progress()
    }

    /// Returns what it does, or how it has ended.
    #[must_use]
    pub fn state(&self) -> FillState {
        match &*self.task.lock() {
            Some(_) => self.shared.state(),
            None => match self.shared.state() {
                ended @ (FillState::Done | FillState::Failed { .. }) => ended,
                _ => FillState::Failed { reason: FillError::Ended },
            },
        }
    }

    /// Says whether it has ended, and how; `None` while it runs, or waits to try again.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), FillError>> {
        self.state().outcome()
    }

    /// Lets one that waits to try again do so now: what it lacked is there again.
    pub fn resume(&self) {
        self.shared.resume().notify_one();
    }

    /// Ends it for this holder: at once, whatever it waits for. If others want it too it goes on for them.
    pub fn cancel(&self) {
        let task = self.task.lock().take();
        drop(task);
    }

    /// Waits for its end. Not for threads of the store or of the runtime.
    ///
    /// # Errors
    /// If it did not bring everything.
    pub fn wait(&self) -> Result<(), FillError> {
        if self.task.lock().is_none() {
            return self.outcome().unwrap_or(Err(FillError::Ended));
        }
        self.shared.wait()
    }
}
