//! The work of a fill: what is absent of an image's packs, in large ranges.
//!
//! ```text
//! a pack ─→ what other devices of this node have of it is copied (share.rs)
//!
//! next absent range ─→ its turn? ─→ announced ─→ one long answer ─┬─→ a frame that a reader waits for: decoded, answered
//!        ▲                                                        └─→ the rest: written to the sparse pack file, not decoded
//!        └───────────── done, or: pause, next origin ◀────────────────┘
//! ```
//!
//! A guest of the store writes no sparse files: it brings whole packs (`whole_pack.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::debug;

use crate::disk::device::WriteFailure;
use crate::error::{FailureReason, FillError, SourceFailure};
use crate::fetch::answer::{AnswerMeter, RangeAnswer};
use crate::fetch::arrivals::Arrivals;
use crate::fetch::feed::{Feed, META};
use crate::fetch::fetcher::Fetcher;
use crate::fetch::origin::{self, OriginState};
use crate::fetch::progress::{FillPolicy, FillProgress, FillShared};
use crate::fetch::{share, whole_pack};
use crate::limits::{FILL_PASSES, FILL_PATIENCE, FILL_QUIET, FILL_RUSH, FILL_WRITE};
use crate::siblings::Hold;
use crate::stats::add;

/// The task.
pub(crate) struct Filler {
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) shared: Arc<FillShared>,
}

/// Why a range did not come whole.
pub(crate) enum RangeStop {
    Origin { reason: FailureReason, brought_some: bool },
    Disk(WriteFailure),
}

