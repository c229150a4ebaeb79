//! One request: units next to each other in a blob, asked from one source after the other until all are proven.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dimsum_format::codec::Decompressor;
use dimsum_registry::{Source, SourceError};
use tokio::sync::oneshot;

use crate::error::{FailureReason, ReadError, SourceFailure};
use crate::feed::Feed;
use crate::fetch::Fetcher;
use crate::limits::MIN_SOURCE_RATE;
use crate::stats::{Event, add};

/// Place of the store's own packs in the list of sources.
pub(crate) const LOCAL: usize = 0;

/// Owns the flights of its units: whatever happens to the task, dropping this ends them and frees the slot.
#[derive(Debug)]
pub(crate) struct Request {
    fetcher: Arc<Fetcher>,
    feed: usize,
    /// Units not proven yet, ascending.
    left: Vec<u32>,
    failures: HashMap<u32, Vec<SourceFailure>>,
    /// Sources that did not answer this request in time.
    hung: Vec<usize>,
}

/// What came of asking a source.
enum Answer {
    /// Bytes from the start of the range, perhaps too few.
    Bytes(Bytes),
    /// Nothing; smaller requests may still succeed (a blob that is cut off).
    Refused(FailureReason),
    /// Nothing, and nothing to be expected.
    Nothing(FailureReason),
}

impl Request {
    pub(crate) fn new(fetcher: Arc<Fetcher>, feed: usize, units: Vec<u32>) -> Self {
        Self { fetcher, feed, left: units, failures: HashMap::new(), hung: Vec::new() }
    }

    /// Asks every source in order, then the origin once more: a bad answer may have come from something between.
    pub(crate) async fn run(mut self) {
        self.ask_all().await;
        if !self.left.is_empty() && self.refreshed_index().await {
            self.ask_all().await;
        }
    }

    async fn ask_all(&mut self) {
        let count = self.fetcher.sources.len();
        let origin_again = (count > 1).then_some(1);
        for (round, source) in (0..count).chain(origin_again).enumerate() {
            let again = round >= count;
            if self.left.is_empty() || (again && self.hung.contains(&source)) {
                break;
            }
            let trusted = |unit: &u32| source != LOCAL || count == 1 || !self.fetcher.distrusts(self.feed, *unit);
            let units = self.left.iter().copied().filter(trusted).collect();
            self.ask(source, units).await;
        }
    }

    /// Asks one source for units, those next to each other together.
    async fn ask(&mut self, source_index: usize, units: Vec<u32>) {
        let Some(source) = self.fetcher.sources.get(source_index).cloned() else { return };
        let mut work: VecDeque<Vec<u32>> = neighbours(&units).into();
        while let Some(run) = work.pop_front() {
            let range = self.span(&run);
            match self.read(source_index, &source, range.clone()).await {
                Answer::Bytes(bytes) => self.decode(&source, &run, range.start, &bytes).await,
                Answer::Refused(_) if run.len() > 1 => work.extend(run.into_iter().map(|unit| vec![unit])),
                Answer::Refused(reason) | Answer::Nothing(reason) => {
                    for unit in run {
                        self.failed(&source, unit, reason.clone());
                    }
                }
            }
            if self.hung.contains(&source_index) {
                // It would take the deadline again for each of the rest.
                let deadline = self.deadline(0);
                for unit in work.drain(..).flatten() {
                    self.failed(&source, unit, FailureReason::Deadline(deadline));
                }
            }
        }
    }

    async fn read(&mut self, source_index: usize, source: &Arc<dyn Source>, range: Range<u64>) -> Answer {
        let blob = self.feed().blob().digest;
        let must = range.end - range.start;
        let deadline = self.deadline(must);
        let counters = Arc::clone(&self.fetcher.counters);
        if source_index != LOCAL {
            add(&counters.requests, 1);
        }
        match tokio::time::timeout(deadline, source.read_range(blob, range)).await {
            Err(_) => {
                self.hung.push(source_index);
                Answer::Nothing(FailureReason::Deadline(deadline))
            }
            Ok(Err(error @ SourceError::NotFound { .. })) => Answer::Nothing(FailureReason::Source(Arc::new(error))),
            Ok(Err(error)) => Answer::Refused(FailureReason::Source(Arc::new(error))),
            Ok(Ok(bytes)) => {
                let is = bytes.len() as u64;
                add(if source_index == LOCAL { &counters.local_bytes } else { &counters.bytes_fetched }, is);
                if source_index == LOCAL {
                    add(&counters.local_requests, 1);
                }
                if is > must { Answer::Nothing(FailureReason::Length { is, must }) } else { Answer::Bytes(bytes) }
            }
        }
    }

