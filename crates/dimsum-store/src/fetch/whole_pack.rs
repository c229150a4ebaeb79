//! A guest's fill: whole packs, hashed on their way and put into the store by rename. Sparse files are the owner's.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_source::SourceFault;
use futures_util::StreamExt as _;
use sha2::Digest as _;

use crate::disk::device::WriteFailure;
use crate::disk::layout::{self, StagedFile};
use crate::error::FailureReason;
use crate::fetch::feed::Feed;
use crate::fetch::fetcher::Fetcher;
use crate::fetch::filler::RangeStop;
use crate::fetch::origin::{self, OriginState};
use crate::limits::FILL_WRITE;
use crate::stats::add;

/// A pack as far as it is here.
struct ComingPack {
    staged: StagedFile,
    hasher: sha2::Sha256,
    length: u64,
    held: Vec<Bytes>,
    held_bytes: u64,
}

/// Brings a whole pack unless there is one. `tell` hears how many bytes are here.
pub(crate) async fn bring(fetcher: &Arc<Fetcher>, feed: &Feed, tell: impl Fn(u64)) -> Result<(), RangeStop> {
    let Some((path, _)) = feed.local().paths().filter(|_| !feed.local().has_whole()) else { return Ok(()) };
    let origins = fetcher.origins().list();
    let mut order = origin::order(&origins).into_iter().filter_map(|place| origins.get(place));
    let Some(origin) = order.find(|origin| origin.is_remote()) else { return Ok(()) };
    let failed = |error| RangeStop::Disk((path.clone(), error));
    let staged = StagedFile::create(layout::directory_of(path)).map_err(failed)?;
    let (hasher, length, held) = (sha2::Sha256::new(), 0, Vec::new());
    let mut pack = ComingPack { staged, hasher, length, held, held_bytes: 0 };
    let blob = feed.blob();
    while pack.length < blob.size {
        let end = pack.length.saturating_add(origin.link.fill_range()).min(blob.size);
        let came = range(fetcher, feed, origin, pack, end).await;
        pack = came.inspect_err(|_| origin.demote())?;
        tell(pack.length);
    }
    let is = Digest::new(pack.hasher.finalize().into());
    if is != blob.digest {
        origin.demote();
        let source_name = origin.source.name().to_owned();
        let error = SourceFault::Digest { object: "pack", is, must: blob.digest }.at(source_name);
        return Err(RangeStop::Origin { reason: FailureReason::Source(Arc::new(error)), brought_some: false });
    }
    let (staged, path) = (pack.staged, path.clone());
    let placed = tokio::task::spawn_blocking(move || staged.place(&path, true).map_err(|error| (path, error)));
    // Cancelled only with the runtime itself.
    placed.await.unwrap_or(Ok(())).map_err(RangeStop::Disk)
}

/// Asks for bytes up to `end`.
async fn range(
    fetcher: &Arc<Fetcher>,
    feed: &Feed,
    origin: &OriginState,
    mut pack: ComingPack,
    end: u64,
) -> Result<ComingPack, RangeStop> {
    let _turn = Arc::clone(&fetcher.services().budgets().fills).acquire_owned().await.ok();
    let (counters, deadline) = (fetcher.counters(), fetcher.services().deadline());
    add(&counters.fill_requests, 1);
    let (start, must) = (pack.length, end - pack.length);
    let stop = |reason| RangeStop::Origin { reason, brought_some: false };
    let mut stream = origin.source.stream_range(feed.blob().digest, start..end);
    while pack.length < end {
        let piece = tokio::time::timeout(deadline, stream.next()).await;
        let piece = piece.map_err(|_| stop(FailureReason::Deadline(deadline)))?;
        let piece = piece.ok_or_else(|| stop(FailureReason::Length { is: pack.length - start, must }))?;
        let piece = piece.map_err(|error| stop(FailureReason::Source(error.into())))?;
        add(&counters.bytes_filled, piece.len() as u64);
        pack.length = pack.length.saturating_add(piece.len() as u64);
        pack.held_bytes = pack.held_bytes.saturating_add(piece.len() as u64);
        pack.held.push(piece);
        if pack.length > end {
            return Err(stop(FailureReason::Length { is: pack.length - start, must }));
        }
        if pack.held_bytes >= FILL_WRITE || pack.length == end {
            pack = write(feed, pack).await.map_err(RangeStop::Disk)?;
        }
    }
    Ok(pack)
}

/// Hashes and writes what is held, on a thread that may block.
async fn write(feed: &Feed, mut pack: ComingPack) -> Result<ComingPack, WriteFailure> {
    let path = feed.local().paths().map(|(path, _)| path.clone()).unwrap_or_default();
    let work = move || {
        for piece in std::mem::take(&mut pack.held) {
            pack.hasher.update(&piece);
            pack.staged.file.write_all(&piece).map_err(|error| (path.clone(), error))?;
        }
        pack.held_bytes = 0;
        Ok(pack)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(written) => written,
        // Cancelled only with the runtime itself.
        Err(_) => Err((std::path::PathBuf::new(), std::io::ErrorKind::Interrupted.into())),
    }
}
