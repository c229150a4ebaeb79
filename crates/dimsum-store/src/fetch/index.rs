//! Getting what an image needs before it is open: its config, and the index of its compressed meta or all of that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dimsum_format::index::{IndexTail, MetaIndex, TAIL_BYTES};
use dimsum_format::limits::MAX_META_INDEX_BYTES;
use dimsum_format::manifest::Blob;
use dimsum_format::{Digest, MetaRoot};
use dimsum_source::{ErrorKind, Source, SourceFault};
use tokio::sync::oneshot;

use crate::core::FeedId;
use crate::disk::meta_file::MetaFile;
use crate::error::{FailureReason, SourceFailure};
use crate::fetch::feed::FeedFrames;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::link::Timing;
use crate::fetch::origin::{self, OriginState};
use crate::limits::MIN_SOURCE_RATE;
use crate::pool::JobOwner;
use crate::services::Services;
use crate::stats::{Counters, add};

/// Bytes at the end of a meta that are asked for at first: the index of a meta up to 60 MiB in one request.
const FIRST_TAIL: u64 = 128 << 10;

/// Who is asked, and by what right.
pub(crate) struct OpeningAsker {
    services: Arc<Services>,
    origins: Vec<Arc<OriginState>>,
    counters: Arc<Counters>,
}

/// The index of a meta, proven.
pub(crate) struct Fetched {
    pub(crate) index: MetaIndex,
    /// Its bytes, for the store.
    pub(crate) bytes: Bytes,
    /// The whole compressed meta, if it came with it; its digest is right.
    pub(crate) whole: Option<Bytes>,
}

/// A place that is asked: this disk, or an origin.
enum AskedPlace<'a> {
    Disk(&'a dyn Source),
    Origin(&'a OriginState),
}

impl OpeningAsker {
    pub(crate) fn new(services: &Arc<Services>, origins: &[Arc<OriginState>], counters: &Arc<Counters>) -> Self {
        Self { services: Arc::clone(services), origins: origins.to_vec(), counters: Arc::clone(counters) }
    }

    /// This disk, then the origins.
    fn places(&self) -> impl Iterator<Item = AskedPlace<'_>> {
        let order = origin::order(&self.origins).into_iter();
        let origins = order.filter_map(|place| self.origins.get(place)).map(|origin| AskedPlace::Origin(origin));
        std::iter::once(AskedPlace::Disk(self.services.packs().as_ref())).chain(origins)
    }

    /// Reads a range of a blob, all of it or nothing.
    async fn read(
        &self,
        place: &AskedPlace<'_>,
        blob: Digest,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, FailureReason> {
        let must = range.end.saturating_sub(range.start);
        let allowed = self.services.deadline() + Duration::from_secs_f64(must as f64 / MIN_SOURCE_RATE);
        let asked = tokio::time::Instant::now();
        if matches!(place, AskedPlace::Origin(_)) {
            add(&self.counters.source_requests, 1);
        }
        let bytes = tokio::time::timeout(allowed, place.source().read_range(blob, range)).await;
        let bytes = bytes.map_err(|_| FailureReason::Deadline(allowed))?;
        let bytes = bytes.map_err(|error| FailureReason::Source(Arc::new(error)))?;
        let is = bytes.len() as u64;
        if let AskedPlace::Origin(origin) = place {
            add(&self.counters.bytes_fetched, is);
            origin.link.observe(Timing { first: asked.elapsed(), first_bytes: is, ..Timing::default() });
        }
        if is == must { Ok(bytes) } else { Err(FailureReason::Length { is, must }) }
    }

    /// Reads a whole blob and proves it by its digest.
    async fn read_whole(
        &self,
        place: &AskedPlace<'_>,
        object: &'static str,
        blob: Blob,
    ) -> Result<Bytes, FailureReason> {
        let bytes = self.read(place, blob.digest, 0..blob.size).await?;
        let (give, take) = oneshot::channel();
        let hashed = bytes.clone();
        // Some megabytes are too much to hash on a thread that carries other requests.
        self.services.pool().submit(
            JobOwner::STORE,
            blob.size,
            Box::new(move |_| {
                let _ = give.send(Digest::of(&hashed));
            }),
        );
        let source_name = || place.source().name().to_owned();
        let cancelled = |_| FailureReason::Source(Arc::new(SourceFault::Cancelled.at(source_name())));
        let (is, must) = (take.await.map_err(cancelled)?, blob.digest);
        if is == must {
            return Ok(bytes);
        }
        let error = SourceFault::Digest { object, is, must }.at(source_name());
        Err(FailureReason::Source(Arc::new(error)))
    }
}

impl AskedPlace<'_> {
    fn source(&self) -> &dyn Source {
        match self {
            AskedPlace::Disk(source) => *source,
            AskedPlace::Origin(origin) => &*origin.source,
        }
    }

    /// Judges an origin by its answer. That this disk has no such blob is the usual case, and no failure.
    fn judge<T>(&self, found: Result<T, FailureReason>, failures: &mut Vec<SourceFailure>) -> Option<T> {
        match (found, self) {
            (Ok(found), AskedPlace::Origin(origin)) => {
                origin.keeps_its_word();
                Some(found)
            }
            (Ok(found), AskedPlace::Disk(_)) => Some(found),
            (Err(reason), AskedPlace::Disk(_)) if is_not_found(&reason) => None,
            (Err(reason), _) => {
                if let AskedPlace::Origin(origin) = self {
                    origin.demote();
                }
                failures.push(SourceFailure { source_name: self.source().name().to_owned(), reason });
                None
            }
        }
    }
}

