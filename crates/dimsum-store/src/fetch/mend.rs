//! Mends whole packs: a conversion's, or one that was filled, in which a frame was found wrong.
//!
//! The right frame was fetched into the sparse file beside the pack. It is taken into the pack only if the pack has its
//! SHA-256 with it. An image that claims a pack with a map of its own finds frames "wrong" that are right, and must not
//! change them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimsum_format::Digest;
use sha2::Digest as _;

use crate::disk::frames::is_absent;
use crate::disk::layout;
use crate::fetch::feed::Feed;
use crate::fetch::fetcher::{Chore, Fetcher};
use crate::limits::MEND_SHARE;

/// Tries to mend the pack of a feed, in the background. There is at most one try at a time. Each waits so long that
/// trying stays a small part of the time, however many frames are wrong.
pub(crate) fn schedule(fetcher: &Arc<Fetcher>, feed: usize) {
    let Some(local) = fetcher.feed(feed).map(Feed::local).filter(|local| local.may_write() && local.has_whole()) else {
        return;
    };
    if local.to_mend().add() {
        let chore = fetcher.chore();
        fetcher.services().spawn(run(Arc::clone(fetcher), feed, chore));
    }
}

/// Tries until no frame has come since the last try.
async fn run(fetcher: Arc<Fetcher>, feed: usize, chore: Chore) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        let Some(local) = fetcher.feed(feed).map(Feed::local) else { break };
        let seen = local.to_mend().count();
        let begun = Instant::now();
        let worker = Arc::clone(&fetcher);
        // A pack that could not be mended is bypassed frame by frame as before; `check` names it.
        drop(tokio::task::spawn_blocking(move || worker.feed(feed).map(mend)).await);
        pause = begun.elapsed().saturating_mul(MEND_SHARE);
        if local.to_mend().is_done(seen) {
            break;
        }
    }
    drop(chore);
}

/// Takes the parts that the sparse file has into the whole pack, if that makes it what its name says.
fn mend(feed: &Feed) -> io::Result<()> {
    if !feed.local().may_write() {
        return Ok(());
    }
    let Some((whole_path, part_path)) = feed.local().paths() else { return Ok(()) };
    let (Some(whole), Some(part)) = (layout::open_regular(whole_path, true)?, layout::open_regular(part_path, false)?)
    else {
        return Ok(());
    };
    let blob = feed.blob();
    let mut hasher = sha2::Sha256::new();
    for number in 0..feed.parts() {
        let (file, _) = newest(feed, number, &whole, &part);
        let Some(bytes) = bytes_of(feed, number, file)? else { return Ok(()) };
        hasher.update(bytes);
    }
    if Digest::new(hasher.finalize().into()) != blob.digest {
        return Ok(());
    }
    for number in 0..feed.parts() {
        if let (file, true) = newest(feed, number, &whole, &part)
            && let Some(bytes) = bytes_of(feed, number, file)?
        {
            whole.write_all_at(&bytes, feed.part(number).start)?;
        }
    }
    whole.set_len(blob.size)?;
    // As durable as it was when it was converted, before the frames beside it go.
    whole.sync_all()?;
    std::fs::remove_file(part_path)
}

/// Returns the file that has the newest copy of a part, and whether that is the sparse one.
fn newest<'a>(feed: &Feed, number: u32, whole: &'a File, part: &'a File) -> (&'a File, bool) {
    if is_absent(part, feed.part(number).start) { (whole, false) } else { (part, true) }
}

/// Reads a part; `None` if the file ends before.
fn bytes_of(feed: &Feed, number: u32, file: &File) -> io::Result<Option<Vec<u8>>> {
    let range = feed.part(number);
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let bytes = layout::read_at(file, length, range.start)?;
    Ok((bytes.len() == length).then_some(bytes))
}
