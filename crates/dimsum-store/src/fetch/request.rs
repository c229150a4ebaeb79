//! One request: units near each other in a blob, asked from one origin after the other until all are proven.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimsum_source::SourceFault;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use crate::core::{ErrorReach, FeedId, RequestBatch, RequestGroup, Ticket};
use crate::error::{FailureReason, ReadError, SourceFailure};
use crate::fetch::answer::{AnswerMeter, RangeAnswer};
use crate::fetch::arrivals::Arrivals;
use crate::fetch::feed::{Feed, FeedFrames};
use crate::fetch::fetcher::Fetcher;
use crate::fetch::index;
use crate::fetch::land;
use crate::fetch::origin::{self, OriginState};
use crate::fetch::trace;
use crate::fetch::traffic::ReadCargo;
use crate::limits::{FIRST_RETRY, MAX_RETRY, MIN_PATIENCE, MIN_SOURCE_RATE};
use crate::stats::{add, source_failed};

/// Owns the flights of its units: whatever happens to the task, dropping this ends them and frees the slot.
#[derive(Debug)]
pub(crate) struct ChunkRequest {
    fetcher: Arc<Fetcher>,
    feed: usize,
    feed_id: FeedId,
    /// Routes of the units, ascending.
    routes: Vec<Ticket>,
    /// Units not proven yet, ascending.
    left: Vec<u32>,
    /// What went wrong before this request.
    inherited: UnitFailures,
    /// What each origin last did wrong.
    failures: UnitFailures,
    /// Whom it asks.
    origins: Arc<[Arc<OriginState>]>,
    /// Origins that did not answer this request in time, or could not be reached.
    away: Vec<usize>,
    /// Whether the event sink was told of failures already.
    told: bool,
    /// How often an origin was asked.
    attempts: u32,
    /// Whether its units were asked for before, in vain.
    is_retry: bool,
    /// The last round, once it is over.
    ended: Option<RoundEnd>,
}

/// How a round of questions ended.
#[derive(Debug, Clone, Copy)]
struct RoundEnd {
    /// When it began: it is an answer for the readers who were there.
    begun: Instant,
    /// Readers who joined by then have no time for another round.
    late: Option<Instant>,
    /// Whether another round would have been made if there were time for it.
    may_heal: bool,
}

/// What went wrong with units.
type UnitFailures = HashMap<u32, Vec<SourceFailure>>;

/// A unit that is being decoded.
type Pending = (u32, oneshot::Receiver<Result<(), FailureReason>>);

impl ChunkRequest {
    pub(crate) fn new(fetcher: Arc<Fetcher>, feed: usize, batch: RequestBatch<ReadCargo>) -> Self {
        let (origins, failures) = (fetcher.origins().list(), UnitFailures::new());
        let (mut routes, mut left, mut inherited) = (Vec::new(), Vec::new(), UnitFailures::new());
        for (ticket, before) in batch.routes {
            routes.push(ticket);
            left.push(ticket.unit);
            inherited.insert(ticket.unit, before);
        }
        let (feed_id, is_retry, away) = (batch.feed, batch.is_retry, Vec::new());
        let (told, attempts, ended) = (false, 0, None);
        Self {
            fetcher,
            feed,
            feed_id,
            routes,
            left,
            inherited,
            failures,
            origins,
            away,
            told,
            attempts,
            is_retry,
            ended,
        }
    }

    /// Asks every origin in order. While they are out of reach, waits and asks again, until the deadline. Readers who joined late have
    /// a later one: their routes are queued again then, behind others.
    pub(crate) async fn run(mut self) {
        let (begun, mut pause) = (Instant::now(), FIRST_RETRY);
        loop {
            let round = Instant::now();
            self.ask_all().await;
            if !self.left.is_empty() && self.refreshed_index().await {
                self.ask_all().await;
            }
            let deadline = self.fetcher.services().deadline();
            let left = deadline.saturating_sub(begun.elapsed());
            let is_over = left <= FIRST_RETRY;
            let late = Instant::now().checked_add(FIRST_RETRY).and_then(|next| next.checked_sub(deadline));
            let may_heal = self.may_heal();
            self.ended = Some(RoundEnd { begun: round, late, may_heal });
            if self.left.is_empty() || is_over || !may_heal {
                return;
            }
            if let Some(late) = late {
                self.expire(late);
            }
            if self.left.is_empty() {
                return;
            }
            self.told = true;
            // The last round is at the deadline.
            tokio::time::sleep(pause.min(left)).await;
            pause = pause.saturating_mul(2).min(MAX_RETRY);
        }
    }

    /// Lets go of readers whose time is over, and of units that nobody else waits for.
    fn expire(&mut self, late: Instant) {
        for unit in self.left.clone() {
            let (Some(ticket), error) = (self.ticket(unit), self.error(unit)) else { continue };
            let traffic = self.fetcher.services().traffic();
            let goes_on = traffic.run(|core, effects| core.expire(ticket, late, &error, effects));
            if !goes_on {
                self.left.retain(|left| *left != unit);
                self.fetcher.fail(ticket, &error, ErrorReach::JoinedBy(late));
            }
        }
    }

