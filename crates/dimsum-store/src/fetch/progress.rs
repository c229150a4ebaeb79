//! How far a fill is, and how it goes on after a failure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::error::FillError;
use crate::limits::{FILL_FIRST_RESUME, FILL_MAX_RESUME, FILL_TRIES, FIRST_PAUSE, MAX_PAUSE};

/// How far a fill is, in bytes of the image's packs. What was here before counts as done when the fill comes past it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FillProgress {
    /// Bytes that are on this disk.
    pub done: u64,
    /// Bytes of all packs.
    pub total: u64,
}

/// What a fill does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FillState {
    /// It brings bytes, or waits for its turn behind readers.
    Running,
    /// It failed and tries again by itself; see [`crate::Fill::resume`].
    Waiting {
        /// Why it failed.
        reason: FillError,
        /// How long it waits.
        pause: Duration,
    },
    /// Everything is here.
    Done,
    /// It ended without.
    Failed {
        /// Why.
        reason: FillError,
    },
}

/// When a fill tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillPolicy {
    /// Tries in a row that bring nothing, before it counts as failed.
    pub tries: u32,
    /// Pause after the first of these, doubled with each.
    pub first_pause: Duration,
    /// The longest such pause.
    pub max_pause: Duration,
    /// Pause of a fill that is kept up ([`crate::Image::keep_filled`]) after it failed, doubled while it brings nothing.
    pub first_resume: Duration,
    /// The longest such pause.
    pub max_resume: Duration,
}

impl Default for FillPolicy {
    fn default() -> Self {
        Self {
            tries: FILL_TRIES,
            first_pause: FIRST_PAUSE,
            max_pause: MAX_PAUSE,
            first_resume: FILL_FIRST_RESUME,
            max_resume: FILL_MAX_RESUME,
        }
    }
}

/// Takes progress. Called on threads of the runtime, which it must not block.
pub(crate) type FillReport = Box<dyn Fn(FillProgress) + Send + Sync>;

/// What the task of a fill and those who asked for it share.
pub(crate) struct FillShared {
    done: AtomicU64,
    total: AtomicU64,
    reports: Mutex<Vec<FillReport>>,
    state: Mutex<FillState>,
    ended: Condvar,
    /// Whether it tries again after it has failed.
    keeps: AtomicBool,
    /// Ends the pause before that.
    resume: Notify,
}

impl std::fmt::Debug for FillShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FillShared").field("progress", &self.progress()).field("state", &self.state()).finish()
    }
}

impl FillShared {
    pub(crate) fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            reports: Mutex::default(),
            state: Mutex::new(FillState::Running),
            ended: Condvar::new(),
            keeps: AtomicBool::new(false),
            resume: Notify::new(),
        }
    }

    /// One more wants it, and to hear of it.
    pub(crate) fn join(&self, report: FillReport, keep: bool) {
        self.reports.lock().push(report);
        self.keeps.fetch_or(keep, Ordering::Relaxed);
    }

    pub(crate) fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }

    pub(crate) const fn resume(&self) -> &Notify {
        &self.resume
    }

    pub(crate) fn progress(&self) -> FillProgress {
        FillProgress { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }

    pub(crate) fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, done: u64) {
        if self.done.fetch_max(done, Ordering::Relaxed) < done {
            let progress = self.progress();
            self.reports.lock().iter().for_each(|report| report(progress));
        }
    }

    pub(crate) fn state(&self) -> FillState {
        self.state.lock().clone()
    }

    /// Sets the state; the first end counts.
    pub(crate) fn set(&self, state: FillState) {
        let mut now = self.state.lock();
        if now.outcome().is_none() {
            *now = state;
            self.ended.notify_all();
        }
    }

    /// Waits for the end.
    pub(crate) fn wait(&self) -> Result<(), FillError> {
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = state.outcome() {
                return outcome;
            }
            self.ended.wait(&mut state);
        }
    }
}

impl FillState {
    /// How it has ended; `None` while it has not.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), FillError>> {
        match self {
            Self::Running | Self::Waiting { .. } => None,
            Self::Done => Some(Ok(())),
            Self::Failed { reason } => Some(Err(reason.clone())),
        }
    }
}
