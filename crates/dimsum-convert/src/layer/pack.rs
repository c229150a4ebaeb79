//! Writes the pack of a layer: its frames from the spool in the order of the device, then its layer meta and footer.

use std::num::NonZeroUsize;
use std::sync::Arc;

use dimsum_format::codec::Decompressor;
use dimsum_format::{BLOCK, DeviceId, Digest};
use dimsum_recipe::temporary::{TemporaryFile, TemporaryFiles};
use dimsum_tree::Tree;
use sha2::{Digest as _, Sha256};

use super::chunks::Maps;
use super::device::LayerDevice;
use super::meta;
use crate::blob::{BlobOut, WholeBlob};
use crate::content::{ContentTable, SmallRows};
use crate::error::ConvertError;
use crate::options::ConvertOptions;
use crate::ordered_tasks::with_workers;

/// A layer whose chunks are all compressed: everything that its pack will say is known.
#[derive(Debug)]
pub(crate) struct PackContent {
    /// Number of the layer.
    pub(crate) number: u16,
    pub(crate) id: DeviceId,
    /// Where the frame of each chunk is in the spool.
    pub(crate) offsets: Vec<u64>,
    /// SHA-256 of the device bytes, if they came in the order of the device.
    pub(crate) hasher: Option<Sha256>,
    pub(crate) device: Arc<LayerDevice>,
    pub(crate) tree: Arc<Tree>,
    pub(crate) rows: SmallRows,
    pub(crate) origin: String,
}

/// The values that the packs of an image have in common.
#[derive(Clone, Copy)]
pub(crate) struct PackContext<'a> {
    pub(crate) contents: &'a ContentTable,
    pub(crate) frames: &'a TemporaryFile,
    /// Device id and blocks of each layer that has a device.
    pub(crate) devices: &'a [Option<(DeviceId, u32)>],
    pub(crate) options: &'a ConvertOptions,
    /// Threads for one pack: several are written at once.
    pub(crate) jobs: NonZeroUsize,
    pub(crate) temporaries: &'a TemporaryFiles,
}

/// A pack that is written but not visible yet.
pub(crate) struct Packed<'t> {
    pub(crate) blob: WholeBlob<'t>,
    /// SHA-256 of the device bytes.
    pub(crate) diff_id: Digest,
    /// Bytes of the compressed layer meta.
    pub(crate) layer_meta_bytes: u64,
}

/// Writes a pack.
pub(crate) fn write_pack<'t>(
    plan: &PackContent,
    maps: &Maps,
    common: PackContext<'_>,
    mut out: BlobOut<'t>,
) -> Result<Packed<'t>, ConvertError> {
    let diff_id = match &plan.hasher {
        Some(hasher) => {
            for frame in frames(plan, maps) {
                out.put(&read(common.frames, frame)?)?;
            }
            hasher.clone().finalize()
        }
        None => write_and_decompress(plan, maps, common, &mut out)?,
    };
    let layer_meta_bytes = meta::write(plan, maps, common, &mut out)?;
    Ok(Packed { blob: out.finish(), diff_id: Digest::new(diff_id.into()), layer_meta_bytes })
}

/// A frame in the spool, and the blocks of its chunk.
struct SpooledFrame {
    offset: u64,
    length: u64,
    blocks: u32,
}

fn frames(plan: &PackContent, (map, frames): &Maps) -> impl Iterator<Item = SpooledFrame> {
    plan.offsets.iter().zip(0..).map_while(|(&offset, number)| {
        let (frame, blocks) = (frames.frame(number)?, map.chunk_blocks(number)?);
        Some(SpooledFrame { offset, length: frame.end - frame.start, blocks: blocks.end - blocks.start })
    })
}

fn read(spool: &TemporaryFile, frame: SpooledFrame) -> Result<Vec<u8>, ConvertError> {
    let mut bytes = vec![0; usize::try_from(frame.length).expect("a frame is at most 16 MiB")];
    spool.read(frame.offset, &mut bytes)?;
    Ok(bytes)
}

/// Writes the frames; returns the SHA-256 of what is in them, which was not there in this order before.
fn write_and_decompress(
    plan: &PackContent,
    maps: &Maps,
    common: PackContext<'_>,
    out: &mut BlobOut<'_>,
) -> Result<sha2::digest::Output<Sha256>, ConvertError> {
    let work = |decompressor: &mut Decompressor, frame: SpooledFrame| {
        let length = frame.blocks as usize * BLOCK;
        let frame = read(common.frames, frame)?;
        let bytes = decompressor.decompress(&frame, length);
        Ok((frame, bytes.map_err(|source| ConvertError::format(&plan.origin, source))?))
    };
    let mut hasher = Sha256::new();
    let mut put = |done: Result<(Vec<u8>, Vec<u8>), ConvertError>| {
        let (frame, bytes) = done?;
        hasher.update(&bytes);
        out.put(&frame)
    };
    with_workers(common.jobs, Decompressor::default, work, |ordered| {
        for frame in frames(plan, maps) {
            if let Some(done) = ordered.submit(frame) {
                put(done)?;
            }
        }
        while let Some(done) = ordered.take() {
            put(done)?;
        }
        Ok::<(), ConvertError>(())
    })?;
    Ok(hasher.finalize())
}
