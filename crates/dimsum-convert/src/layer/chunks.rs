//! The chunks of a layer: slices and bundles.
//!
//! Slices are compressed while the layer is read. Bundles are put together and compressed when every file has
//! its place.

use std::sync::Arc;

use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::{BLOCK, Blake3, FormatError};
use dimsum_recipe::temporary::TemporaryFile;
use sha2::{Digest as _, Sha256};

use super::device::LayerDevice;
use crate::content::{Arrived, Slices, SmallRows, read};
use crate::error::ConvertError;
use crate::ordered_sink::{InOrderSink, OrderedSink};
use crate::worker_pool::{SpooledChunk, WorkerPool};

/// Bundles per thread that may be done before one that stands before them.
const AHEAD_PER_JOB: usize = 2;

/// The maps of a device and its pack.
pub(crate) type Maps = (DeviceMap, FrameMap);

/// All chunks of a device, in its order, with their frames in the spool.
#[derive(Debug, Default)]
pub(crate) struct LayerChunks {
    pub(crate) maps: Maps,
    /// Where the frame of each is.
    pub(crate) offsets: Vec<u64>,
    /// SHA-256 of the device bytes so far, as long as they could be had in order.
    pub(crate) hasher: Option<Sha256>,
    /// Whether frames are made; else they are those of a pack that is there.
    framed: bool,
    failed: Option<FormatError>,
}

/// The chunks of a device while its bundles are compressed.
pub(crate) struct Bundling {
    sequence: Arc<OrderedSink<LayerChunks>>,
    count: u64,
}

/// Has the bundles of a layer compressed, behind those of the layers before; only hashed if there is a pack
/// with frames already. `small` has the bytes of its small files; it goes when they are done.
pub(crate) fn bundle(
    pool: &WorkerPool,
    device: &Arc<LayerDevice>,
    slices: &Slices,
    arrived: Arrived,
    rows: SmallRows,
    small: Arc<TemporaryFile>,
    framed: bool,
) -> Bundling {
    let mut chunks = LayerChunks { hasher: arrived.hasher_of(&device.slices), framed, ..LayerChunks::default() };
    let table = read(slices);
    for &id in &device.slices {
        let slice = table.slice(id);
        chunks.push(slice.blocks, slice.digest, SpooledChunk { offset: slice.offset, length: slice.frame_length });
    }
    drop(table);
    let count = device.bundle_count();
    let sequence = Arc::new(OrderedSink::new(chunks, pool.jobs().get() * AHEAD_PER_JOB));
    let (device, to) = (Arc::clone(device), Arc::clone(&sequence));
    pool.batch(count, move |number, encoder| {
        let slot = to.slot(number as u64);
        let bytes = together(&device, number, &rows, &small)?;
        let digest = Blake3::of(&bytes);
        let stored = if framed { encoder.store(&bytes)? } else { SpooledChunk::NOWHERE };
        slot.put(Bundle { bytes, digest, stored });
        Ok(())
    });
    Bundling { sequence, count: count as u64 }
}

impl Bundling {
    /// Returns all chunks, after the pool has done all of its batches.
    pub(crate) fn finish(&self, origin: &str) -> Result<LayerChunks, ConvertError> {
        // One is missing only after an error or a panic, which has been told.
        let mut chunks = self.sequence.finish(self.count).ok_or(ConvertError::Cancelled)?;
        match chunks.failed.take() {
            Some(source) => Err(ConvertError::format(origin, source)),
            None => Ok(chunks),
        }
    }
}

/// A bundle that is compressed.
#[derive(Debug)]
pub(crate) struct Bundle {
    bytes: Vec<u8>,
    digest: Blake3,
    stored: SpooledChunk,
}

impl InOrderSink for LayerChunks {
    type Item = Bundle;

    fn take(&mut self, Bundle { bytes, digest, stored }: Bundle) {
        self.push(blocks(bytes.len()), digest, stored);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
    }
}

impl LayerChunks {
    fn push(&mut self, blocks: u32, digest: Blake3, stored: SpooledChunk) {
        let (map, frames) = &mut self.maps;
        let mut pushed = map.push(blocks, digest);
        if self.framed {
            pushed = pushed.and_then(|()| frames.push(stored.length));
            self.offsets.push(stored.offset);
        }
        if let Err(error) = pushed {
            self.failed.get_or_insert(error);
        }
    }
}

fn blocks(bytes: usize) -> u32 {
    u32::try_from(bytes / BLOCK).unwrap_or(u32::MAX)
}

/// Puts a bundle together.
fn together(
    device: &LayerDevice,
    number: usize,
    rows: &SmallRows,
    small: &TemporaryFile,
) -> Result<Vec<u8>, ConvertError> {
    let records = rows.records(device.bundle(number))?;
    let (mut bytes, mut together) = (Vec::new(), Vec::new());
    // Files that came in one after the other, as most did, are read at once.
    for run in records.chunk_by(|a, b| a.offset + u64::from(a.length) == b.offset) {
        let start = run.first().map_or(0, |first| first.offset);
        together.resize(run.iter().map(|record| record.length as usize).sum(), 0);
        small.read(start, &mut together)?;
        let mut rest = &*together;
        for record in run {
            let (file, behind) = rest.split_at(record.length as usize);
            rest = behind;
            bytes.extend_from_slice(file);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
    }
    Ok(bytes)
}