    /// Decodes and proves each unit on the pool; those that fail stay in `left`.
    async fn decode(&mut self, source: &Arc<dyn Source>, run: &[u32], start: u64, bytes: &Bytes) {
        let mut results = Vec::with_capacity(run.len());
        for unit in run {
            let frame = self.feed().frame(*unit);
            let (must, has) = (frame.end - frame.start, bytes.len() as u64);
            let (from, to) = (frame.start - start, frame.end - start);
            if to > has {
                self.failed(source, *unit, FailureReason::Length { is: has.saturating_sub(from), must });
                continue;
            }
            // Both fit: `to` is at most the length of `bytes`.
            let frame = bytes.slice(from as usize..to as usize);
            let (give, take) = oneshot::channel();
            let (fetcher, feed, unit) = (Arc::clone(&self.fetcher), self.feed, *unit);
            self.fetcher.store.pool.submit(Box::new(move |decompressor| {
                // The request is gone only if its task was cancelled; the unit's readers have got their bytes all the same.
                drop(give.send(land(&fetcher, feed, unit, &frame, decompressor)));
            }));
            results.push((unit, take));
        }
        for (unit, result) in results {
            match result.await {
                Ok(Ok(())) => self.left.retain(|left| *left != unit),
                Ok(Err(reason)) => self.failed(source, unit, reason),
                // The pool has ended or the job panicked; `left` keeps the unit and the flight is failed at the end.
                Err(_) => {}
            }
        }
    }

    fn failed(&mut self, source: &Arc<dyn Source>, unit: u32, reason: FailureReason) {
        let failure = SourceFailure { source_name: source.name().to_owned(), reason };
        let is_local = self.fetcher.sources.get(LOCAL).is_some_and(|local| Arc::ptr_eq(local, source));
        if is_local && matches!(&failure.reason, FailureReason::Source(error) if is_not_found(error)) {
            // The usual case: there is no local pack. Not worth an event, nor a place in a message.
            return;
        }
        if is_local {
            self.fetcher.distrust(self.feed, unit);
        }
        add(&self.fetcher.counters.source_failures, 1);
        let (image, object) = (self.fetcher.image, self.feed().object(unit));
        self.fetcher.event(|| Event::SourceFailed { image, object, failure: failure.clone() });
        self.failures.entry(unit).or_default().push(failure);
    }

    /// Frame lengths of a meta that come from the disk are not proven by the meta root. If they led nowhere they are fetched again;
    /// says whether there are new ones.
    async fn refreshed_index(&self) -> bool {
        let Feed::Meta(meta) = self.feed() else { return false };
        meta.refresh_index(&self.fetcher).await
    }

    /// A long answer may take longer: a slow link is not a source that hangs.
    fn deadline(&self, bytes: u64) -> Duration {
        self.fetcher.store.deadline + Duration::from_secs_f64(bytes as f64 / MIN_SOURCE_RATE)
    }

    fn span(&self, run: &[u32]) -> Range<u64> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return 0..0 };
        self.feed().frame(*first).start..self.feed().frame(*last).end
    }

    fn feed(&self) -> &Feed {
        self.fetcher.feeds.get(self.feed).expect("requests are made for feeds of their fetcher")
    }

    fn error(&self, unit: u32, failures: Vec<SourceFailure>) -> ReadError {
        let object = self.feed().object(unit);
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

impl Drop for Request {
    fn drop(&mut self) {
        let mut late = None;
        for unit in std::mem::take(&mut self.left) {
            let failures = self.failures.remove(&unit).unwrap_or_default();
            let error = self.error(unit, failures);
            if let ReadError::Deadline { source_name, after, .. } = &error {
                late = Some((source_name.clone(), *after));
            }
            self.fetcher.fail(self.feed, unit, &error);
        }
        if let Some((source_name, after)) = late {
            for unit in self.fetcher.queued_for(self.feed, after) {
                let object = self.feed().object(unit);
                let error = ReadError::Deadline { object, source_name: source_name.clone(), after };
                self.fetcher.fail(self.feed, unit, &error);
            }
        }
        self.fetcher.release(self.feed);
    }
}

/// Decodes and proves a frame, wakes its readers, then writes it: in this order, so that a full or slow disk costs readers nothing.
fn land(
    fetcher: &Arc<Fetcher>,
    feed_index: usize,
    unit: u32,
    frame: &[u8],
    decompressor: &mut Decompressor,
) -> Result<(), FailureReason> {
    let Some(feed) = fetcher.feeds.get(feed_index) else { return Ok(()) };
    let bytes = decompressor.decompress(frame, feed.length(unit));
    let bytes = Bytes::from(bytes.map_err(|error| FailureReason::Frame(Arc::new(error)))?);
    let proof = feed.prove(unit, &bytes)?;
    add(&fetcher.counters.chunks_verified, 1);
    fetcher.proven(feed_index, unit, &bytes);
    match feed.keep(unit, &bytes, &proof) {
        Ok(()) if fetcher.is_repair(feed_index, unit) => {
            add(&fetcher.counters.repairs, 1);
            fetcher.event(|| Event::Repaired { image: fetcher.image, object: feed.object(unit) });
        }
        Ok(()) => {}
        Err((path, error)) => {
            add(&fetcher.counters.write_errors, 1);
            fetcher.event(|| Event::WriteFailed { path, kind: error.kind() });
        }
    }
    fetcher.land(feed_index, unit);
    Ok(())
}

const fn is_not_found(error: &SourceError) -> bool {
    matches!(error, SourceError::NotFound { .. })
}

/// Splits ascending units into runs without gaps.
fn neighbours(units: &[u32]) -> Vec<Vec<u32>> {
    units.chunk_by(|a, b| a.checked_add(1) == Some(*b)).map(<[u32]>::to_vec).collect()
}
