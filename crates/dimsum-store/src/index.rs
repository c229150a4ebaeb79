//! Getting the index of a compressed meta.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dimsum_format::MetaRoot;
use dimsum_format::index::{IndexTail, MetaIndex, TAIL_BYTES};
use dimsum_format::limits::MAX_META_INDEX_BYTES;
use dimsum_format::manifest::Blob;
use dimsum_registry::{Source, SourceError};

use crate::error::{FailureReason, SourceFailure};
use crate::request::LOCAL;
use crate::stats::{Counters, add};

/// Bytes at the end of a meta that are asked for at first: the index of a meta up to 60 MiB in one request.
const FIRST_TAIL: u64 = 128 << 10;

/// Fetches and proves the index of a meta from the first source that gives it.
pub(crate) async fn fetch(
    sources: &[Arc<dyn Source>],
    deadline: Duration,
    blob: Blob,
    root: MetaRoot,
    counters: &Counters,
) -> Result<(MetaIndex, Bytes), Vec<SourceFailure>> {
    let mut failures = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let found = fetch_from(&**source, deadline, blob, root).await;
        if number != LOCAL {
            add(&counters.requests, 1);
            add(&counters.bytes_fetched, found.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64));
        }
        match found {
            Ok(found) => return Ok(found),
            Err(reason) if number == LOCAL && is_not_found(&reason) => {}
            Err(reason) => failures.push(SourceFailure { source_name: source.name().to_owned(), reason }),
        }
    }
    Err(failures)
}

async fn fetch_from(
    source: &dyn Source,
    deadline: Duration,
    blob: Blob,
    root: MetaRoot,
) -> Result<(MetaIndex, Bytes), FailureReason> {
    let format = |error| FailureReason::Frame(Arc::new(error));
    let mut bytes = read_tail(source, deadline, blob, FIRST_TAIL.min(blob.size)).await?;
    let tail = bytes.len().saturating_sub(TAIL_BYTES);
    let need = IndexTail::parse(bytes.get(tail..).unwrap_or_default()).map_err(format)?.index_bytes();
    if need > MAX_META_INDEX_BYTES || need > blob.size {
        return Err(FailureReason::Length { is: need, must: blob.size.min(MAX_META_INDEX_BYTES) });
    }
    if need > bytes.len() as u64 {
        bytes = read_tail(source, deadline, blob, need).await?;
    }
    let start = usize::try_from((bytes.len() as u64).saturating_sub(need)).unwrap_or(0);
    let frame = bytes.slice(start..);
    let index = MetaIndex::parse(&frame, blob.size, root).map_err(format)?;
    Ok((index, frame))
}

/// Reads the last `length` bytes of a blob.
async fn read_tail(source: &dyn Source, deadline: Duration, blob: Blob, length: u64) -> Result<Bytes, FailureReason> {
    let range = blob.size.saturating_sub(length)..blob.size;
    let bytes = tokio::time::timeout(deadline, source.read_range(blob.digest, range)).await;
    let bytes = bytes.map_err(|_| FailureReason::Deadline(deadline))?;
    let bytes = bytes.map_err(|error| FailureReason::Source(Arc::new(error)))?;
    if bytes.len() as u64 != length {
        return Err(FailureReason::Length { is: bytes.len() as u64, must: length });
    }
    Ok(bytes)
}

fn is_not_found(reason: &FailureReason) -> bool {
    matches!(reason, FailureReason::Source(error) if matches!(**error, SourceError::NotFound { .. }))
}