impl Filler {
    /// Brings everything, or says why not.
    pub(crate) async fn run(&self) -> Result<(), FillError> {
        if !self.fetcher.origins().has_remote() {
            // What lies on the same disk is not copied.
            return Ok(());
        }
        let sizes = self.packs().map(|(_, feed)| feed.blob().size);
        self.shared.set_total(sizes.fold(0, u64::saturating_add));
        if !self.fetcher.services().role().is_owner() {
            return self.whole_packs().await;
        }
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

    /// Brings whole packs that are not here.
    async fn whole_packs(&self) -> Result<(), FillError> {
        let mut before = 0u64;
        for (_, feed) in self.packs() {
            let mut tries = 0;
            while let Err(failure) = whole_pack::bring(&self.fetcher, feed, |done| self.tell(before + done)).await {
                let failure = match failure {
                    RangeStop::Disk(failure) => return Err(self.cannot_write(failure)),
                    RangeStop::Origin { reason, .. } => self.failure(reason),
                };
                tries += 1;
                self.pause(feed, tries, &[failure]).await?;
            }
            before = before.saturating_add(feed.blob().size);
            self.tell(before);
        }
        Ok(())
    }

    fn failure(&self, reason: FailureReason) -> SourceFailure {
        add(&self.fetcher.counters().source_failures, 1);
        let source_name = self.origin().map_or_else(String::new, |origin| origin.source.name().to_owned());
        SourceFailure { source_name, reason }
    }

    /// Waits before the next try, or says that there is none.
    async fn pause(&self, feed: &Feed, tries: u32, failures: &[SourceFailure]) -> Result<(), FillError> {
        let policy = self.policy();
        if tries >= policy.tries {
            return Err(FillError::Unavailable { pack: feed.blob().digest, failures: failures.into() });
        }
        tokio::time::sleep(origin::backed_off(policy.first_pause, tries - 1, policy.max_pause)).await;
        Ok(())
    }

    fn policy(&self) -> FillPolicy {
        self.fetcher.services().fill_policy()
    }

    fn packs(&self) -> impl Iterator<Item = (usize, &Feed)> {
        self.fetcher.feeds().iter().enumerate().filter(|(index, _)| *index != META)
    }

    /// Waits until it is known what other devices there are.
    async fn until_siblings_known(&self) {
        let (give, take) = oneshot::channel();
        let services = self.fetcher.services();
        let known = Box::new(move || give.send(()).unwrap_or(()));
        services.siblings().when_known(services.runtime(), Hold::Long, known);
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
                Err(RangeStop::Disk(failure)) => return Err(self.cannot_write(failure)),
                Err(RangeStop::Origin { reason, brought_some }) => {
                    origin.demote();
                    add(&self.fetcher.counters().source_failures, 1);
                    let source_name = origin.source.name().to_owned();
                    failures.retain(|failure| failure.source_name != source_name);
                    failures.push(SourceFailure { source_name, reason });
                    tries = if brought_some { 1 } else { tries + 1 };
                    self.pause(feed, tries, &failures).await?;
                    // Frames that came before it broke are passed over.
                    next = first;
                }
            }
        }
        Ok(brought_some)
    }

    /// The network that is asked now: the first that did not fail lately.
    fn origin(&self) -> Option<Arc<OriginState>> {
        let origins = self.fetcher.origins().list();
        let mut order = origin::order(&origins).into_iter().filter_map(|place| origins.get(place));
        order.find(|origin| origin.is_remote()).cloned()
    }

    /// Finds the next parts to ask for, on a thread that may block.
    async fn absent(&self, index: usize, from: u32, origin: &OriginState) -> Option<(u32, u32)> {
        let (fetcher, bytes) = (Arc::clone(&self.fetcher), origin.link.fill_range());
        let gap = origin.gap(fetcher.services().joining());
        let look = move || absent(fetcher.feed(index)?, from, bytes, gap);
        // Cancelled only with the runtime itself.
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }

    /// Waits until it is the fill's turn. Then no reader waits for a source. A long fill also leaves the link to
    /// readers that come one after the other.
    async fn until_turn(&self, origin: &OriginState) {
        let FillProgress { done, total } = self.shared.progress();
        // Not known: its first range measures it.
        let long = origin.link.takes(total.saturating_sub(done)).is_some_and(|time| time > FILL_RUSH);
        let patience = tokio::time::Instant::now() + FILL_PATIENCE;
        loop {
            self.until_quiet().await;
            if !long || tokio::time::Instant::now() >= patience {
                return;
            }
            let asked = self.fetcher.counters().source_requests.load(Ordering::Relaxed);
            tokio::time::sleep(FILL_QUIET).await;
            if self.fetcher.is_quiet() && self.fetcher.counters().source_requests.load(Ordering::Relaxed) == asked {
                return;
            }
        }
    }

    /// Waits until no reader waits for a source.
    async fn until_quiet(&self) {
        loop {
            let mut quiet = std::pin::pin!(self.fetcher.quiet().notified());
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
        origin: &Arc<OriginState>,
    ) -> Result<(), RangeStop> {
        // Closed only with the store.
        let _turn = Arc::clone(&self.fetcher.services().budgets().fills).acquire_owned().await.ok();
        let counters = self.fetcher.counters();
        let meter = AnswerMeter { requests: &counters.fill_requests, bytes: &counters.bytes_filled };
        let mut arrivals = Arrivals::announce(&self.fetcher, index, origin, first..=last);
        let mut answer = RangeAnswer::ask(origin, feed, first..=last, self.fetcher.services().deadline(), meter);
        debug!(source = &*origin.label, from = feed.part(first).start, to = feed.part(last).end, "asks for a range");
        let mut came: Option<u32> = None;
        let outcome = loop {
            match answer.next().await {
                Ok(Some((part, frame))) => {
                    self.arrived(&mut arrivals, part, frame).await?;
                    came = Some(part);
                    self.tell(before.saturating_add(feed.part(part).start));
                }
                Ok(None) => break Ok(()),
                Err(reason) => break Err(RangeStop::Origin { reason, brought_some: came.is_some() }),
            }
        };
        arrivals.write().await.map_err(RangeStop::Disk)?;
        if let Some(part) = came {
            self.tell(before.saturating_add(feed.part(part).end));
        }
        outcome
    }

    async fn arrived(&self, arrivals: &mut Arrivals, part: u32, frame: Bytes) -> Result<(), RangeStop> {
        arrivals.arrived(part, frame);
        if arrivals.raw_bytes() >= FILL_WRITE {
            arrivals.write().await.map_err(RangeStop::Disk)?;
        }
        Ok(())
    }

    fn tell(&self, done: u64) {
        self.shared.tell(done);
    }
}

/// Returns the first absent part from `from` on, and the last absent part that fits into `bytes` with it. Parts between
/// them that are here are fetched again where they are shorter than `gap`.
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
