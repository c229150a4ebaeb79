//! The fill of a mount: started when the image is open, and taken up again when it ends too early.
//!
//! A fill ends without having brought everything when the disk is full or no source answers for minutes. Both pass, so it is
//! started again after a pause, as long as the image is mounted; until then its mount says why it stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimsum_store::{Fill, Image};
use parking_lot::Mutex;

use crate::wire::FillStatus;

/// The pause before a fill is taken up again; doubled each time, up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause. A registry that is away for a day is asked some hundred times.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How often the main thread looks at fills that are under way.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The fill of one mount.
pub(super) struct MountFill {
    first_pause: Duration,
    phase: Mutex<FillPhase>,
}

enum FillPhase {
    /// Nobody asked for one.
    Off,
    /// The image is not open, for this reason if it was tried.
    Closed {
        reason: String,
    },
    Running {
        image: Arc<Image>,
        fill: Fill,
        pause: Duration,
    },
    Stopped {
        image: Arc<Image>,
        reason: String,
        again: Instant,
        pause: Duration,
    },
    Done,
}

/// What the main thread found out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FillChange {
    Done,
    Stopped { reason: String },
}

impl MountFill {
    pub(super) fn new(wanted: bool, first_pause: Duration) -> Self {
        let phase = if wanted { FillPhase::Closed { reason: String::new() } } else { FillPhase::Off };
        Self { first_pause, phase: Mutex::new(phase) }
    }

    /// Starts, now that the image is open.
    pub(super) fn opened(&self, image: &Arc<Image>) {
        let mut phase = self.phase.lock();
        if matches!(&*phase, FillPhase::Closed { .. }) {
            *phase = running(Arc::clone(image), self.first_pause);
        }
    }

    /// Takes note of why the image cannot be opened.
    pub(super) fn broken(&self, because: &str) {
        if let FillPhase::Closed { reason } = &mut *self.phase.lock() {
            because.clone_into(reason);
        }
    }

    /// Says whether the main thread is to look at it again.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(&*self.phase.lock(), FillPhase::Running { .. } | FillPhase::Stopped { .. })
    }

    /// Looks whether the fill has ended, and takes it up again when it is time.
    pub(super) fn check(&self, now: Instant) -> Option<FillChange> {
        let mut phase = self.phase.lock();
        match &*phase {
            FillPhase::Running { image, fill, pause } => match fill.outcome()? {
                Ok(()) => {
                    *phase = FillPhase::Done;
                    Some(FillChange::Done)
                }
                Err(error) => {
                    let (image, reason, pause) = (Arc::clone(image), error.to_string(), *pause);
                    *phase = FillPhase::Stopped { image, reason: reason.clone(), again: now + pause, pause };
                    Some(FillChange::Stopped { reason })
                }
            },
            FillPhase::Stopped { image, again, pause, .. } if *again <= now => {
                *phase = running(Arc::clone(image), pause.saturating_mul(2).min(LONGEST_PAUSE));
                None
            }
            _ => None,
        }
    }

    /// Returns what to tell a client.
    pub(super) fn status(&self) -> FillStatus {
        match &*self.phase.lock() {
            FillPhase::Off => FillStatus::Off,
            FillPhase::Closed { reason } => FillStatus::Waiting { reason: reason.clone() },
            FillPhase::Done => FillStatus::Done,
            FillPhase::Stopped { reason, again, .. } => stopped(reason.clone(), *again),
            FillPhase::Running { fill, pause, .. } => match fill.outcome() {
                None => FillStatus::Running { done: fill.progress().done, total: fill.progress().total },
                Some(Ok(())) => FillStatus::Done,
                Some(Err(error)) => stopped(error.to_string(), Instant::now() + *pause),
            },
        }
    }
}

fn running(image: Arc<Image>, pause: Duration) -> FillPhase {
    let fill = image.fill(|_| {});
    FillPhase::Running { image, fill, pause }
}

fn stopped(reason: String, again: Instant) -> FillStatus {
    FillStatus::Failed { reason, retry_seconds: again.saturating_duration_since(Instant::now()).as_secs() }
}
