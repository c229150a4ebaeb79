//! Filling: the rest of an image's packs, streamed in large ranges behind the readers, and kept as it comes.
//!
//! ```text
//! a pack ─→ what other devices of this node have of it is copied (share.rs)
//!
//! next absent range ─→ its turn? ─→ announced ─→ one long answer ─┬─→ a frame that a reader waits for: decoded, answered
//!        ▲                                                        └─→ the rest: written to the sparse pack file, not decoded
//!        └───────────── done, or: pause, next origin ◀────────────────┘
//! ```
//!
//! A fill costs network and disk and hardly any CPU; frames are proven when they are read. It runs in the runtime of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::answer::{Answer, Meter};
use crate::arrivals::Arrivals;
use crate::device::WriteFailure;
use crate::error::{FailureReason, FillError, SourceFailure};
use crate::feed::{Feed, META};
use crate::fetch::Fetcher;
use crate::limits::{
    FILL_PASSES, FILL_PATIENCE, FILL_QUIET, FILL_RUSH, FILL_TRIES, FILL_WRITE, FIRST_PAUSE, MAX_PAUSE,
};
use crate::origin::{self, Origin};
use crate::share;
use crate::siblings::Patience;

/// How far a fill is, in bytes of the image's packs. What was here before counts as done when the fill comes past it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FillProgress {
    /// Bytes that are on this disk.
    pub done: u64,
    /// Bytes of all packs.
    pub total: u64,
}

/// A fill under way. Dropping it ends it; what it brought stays.
#[derive(Debug)]
pub struct Fill {
    task: AbortHandle,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    done: AtomicU64,
    total: AtomicU64,
    end: Mutex<Option<Result<(), FillError>>>,
    ended: Condvar,
}

/// Takes progress. Called on threads of the runtime, which it must not block.
type Report = Box<dyn Fn(FillProgress) + Send + Sync>;

/// Starts to fill the packs of an image.
pub(crate) fn start(fetcher: &Arc<Fetcher>, report: Report) -> Fill {
    let shared = Arc::new(Shared::default());
    let filler = Filler { fetcher: Arc::clone(fetcher), shared: Arc::clone(&shared), report };
    let task = fetcher.store.start(async move {
        let outcome = filler.run().await;
        filler.shared.finish(outcome);
    });
    Fill { task, shared }
}

impl Fill {
    /// Returns how far it is.
    #[must_use]
    pub fn progress(&self) -> FillProgress {
        self.shared.progress()
    }