    /// Asks every origin, then the first once more: a bad answer may have come from something between.
    async fn ask_all(&mut self) {
        self.failures.clear();
        self.away.clear();
        self.origins = self.fetcher.origins().list();
        let order = origin::order(&self.origins);
        for (round, place) in order.iter().chain(order.first()).enumerate() {
            let again = round >= order.len();
            if self.left.is_empty() || (again && self.away.contains(place)) {
                break;
            }
            self.ask(*place).await;
        }
    }

    /// Asks one origin for what is left, units near each other together.
    async fn ask(&mut self, place: usize) {
        let Some(origin) = self.origins.get(place).cloned() else { return };
        let mut work = self.runs(&origin);
        while let Some(run) = work.pop_front() {
            let outcome = self.ask_run(&origin, &run).await;
            let left: Vec<u32> = run.iter().copied().filter(|unit| self.left.contains(unit)).collect();
            let Err(reason) = outcome else { continue };
            if is_out_of_range(&reason) && run.len() > 1 {
                // Of a blob that is cut off, smaller requests may still be answered.
                work.extend(left.into_iter().map(|unit| vec![unit]));
                continue;
            }
            let is_away = is_away(&reason);
            for unit in left {
                self.failed(&origin, unit, reason.clone());
            }
            if is_away {
                // It would take the deadline again for each of the rest.
                self.away.push(place);
                for unit in work.drain(..).flatten() {
                    self.failed(&origin, unit, reason.clone());
                }
            }
        }
    }

    /// Asks for one range; its units are proven when this returns, or `failed`. An error is why the rest did not come.
    async fn ask_run(&mut self, origin: &Arc<OriginState>, run: &[u32]) -> Result<(), FailureReason> {
        let (Some(first), Some(last)) = (run.first().copied(), run.last().copied()) else { return Ok(()) };
        self.attempts += 1;
        let feed = self.feed();
        let gaps = (first..=last).filter(|unit| run.binary_search(unit).is_err());
        let mut arrivals = Arrivals::announce(&self.fetcher, self.feed, origin, gaps);
        let mut pending: Vec<Pending> = Vec::with_capacity(run.len());
        let deadline = self.deadline(feed.part(last).end.saturating_sub(feed.part(first).start));
        let counters = self.fetcher.counters();
        let meter = AnswerMeter { requests: &counters.source_requests, bytes: &counters.bytes_fetched };
        let routes: Vec<Ticket> = run.iter().filter_map(|unit| self.ticket(*unit)).collect();
        self.fetcher.services().traffic().run(|core, _| core.asks(&routes, &origin.label));
        let span = trace::attempt(self.attempts, origin, &feed.part(first), &feed.part(last));
        let mut answer = RangeAnswer::ask(origin, feed, first..=last, deadline, meter);
        let outcome = loop {
            match answer.next().instrument(span.clone()).await {
                Ok(None) => break Ok(()),
                Err(reason) => break Err(reason),
                Ok(Some((unit, frame))) if run.binary_search(&unit).is_ok() => {
                    let Some(ticket) = self.ticket(unit) else { continue };
                    let decoded = land::asked(&self.fetcher, self.feed, ticket, frame, origin.is_remote());
                    pending.push((unit, decoded));
                }
                Ok(Some((unit, frame))) => {
                    add(&counters.bytes_bridged, frame.len() as u64);
                    arrivals.arrived(unit, frame);
                }
            }
        };
        trace::answered(&span, &answer, &outcome);
        drop(answer);
        self.proven(origin, pending).await;
        if let Err(failure) = arrivals.write().await {
            self.fetcher.write_failed(failure);
        }
        outcome
    }

    /// Waits for units that are being decoded; those that fail stay in `left`.
    async fn proven(&mut self, origin: &Arc<OriginState>, pending: Vec<Pending>) {
        for (unit, decoded) in pending {
            match decoded.await {
                Ok(Ok(())) => {
                    self.left.retain(|left| *left != unit);
                    origin.keeps_its_word();
                }
                Ok(Err(reason)) => self.failed(origin, unit, reason),
                // The pool has ended or the job panicked; `left` keeps the unit and the flight is failed at the end.
                Err(_) => {}
            }
        }
    }

    /// Splits what is left into runs that one question to this origin gets.
    fn runs(&self, origin: &OriginState) -> VecDeque<Vec<u32>> {
        let feed = self.feed();
        let gap = if feed.keeps_frames() { origin.gap(self.fetcher.services().joining()) } else { 0 };
        let (mut runs, table) = (VecDeque::new(), feed.table());
        let mut group: Option<RequestGroup<'_, FeedFrames>> = None;
        for unit in &self.left {
            if group.as_mut().is_some_and(|group| group.append(*unit)) {
                continue;
            }
            let full = group.replace(RequestGroup::new(&table, *unit, gap));
            runs.extend(full.map(|group| group.units.into()));
        }
        runs.extend(group.map(|group| group.units.into()));
        runs
    }