/// Fetches a small blob from the first place that gives it with its digest.
pub(crate) async fn fetch_small(
    asker: &OpeningAsker,
    object: &'static str,
    blob: Blob,
) -> Result<Bytes, Vec<SourceFailure>> {
    let mut failures = Vec::new();
    for place in asker.places() {
        let found = asker.read_whole(&place, object, blob).await;
        if let Some(bytes) = place.judge(found, &mut failures) {
            return Ok(bytes);
        }
    }
    Err(failures)
}

/// Fetches and proves the index of a meta from the first place that gives it. Over a network, a meta of at most `whole`
/// bytes comes whole with it.
pub(crate) async fn fetch(
    asker: &OpeningAsker,
    blob: Blob,
    root: MetaRoot,
    whole: u64,
) -> Result<Fetched, Vec<SourceFailure>> {
    let mut failures = Vec::new();
    for place in asker.places() {
        let takes_whole = blob.size <= whole && matches!(&place, AskedPlace::Origin(origin) if origin.is_remote());
        let found = match takes_whole {
            true => fetch_whole(asker, &place, blob, root).await,
            false => fetch_index(asker, &place, blob, root).await,
        };
        if let Some(fetched) = place.judge(found, &mut failures) {
            return Ok(fetched);
        }
    }
    Err(failures)
}

async fn fetch_whole(
    asker: &OpeningAsker,
    place: &AskedPlace<'_>,
    blob: Blob,
    root: MetaRoot,
) -> Result<Fetched, FailureReason> {
    let bytes = asker.read_whole(place, "meta", blob).await?;
    let need = index_length(&bytes, blob)?;
    Ok(Fetched { whole: Some(bytes.clone()), ..parse(&bytes, need, blob, root)? })
}

async fn fetch_index(
    asker: &OpeningAsker,
    place: &AskedPlace<'_>,
    blob: Blob,
    root: MetaRoot,
) -> Result<Fetched, FailureReason> {
    let tail = async |length: u64| {
        let range = blob.size.saturating_sub(length)..blob.size;
        asker.read(place, blob.digest, range).await
    };
    let mut bytes = tail(FIRST_TAIL.min(blob.size)).await?;
    let need = index_length(&bytes, blob)?;
    if need > bytes.len() as u64 {
        bytes = tail(need).await?;
    }
    parse(&bytes, need, blob, root)
}

/// Returns the length of the index at the end of `bytes`, which end the blob.
fn index_length(bytes: &Bytes, blob: Blob) -> Result<u64, FailureReason> {
    let tail = bytes.len().saturating_sub(TAIL_BYTES);
    let need = IndexTail::parse(bytes.get(tail..).unwrap_or_default()).map_err(format)?.index_bytes();
    if need > MAX_META_INDEX_BYTES || need > blob.size {
        return Err(FailureReason::Length { is: need, must: blob.size.min(MAX_META_INDEX_BYTES) });
    }
    Ok(need)
}

fn parse(bytes: &Bytes, need: u64, blob: Blob, root: MetaRoot) -> Result<Fetched, FailureReason> {
    let start = usize::try_from((bytes.len() as u64).saturating_sub(need)).unwrap_or(0);
    let bytes = bytes.slice(start..);
    let index = MetaIndex::parse(&bytes, blob.size, root).map_err(format)?;
    Ok(Fetched { index, bytes, whole: None })
}

fn format(error: dimsum_format::FormatError) -> FailureReason {
    FailureReason::Frame(Arc::new(error))
}

fn is_not_found(reason: &FailureReason) -> bool {
    matches!(reason, FailureReason::Source(error) if error.kind() == ErrorKind::NotFound)
}

/// Fetches the index of a meta again if its frame lengths came from this disk; says whether they were wrong.
pub(crate) async fn refresh(meta: &MetaFile, fetcher: &Fetcher, feed: FeedId) -> bool {
    if !meta.take_hint() {
        return false;
    }
    let asker = OpeningAsker::new(fetcher.services(), &fetcher.origins().list(), fetcher.shared_counters());
    let Ok(fetched) = self::fetch(&asker, meta.blob(), meta.root(), 0).await else { return false };
    let is_new = meta.reframe(fetched.index.frames, &fetched.bytes);
    if is_new {
        let frames = FeedFrames::Meta(meta.frames());
        fetcher.services().traffic().run(|core, _| core.reframe(feed, frames));
    }
    is_new
}
