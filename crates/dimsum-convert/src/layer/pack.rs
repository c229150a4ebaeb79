//! Writes the pack of a layer: its chunks in the order of the device, then its layer meta and footer.

use std::ops::Range;

use dimsum_format::codec::{Compressor, Decompressor};
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::{BLOCK, Blake3, DeviceId, Digest, FormatError};
use dimsum_tree::Tree;
use sha2::{Digest as _, Sha256};

use super::device::Device;
use super::meta::{self, LayerMeta};
use crate::blob::{BlobOut, WholeBlob};
use crate::content::{Contents, SliceId, Spools};
use crate::error::Error;
use crate::options::Options;
use crate::ordered::with_workers;
use crate::temporary::Temporaries;

/// A pack that is written but not visible yet.
pub(crate) struct Packed<'t> {
    pub(crate) blob: WholeBlob<'t>,
    pub(crate) id: DeviceId,
    pub(crate) map: DeviceMap,
    pub(crate) frames: FrameMap,
    /// SHA-256 of the device bytes.
    pub(crate) diff_id: Digest,
    /// Bytes of the compressed layer meta.
    pub(crate) layer_meta_bytes: u64,
}

/// What a pack is made of.
pub(crate) struct Parts<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) contents: &'a Contents,
    pub(crate) spools: &'a Spools,
    pub(crate) device: &'a Device,
    /// Number of the layer.
    pub(crate) number: u16,
    /// Device id and blocks of each layer below.
    pub(crate) lower: &'a [Option<(DeviceId, u32)>],
    pub(crate) options: &'a Options,
    pub(crate) temporaries: &'a Temporaries,
    pub(crate) origin: &'a str,
}

/// Writes a pack.
pub(crate) fn write_pack<'t>(parts: &Parts<'_>, mut out: BlobOut<'t>) -> Result<Packed<'t>, Error> {
    let mut maps = Maps::default();
    write_chunks(parts, &mut out, &mut maps)?;
    let Maps { map, frames, device } = maps;
    let id = map.id();
    let written = meta::write(parts, &LayerMeta { map: &map, frames: &frames, id }, &mut out)?;
    Ok(Packed {
        blob: out.finish(),
        id,
        map,
        frames,
        diff_id: Digest::new(device.finalize().into()),
        layer_meta_bytes: written,
    })
}

#[derive(Default)]
struct Maps {
    map: DeviceMap,
    frames: FrameMap,
    device: Sha256,
}

enum Task {
    Slice(SliceId),
    /// Some of the device's files.
    Bundle(Range<usize>),
}

struct Chunk {
    bytes: Vec<u8>,
    digest: Blake3,
    frame: Vec<u8>,
}

impl Maps {
    fn put(&mut self, chunk: Result<Chunk, Error>, origin: &str, out: &mut BlobOut<'_>) -> Result<(), Error> {
        let failed = |source| Error::format(origin, source);
        let Chunk { bytes, digest, frame } = chunk?;
        self.map.push(blocks(bytes.len()), digest).map_err(failed)?;
        self.frames.push(u32::try_from(frame.len()).unwrap_or(u32::MAX)).map_err(failed)?;
        self.device.update(&bytes);
        out.put(&frame)
    }
}

fn blocks(bytes: usize) -> u32 {
    u32::try_from(bytes / BLOCK).unwrap_or(u32::MAX)
}

fn write_chunks(parts: &Parts<'_>, out: &mut BlobOut<'_>, maps: &mut Maps) -> Result<(), Error> {
    let slices = parts.device.slices.iter().map(|&id| Task::Slice(id));
    let tasks = slices.chain(parts.device.bundles().map(Task::Bundle));
    let worker = || (Compressor::new(parts.options.level), Decompressor::default());
    let work = |(compressor, decompressor): &mut (Result<Compressor, FormatError>, Decompressor), task| match task {
        Task::Slice(id) => slice(parts, decompressor, id),
        Task::Bundle(files) => bundle(parts, compressor, files),
    };
    with_workers(parts.options.jobs, worker, work, |ordered| {
        for task in tasks {
            if let Some(chunk) = ordered.submit(task) {
                maps.put(chunk, parts.origin, out)?;
            }
        }
        while let Some(chunk) = ordered.take() {
            maps.put(chunk, parts.origin, out)?;
        }
        Ok(())
    })
}

/// Fetches the frame of a slice, and its bytes again for the diff_id.
fn slice(parts: &Parts<'_>, decompressor: &mut Decompressor, id: SliceId) -> Result<Chunk, Error> {
    let slice = parts.contents.slices.slice(id);
    let mut frame = vec![0; slice.frame_length as usize];
    parts.spools.frames.read(slice.offset, &mut frame)?;
    let bytes = decompressor.decompress(&frame, slice.blocks as usize * BLOCK);
    let bytes = bytes.map_err(|source| Error::format(parts.origin, source))?;
    Ok(Chunk { bytes, digest: slice.digest, frame })
}

/// Puts a bundle together and compresses it.
fn bundle(
    parts: &Parts<'_>,
    compressor: &mut Result<Compressor, FormatError>,
    files: Range<usize>,
) -> Result<Chunk, Error> {
    let records = parts.contents.small.records(parts.device.files.get(files).unwrap_or_default())?;
    let (mut bytes, mut together) = (Vec::new(), Vec::new());
    // Files that came in one after the other, as most did, are read at once.
    for run in records.chunk_by(|a, b| a.offset + u64::from(a.length) == b.offset) {
        let start = run.first().map_or(0, |first| first.offset);
        together.resize(run.iter().map(|record| record.length as usize).sum(), 0);
        parts.spools.small.read(start, &mut together)?;
        let mut rest = &*together;
        for record in run {
            let (file, behind) = rest.split_at(record.length as usize);
            rest = behind;
            bytes.extend_from_slice(file);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
    }
    let failed = |source| Error::format(parts.origin, source);
    let mut frame = Vec::new();
    match compressor {
        Ok(compressor) => compressor.compress(&bytes, &mut frame).map_err(failed)?,
        Err(_) => return Err(failed(FormatError::Frame { reason: "zstd could not be started" })),
    };
    Ok(Chunk { digest: Blake3::of(&bytes), bytes, frame })
}