    fn failed(&mut self, origin: &OriginState, unit: u32, reason: FailureReason) {
        origin.demote();
        let failure = SourceFailure { source_name: origin.source.name().to_owned(), reason };
        add(&self.fetcher.counters().source_failures, 1);
        if !self.told {
            let (image, object) = (self.fetcher.image(), self.feed().object(unit));
            self.fetcher.event(|| source_failed(image, object, &failure));
        }
        self.failures.entry(unit).or_default().push(failure);
    }

    /// Says whether a unit is left that some origin may give a moment later.
    fn may_heal(&self) -> bool {
        self.origins.iter().any(|origin| origin.is_remote()) && self.left.iter().any(|unit| self.is_passing(*unit))
    }

    /// Says whether some source may give a unit a moment later.
    fn is_passing(&self, unit: u32) -> bool {
        let mut failures = self.failures.get(&unit).into_iter().flatten();
        failures.any(|failure| matches!(&failure.reason, FailureReason::Source(error) if origin::may_pass(error)))
    }

    /// Frame lengths of a meta that come from the disk are not proven by the meta root. If they led nowhere they are fetched again;
    /// says whether there are new ones.
    async fn refreshed_index(&self) -> bool {
        let Feed::Meta(meta) = self.feed() else { return false };
        index::refresh(meta, &self.fetcher, self.feed_id).await
    }

    /// A long answer may take longer: a slow link is not a source that hangs.
    fn deadline(&self, bytes: u64) -> Duration {
        self.patience() + Duration::from_secs_f64(bytes as f64 / MIN_SOURCE_RATE)
    }

    /// How long a source may take besides the time for its bytes. Readers who have waited for an earlier try have that much less.
    fn patience(&self) -> Duration {
        let deadline = self.fetcher.services().deadline();
        let youngest = self.fetcher.services().traffic().view(|core| core.youngest(&self.routes));
        match youngest {
            Some(since) if self.is_retry => {
                deadline.saturating_sub(since.elapsed()).clamp(MIN_PATIENCE.min(deadline), deadline)
            }
            _ => deadline,
        }
    }

    /// The route of a unit.
    fn ticket(&self, unit: u32) -> Option<Ticket> {
        self.routes.iter().find(|ticket| ticket.unit == unit).copied()
    }

    fn feed(&self) -> &Feed {
        self.fetcher.feed(self.feed).expect("requests are made for feeds of their fetcher")
    }

    /// Whose readers the error of a unit is for at the end. It always is for those who were there when the request began: so each try
    /// ends some wait, however many join.
    fn reach(&self, unit: u32) -> ErrorReach {
        match self.ended {
            // The task was ended from outside.
            None => ErrorReach::Everybody,
            Some(RoundEnd { begun, late, may_heal }) => {
                let late = late.unwrap_or(begun);
                ErrorReach::JoinedBy(if may_heal && self.is_passing(unit) { late } else { late.max(begun) })
            }
        }
    }

    /// What went wrong with a unit, before this request and in its last round.
    fn failures_of(&self, unit: u32) -> Vec<SourceFailure> {
        let (before, now) = (self.inherited.get(&unit), self.failures.get(&unit));
        before.into_iter().chain(now).flatten().cloned().collect()
    }

    fn error(&self, unit: u32) -> ReadError {
        let (object, failures) = (self.feed().object(unit), self.failures_of(unit));
        let late = failures.iter().rev().find_map(|failure| match failure.reason {
            FailureReason::Deadline(after) => Some((failure.source_name.clone(), after)),
            _ => None,
        });
        match late {
            Some((source_name, after)) if !failures.iter().any(SourceFailure::is_integrity) => {
                ReadError::Deadline { object, source_name, after }
            }
            _ => ReadError::Unavailable { object, failures: failures.into() },
        }
    }
}

impl Drop for ChunkRequest {
    fn drop(&mut self) {
        let mut away = None;
        for unit in std::mem::take(&mut self.left) {
            if let Some(last) = self.failures_of(unit).iter().rev().find(|failure| is_away(&failure.reason)) {
                away = Some(last.source_name.clone());
            }
            if let Some(ticket) = self.ticket(unit) {
                self.fetcher.fail(ticket, &self.error(unit), self.reach(unit));
            }
        }
        let after = self.fetcher.services().deadline();
        if let (Some(source_name), Some(by)) = (away, Instant::now().checked_sub(after)) {
            // Those who waited as long behind this request are not to wait once more.
            let error = |unit| {
                let object = self.feed().object(unit);
                ReadError::Deadline { object, source_name: source_name.clone(), after }
            };
            let traffic = self.fetcher.services().traffic();
            traffic.run(|core, effects| core.expire_queued(self.feed_id, by, error, effects));
        }
        self.fetcher.release(self.feed_id);
    }
}

fn is_out_of_range(reason: &FailureReason) -> bool {
    matches!(reason, FailureReason::Source(error) if matches!(error.detail(), Some(SourceFault::Range { .. })))
}

/// Says whether the source gave no answer at all, so that asking it for something else makes no sense now.
fn is_away(reason: &FailureReason) -> bool {
    match reason {
        FailureReason::Deadline(_) => true,
        FailureReason::Source(error) => origin::is_shut(error),
        _ => false,
    }
}
