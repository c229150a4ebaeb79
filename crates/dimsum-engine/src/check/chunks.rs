//! Contents of an image straight from its packs where they lie, each chunk proven.

use std::collections::VecDeque;
use std::sync::Arc;

use dimsum_format::codec::Decompressor;
use dimsum_format::manifest::DimsumManifest;
use dimsum_format::meta::MetaMaps;
use dimsum_format::{BLOCK_U64, Blake3, Digest};
use dimsum_source::{Runtime, SourceFault};

use super::blobs::blob_name;
use super::fault::{ChunkError, ChunkFault};
use crate::image::Resolved;

/// Decoded chunks that are kept: neighbouring files share a bundle, and a file's slices lie apart from it.
/// 64 of the usual 256 KiB are 16 MiB.
const KEPT: usize = 64;

/// Reads chunks.
#[derive(Debug)]
pub(super) struct PackChunks<'i> {
    maps: &'i MetaMaps,
    resolved: &'i Resolved,
    runtime: Runtime,
    /// Packs in the order of the devices.
    packs: Vec<Digest>,
    decompressor: Decompressor,
    kept: VecDeque<(usize, u32, Arc<[u8]>)>,
}

impl<'i> PackChunks<'i> {
    /// Reads the packs of an image where it was found.
    #[must_use]
    pub(super) fn new(
        manifest: &DimsumManifest,
        maps: &'i MetaMaps,
        resolved: &'i Resolved,
        runtime: &Runtime,
    ) -> Self {
        let packs = manifest.packs.iter().map(|pack| pack.digest).collect();
        let (runtime, decompressor) = (runtime.clone(), Decompressor::default());
        Self { maps, resolved, runtime, packs, decompressor, kept: VecDeque::new() }
    }

    /// Gives `length` bytes of the flat image from `flat` on to `take`.
    ///
    /// # Errors
    /// If a chunk cannot be had.
    pub(super) fn read(
        &mut self,
        mut flat: u64,
        mut length: u64,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Box<ChunkError>> {
        while length > 0 {
            let block = u32::try_from(flat / BLOCK_U64).ok();
            let place = block.and_then(|block| self.maps.locate(block));
            let place = place.and_then(|(device, block)| {
                let map = &self.maps.devices.get(device)?.map;
                let chunk = map.chunk_of_block(block)?;
                let start = map.chunk_bytes(chunk)?.start;
                Some((device, chunk, u64::from(block) * BLOCK_U64 + flat % BLOCK_U64 - start))
            });
            let Some((device, chunk, inside)) = place else {
                return Err(Box::new(ChunkError {
                    pack: self.resolved.reference.to_string(),
                    chunk: 0,
                    offset: flat,
                    reason: ChunkFault::Missing,
                }));
            };
            let bytes = self.chunk(device, chunk)?;
            let rest = usize::try_from(inside).ok().and_then(|inside| bytes.get(inside..)).unwrap_or_default();
            let piece = usize::try_from(length).ok().and_then(|length| rest.get(..length)).unwrap_or(rest);
            take(piece);
            flat += piece.len() as u64;
            length -= piece.len() as u64;
        }
        Ok(())
    }

    /// Returns a chunk, proven.
    ///
    /// # Errors
    /// If it cannot be had.
    pub(super) fn chunk(&mut self, device: usize, chunk: u32) -> Result<Arc<[u8]>, Box<ChunkError>> {
        if let Some((.., bytes)) = self.kept.iter().find(|kept| (kept.0, kept.1) == (device, chunk)) {
            return Ok(Arc::clone(bytes));
        }
        let decoded = self.decode(device, chunk);
        let bytes: Arc<[u8]> = decoded.map_err(|reason| self.error(device, chunk, reason))?.into();
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((device, chunk, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn decode(&mut self, device: usize, chunk: u32) -> Result<Vec<u8>, ChunkFault> {
        let maps = self.maps.devices.get(device).ok_or(ChunkFault::Missing)?;
        let frame = maps.frames.frame(chunk).ok_or(ChunkFault::Missing)?;
        let bytes = maps.map.chunk_bytes(chunk).ok_or(ChunkFault::Missing)?;
        let must = maps.map.digest(chunk).ok_or(ChunkFault::Missing)?;
        let pack = *self.packs.get(device).ok_or(ChunkFault::Missing)?;
        // The length is within the limit of chunks.
        let length = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
        let place = Arc::clone(&self.resolved.place);
        let compressed = self.runtime.wait(async move { place.read_range(pack, frame).await });
        let cancelled = || SourceFault::Cancelled.at(self.resolved.place.name());
        let compressed = compressed.ok_or_else(cancelled)??;
        let decoded = self.decompressor.decompress(&compressed, length)?;
        let is = Blake3::of(&decoded);
        if is == must { Ok(decoded) } else { Err(ChunkFault::Digest { is, must }) }
    }

    fn error(&self, device: usize, chunk: u32, reason: ChunkFault) -> Box<ChunkError> {
        let pack = self.packs.get(device).map(|pack| blob_name(&self.resolved.reference, *pack)).unwrap_or_default();
        let frame = self.maps.devices.get(device).and_then(|device| device.frames.frame(chunk));
        Box::new(ChunkError { pack, chunk, offset: frame.map_or(0, |frame| frame.start), reason })
    }
}