    /// Says whether it has ended, and how; `None` while it runs.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), FillError>> {
        self.shared.end.lock().clone()
    }

    /// Ends it: at once, whatever it waits for.
    pub fn cancel(&self) {
        self.task.abort();
        self.shared.finish(Err(FillError::Ended));
    }

    /// Waits for its end. Not for threads of the store or of the runtime.
    ///
    /// # Errors
    /// If it did not bring everything.
    pub fn wait(&self) -> Result<(), FillError> {
        let mut end = self.shared.end.lock();
        loop {
            if let Some(outcome) = &*end {
                return outcome.clone();
            }
            self.shared.ended.wait(&mut end);
        }
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Shared {
    fn progress(&self) -> FillProgress {
        FillProgress { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }

    /// The first end counts.
    fn finish(&self, outcome: Result<(), FillError>) {
        self.end.lock().get_or_insert(outcome);
        self.ended.notify_all();
    }
}

/// The task.
struct Filler {
    fetcher: Arc<Fetcher>,
    shared: Arc<Shared>,
    report: Report,
}

/// Why a range did not come whole.
enum Stop {
    Origin { reason: FailureReason, brought_some: bool },
    Disk(WriteFailure),
}

impl Filler {
    async fn run(&self) -> Result<(), FillError> {
        if !self.fetcher.origins.has_remote() {
            // What lies on the same disk is not copied.
            return Ok(());
        }
        let sizes = self.packs().map(|(_, feed)| feed.blob().size);
        self.shared.total.store(sizes.fold(0, u64::saturating_add), Ordering::Relaxed);
        self.until_siblings_known().await;
        for _ in 0..FILL_PASSES {
            let (mut before, mut brought_some) = (0u64, false);
            for (index, feed) in self.packs() {
                self.copy(index).await?;
                brought_some |= self.pack(index, feed, before).await?;
                before = before.saturating_add(feed.blob().size);
                self.tell(before);
            }
            if !brought_some {
                break;
            }
        }
        Ok(())
    }

    fn packs(&self) -> impl Iterator<Item = (usize, &Feed)> {
        self.fetcher.feeds.iter().enumerate().filter(|(index, _)| *index != META)
    }

    /// Waits until it is known what other devices there are.
    async fn until_siblings_known(&self) {
        let (give, take) = oneshot::channel();
        let store = &self.fetcher.store;
        store.siblings.when_known(store, Patience::Whole, Box::new(move || give.send(()).unwrap_or(())));
        // Dropped only with the runtime itself.
        drop(take.await);
    }

    /// Copies what other devices have of a pack.
    async fn copy(&self, index: usize) -> Result<(), FillError> {
        let mut next = Some(0);
        while let Some(from) = next {
            let (fetcher, chore) = (Arc::clone(&self.fetcher), self.fetcher.chore());
            let copy = move || {
                let _chore = chore;
                share::copy_some(&fetcher, index, from)
            };
            let copied = tokio::task::spawn_blocking(copy).await;
            next = copied.unwrap_or(Ok(None)).map_err(|failure| self.cannot_write(failure))?;
        }
        Ok(())
    }

    fn cannot_write(&self, (path, error): WriteFailure) -> FillError {
        let kind = error.kind();
        self.fetcher.write_failed((path.clone(), error));
        FillError::Write { path, kind }
    }

    /// Brings what is absent of one pack; `before` are the bytes of the packs before it. Says whether anything was.
    async fn pack(&self, index: usize, feed: &Feed, before: u64) -> Result<bool, FillError> {
        let (mut next, mut tries, mut brought_some) = (0, 0, false);
        let mut failures: Vec<SourceFailure> = Vec::new();
        while let Some(origin) = self.origin() {
            // Looked for once it may be asked for: what readers were waiting for is here by then.
            self.until_turn(&origin).await;
            let Some((first, last)) = self.absent(index, next, &origin).await else { break };
            self.tell(before.saturating_add(feed.part(first).start));
            match self.range(index, feed, (first, last), before, &origin).await {
                Ok(()) => {
                    (next, tries, brought_some) = (last.saturating_add(1), 0, true);
                    origin.keeps_its_word();
                }
                Err(Stop::Disk(failure)) => return Err(self.cannot_write(failure)),
                Err(Stop::Origin { reason, brought_some }) => {
                    origin.demote();
                    crate::stats::add(&self.fetcher.counters.source_failures, 1);
                    let source_name = origin.source.name().to_owned();
                    failures.retain(|failure| failure.source_name != source_name);
                    failures.push(SourceFailure { source_name, reason });
                    tries = if brought_some { 1 } else { tries + 1 };
                    if tries >= FILL_TRIES {
                        return Err(FillError::Unavailable { pack: feed.blob().digest, failures: failures.into() });
                    }
                    tokio::time::sleep(origin::backed_off(FIRST_PAUSE, tries - 1, MAX_PAUSE)).await;
                    // Frames that came before it broke are passed over.
                    next = first;
                }
            }
        }
        Ok(brought_some)
    }

    /// The network that is asked now: the first that did not fail lately.
    fn origin(&self) -> Option<Arc<Origin>> {
        let origins = self.fetcher.origins.list();
        let mut order = origin::order(&origins).into_iter().filter_map(|place| origins.get(place));
        order.find(|origin| origin.is_remote()).cloned()
    }

    /// Finds the next parts to ask for, on a thread that may block.
    async fn absent(&self, index: usize, from: u32, origin: &Origin) -> Option<(u32, u32)> {
        let (fetcher, bytes) = (Arc::clone(&self.fetcher), origin.link.fill_range());
        let gap = origin.gap(fetcher.store.joining);
        let look = move || absent(fetcher.feeds.get(index)?, from, bytes, gap);
        // Cancelled only with the runtime itself.
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    /// Waits until it is the fill's turn: no reader waits for a source, and a long fill leaves readers that come one after the other
    /// the link.
    async fn until_turn(&self, origin: &Origin) {
        let FillProgress { done, total } = self.shared.progress();
        // Not known: its first range measures it.
        let long = origin.link.takes(total.saturating_sub(done)).is_some_and(|time| time > FILL_RUSH);
        let patience = tokio::time::Instant::now() + FILL_PATIENCE;
        loop {
            self.until_quiet().await;
            if !long || tokio::time::Instant::now() >= patience {
                return;
            }
            let asked = self.fetcher.counters.source_requests.load(Ordering::Relaxed);
            tokio::time::sleep(FILL_QUIET).await;
            if self.fetcher.is_quiet() && self.fetcher.counters.source_requests.load(Ordering::Relaxed) == asked {
                return;
            }
        }
    }

    /// Waits until no reader waits for a source.
    async fn until_quiet(&self) {
        loop {
            let mut quiet = std::pin::pin!(self.fetcher.quiet.notified());
            quiet.as_mut().enable();
            if self.fetcher.is_quiet() {
                return;
            }
            quiet.await;
        }
    }

    /// Asks for parts and keeps them.
    async fn range(
        &self,
        index: usize,
        feed: &Feed,
        (first, last): (u32, u32),
        before: u64,
        origin: &Arc<Origin>,
    ) -> Result<(), Stop> {
        let counters = &self.fetcher.counters;
        let meter = Meter { requests: &counters.fill_requests, bytes: &counters.bytes_filled };
        let mut arrivals = Arrivals::announce(&self.fetcher, index, origin, first..=last);
        let mut answer = Answer::ask(origin, feed, first..=last, self.fetcher.store.deadline, meter);
        let mut came: Option<u32> = None;
        let outcome = loop {
            match answer.next().await {
                Ok(Some((part, frame))) => {
                    self.arrived(&mut arrivals, part, frame).await?;
                    came = Some(part);
                    self.tell(before.saturating_add(feed.part(part).start));
                }
                Ok(None) => break Ok(()),
                Err(reason) => break Err(Stop::Origin { reason, brought_some: came.is_some() }),
            }
        };
        arrivals.write().await.map_err(Stop::Disk)?;
        if let Some(part) = came {
            self.tell(before.saturating_add(feed.part(part).end));
        }
        outcome
    }

    async fn arrived(&self, arrivals: &mut Arrivals, part: u32, frame: Bytes) -> Result<(), Stop> {
        arrivals.arrived(part, frame);
        if arrivals.raw_bytes() >= FILL_WRITE {
            arrivals.write().await.map_err(Stop::Disk)?;
        }
        Ok(())
    }

    fn tell(&self, done: u64) {
        if self.shared.done.fetch_max(done, Ordering::Relaxed) < done {
            (self.report)(self.shared.progress());
        }
    }
}

impl Drop for Filler {
    /// The task was ended, or panicked.
    fn drop(&mut self) {
        self.shared.finish(Err(FillError::Ended));
    }
}

/// Returns the first absent part from `from` on, and the last of those that fit into `bytes` with it; parts between that are here are
/// fetched again where they are shorter than `gap`.
fn absent(feed: &Feed, from: u32, bytes: u64, gap: u64) -> Option<(u32, u32)> {
    let here = feed.local().open();
    if here.has_whole() {
        return None;
    }
    let parts = feed.parts();
    let is_here = |part: u32| here.has_part(&feed.part(part)) || feed.is_decoded(part);
    let first = (from..parts).find(|part| !is_here(*part))?;
    let start = feed.part(first).start;
    let (mut last, mut end) = (first, feed.part(first).end);
    for part in first.saturating_add(1)..parts {
        let range = feed.part(part);
        if range.end.saturating_sub(start) > bytes || range.start.saturating_sub(end) > gap {
            break;
        }
        if !is_here(part) {
            (last, end) = (part, range.end);
        }
    }
    Some((first, last))
}
