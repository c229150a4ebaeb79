//! Taking chunks from other devices of this node, for readers and for fills. Where they are, and why that is only a hint, is said in
//! `siblings`.

use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::codec::Decompressor;

use crate::core::Ticket;
use crate::disk::device::WriteFailure;
use crate::disk::frames::Keep;
use crate::fetch::feed::{DeviceFeed, Feed, UnitProof};
use crate::fetch::fetcher::Fetcher;
use crate::fetch::land;
use crate::limits::FILL_SHARE;
use crate::siblings::{Hold, Sibling};
use crate::stats::add;

/// What a chunk is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Its bytes: decoded ones are nearer than a frame.
    Bytes,
    /// Its frame, to be kept in the pack; its bytes if no frame fits there.
    Frame,
}

/// A chunk that was taken, proven by the map of the image at hand.
pub(crate) struct SharedChunk {
    pub(crate) bytes: Bytes,
    pub(crate) proof: UnitProof,
    /// The frame that it was in, if it has the length of this image's.
    frame: Option<Bytes>,
}

/// Starts routes whose frame is not here: from another device of this node, else from a source.
pub(crate) fn start(fetcher: &Arc<Fetcher>, routes: Vec<(usize, Ticket)>) {
    if routes.is_empty() {
        return;
    }
    // What lies in a layout on this machine costs no more to read there.
    if !(fetcher.origins().is_empty() || fetcher.origins().has_remote()) {
        return fetcher.queue(&tickets(&routes));
    }
    let (services, fetcher) = (Arc::clone(fetcher.services()), Arc::clone(fetcher));
    let known = Box::new(move || start_known(&fetcher, &routes));
    services.siblings().when_known(services.runtime(), Hold::Short, known);
}

/// Looks before anything is decoded, so that what has to be fetched goes together.
fn start_known(fetcher: &Arc<Fetcher>, routes: &[(usize, Ticket)]) {
    let layout = fetcher.services().siblings().layout();
    let is_here = |(feed, ticket): &(usize, Ticket)| {
        siblings(fetcher, *feed, ticket.unit).iter().any(|each| each.is_here(layout))
    };
    let (here, away): (Vec<_>, Vec<_>) = routes.iter().copied().partition(is_here);
    for (feed, ticket) in here {
        land::sibling(fetcher, feed, ticket);
    }
    fetcher.queue(&tickets(&away));
}

fn tickets(routes: &[(usize, Ticket)]) -> Vec<Ticket> {
    routes.iter().map(|(_, ticket)| *ticket).collect()
}

/// Where the chunk may lie.
fn siblings(fetcher: &Fetcher, feed: usize, unit: u32) -> Vec<Sibling> {
    let Some(Feed::Device(feed)) = fetcher.feed(feed) else { return Vec::new() };
    let own = (feed.device.id(), feed.blob.digest);
    let find = |digest| fetcher.services().siblings().of(digest, Some(own));
    feed.device.map().digest(unit).map_or_else(Vec::new, find)
}

/// Takes a chunk from another device, if one has it, right; blocking.
pub(crate) fn take(
    fetcher: &Fetcher,
    feed_index: usize,
    unit: u32,
    want: Want,
    decompressor: &mut Decompressor,
) -> Option<SharedChunk> {
    let feed @ Feed::Device(own) = fetcher.feed(feed_index)? else { return None };
    let (siblings, layout) = (siblings(fetcher, feed_index, unit), fetcher.services().siblings().layout());
    let frame = feed.frame(unit);
    let (length, frame_length) = (feed.length(unit), frame.end.saturating_sub(frame.start));
    let prove = |bytes: Vec<u8>, frame: Option<Bytes>| {
        let bytes = Bytes::from(bytes);
        let proof = feed.prove(unit, &bytes).ok()?;
        Some(SharedChunk { bytes, proof, frame })
    };
    let decoded = || {
        let mut others = siblings.iter().filter(|each| each.device() != own.device.id());
        others.find_map(|each| prove(each.decoded(layout, length)?, None))
    };
    let mut framed = |only_fitting: bool| {
        let fitting = siblings.iter().filter(|each| !only_fitting || each.frame_length() == frame_length);
        let mut frames = fitting.flat_map(|each| each.read_frames(layout));
        frames.find_map(|frame| {
            let bytes = decompressor.decompress(&frame, length).ok()?;
            prove(bytes, (frame.len() as u64 == frame_length).then_some(frame))
        })
    };
    let taken = match want {
        Want::Bytes => decoded().or_else(|| framed(false)),
        Want::Frame => framed(true).or_else(decoded).or_else(|| framed(false)),
    }?;
    add(&fetcher.counters().chunks_shared, 1);
    add(&fetcher.counters().bytes_shared, frame_length);
    Some(taken)
}

/// Copies what other devices have of a pack and this image has not, from chunk `from` on; blocking. Returns where to go on, nothing at
/// the end.
///
/// Frames that fit are kept as frames, so that the pack can become a whole one; else decoded bytes. Both are proven first: a pack that
/// was filled is not to need its registry for a frame that somebody forged.
pub(crate) fn copy_some(fetcher: &Fetcher, feed_index: usize, from: u32) -> Result<Option<u32>, WriteFailure> {
    let Some(feed @ Feed::Device(own)) = fetcher.feed(feed_index) else { return Ok(None) };
    let here = own.local.open();
    if here.has_whole() {
        return Ok(None);
    }
    let (mut decompressor, mut copied) = (Decompressor::default(), 0u64);
    for unit in from..feed.frames() {
        if copied >= FILL_SHARE {
            return Ok(Some(unit));
        }
        if here.has_part(&feed.frame(unit)) || feed.is_decoded(unit) {
            continue;
        }
        if let Some(taken) = take(fetcher, feed_index, unit, Want::Frame, &mut decompressor) {
            copied = copied.saturating_add(taken.bytes.len() as u64);
            keep(own, feed, unit, taken)?;
            add(&fetcher.counters().chunks_verified, 1);
        }
    }
    Ok(None)
}

fn keep(own: &DeviceFeed, feed: &Feed, unit: u32, taken: SharedChunk) -> Result<(), WriteFailure> {
    match taken.frame {
        Some(frame) => own.local.keep(&[(feed.frame(unit).start, frame)], Keep::Proven),
        None => feed.keep(unit, &taken.bytes, &taken.proof),
    }
}
