//! Brings all blobs of a plan to the target, some at a time.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::plan::Wanted;
use super::{CopyProgress, Outcome, Tally};
use crate::error::{SourceError, SourceFault};
use crate::source::Source;
use crate::target::Target;

/// Blobs that are under way together. Round trips of small ones hide behind the bytes of large ones, and registries and
/// their clients are used to this number.
const PARALLEL: usize = 4;

/// A copy under way.
struct Copying<'a> {
    blobs: &'a [Wanted],
    next: AtomicUsize,
    from: &'a dyn Source,
    to: &'a dyn Target,
    progress: &'a dyn CopyProgress,
    moved_bytes: AtomicU64,
    tally: Mutex<Tally>,
    /// Set when a blob failed: the others end soon.
    stop: AtomicBool,
    failed: Mutex<Option<SourceError>>,
}

pub(super) fn copy_all(
    blobs: &[Wanted],
    from: &dyn Source,
    to: &dyn Target,
    progress: &dyn CopyProgress,
) -> Result<Tally, SourceError> {
    let copying = Copying {
        blobs,
        next: AtomicUsize::new(0),
        from,
        to,
        progress,
        moved_bytes: AtomicU64::new(0),
        tally: Mutex::default(),
        stop: AtomicBool::new(false),
        failed: Mutex::default(),
    };
    thread::scope(|scope| {
        // This thread is one of them.
        for _ in 1..PARALLEL.min(blobs.len()) {
            scope.spawn(|| copying.work());
        }
        copying.work();
    });
    if let Some(error) = copying.failed.into_inner().expect("a panic of a copier does not come so far") {
        return Err(error);
    }
    if progress.cancelled() {
        return Err(cancelled(from));
    }
    let mut tally = copying.tally.into_inner().expect("a panic of a copier does not come so far");
    tally.moved_bytes = copying.moved_bytes.into_inner();
    Ok(tally)
}

impl Copying<'_> {
    fn work(&self) {
        while !self.ends() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(wanted) = self.blobs.get(number) else { return };
            self.progress.blob_started(wanted.blob);
            match self.bring(wanted) {
                Ok(outcome) => {
                    self.count(wanted, outcome);
                    self.progress.blob_done(wanted.blob, outcome);
                }
                Err(error) => {
                    // The first error is the reason; what the others say is that they were stopped.
                    let mut failed = self.failed.lock().expect("a panic of a copier ends the copy");
                    if !self.stop.swap(true, Ordering::Relaxed) {
                        *failed = Some(error);
                    }
                }
            }
        }
    }

    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.progress.cancelled()
    }

    fn bring(&self, wanted: &Wanted) -> Result<Outcome, SourceError> {
        let blob = wanted.blob;
        if wanted.foreign {
            return Ok(Outcome::Skipped);
        }
        if self.to.has(blob.digest, blob.size)? {
            return Ok(Outcome::Present);
        }
        if let Some(repository) = self.from.repository()
            && self.to.mount_blob(blob, repository)?
        {
            return Ok(Outcome::Mounted);
        }
        let moved = |count| {
            self.moved_bytes.fetch_add(count, Ordering::Relaxed);
            self.progress.blob_moved(blob, count);
            if self.ends() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.to.copy_blob(blob, self.from, &moved)?;
        Ok(Outcome::Moved)
    }

    fn count(&self, wanted: &Wanted, outcome: Outcome) {
        let mut tally = self.tally.lock().expect("a panic of a copier ends the copy");
        let (count, bytes) = match outcome {
            // Its bytes are counted as they move.
            Outcome::Moved => (&mut tally.moved, None),
            Outcome::Skipped => (&mut tally.skipped, None),
            Outcome::Present => {
                let Tally { present, present_bytes, .. } = &mut *tally;
                (present, Some(present_bytes))
            }
            Outcome::Mounted => {
                let Tally { mounted, mounted_bytes, .. } = &mut *tally;
                (mounted, Some(mounted_bytes))
            }
        };
        *count += 1;
        if let Some(bytes) = bytes {
            *bytes = bytes.saturating_add(wanted.blob.size);
        }
    }
}

fn cancelled(from: &dyn Source) -> SourceError {
    SourceFault::Cancelled.at(from.name())
}
