//! Reads the maps of a pack that no image names from its layer meta, with bounded memory.

use std::io::{self, Read};

use dimsum_format::limits::MAX_META_BYTES;
use dimsum_format::map::{DEVICE_ROW, DeviceMap, FRAME_ROW, FrameMap};
use dimsum_format::pack::{FOOTER_BYTES, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, SKIPPABLE_HEADER};
use dimsum_format::{BLOCK_U64, FormatError};
use dimsum_recipe::temporary::{TemporaryFile, TemporaryFiles, TemporaryRange};
use dimsum_tree::{Compression, LayerDecoder};

use crate::error::ConvertError;

/// Bytes decoded at a time: one frame of a layer meta.
const BUFFER: usize = 128 << 10;
const LAYER_META: &str = "layer meta";

/// Reads device map and frame map of a whole pack; the inner error is its fault.
pub(super) fn read(
    pack: &TemporaryFile,
    temporaries: &TemporaryFiles,
) -> Result<Result<(DeviceMap, FrameMap), FormatError>, ConvertError> {
    let tail = read_tail(pack, FOOTER_BYTES)?;
    let footer = match PackFooter::parse(&tail, pack.len()) {
        Ok(footer) => footer,
        Err(error) => return Ok(Err(error)),
    };
    let start = footer.layer_meta_offset.saturating_add(SKIPPABLE_HEADER as u64);
    let part = TemporaryRange::new(pack, start, footer.layer_meta_compressed.into());
    match decode(part, temporaries)? {
        Ok(meta) => maps(&meta),
        Err(_) => Ok(Err(FormatError::Frame { reason: "the layer meta cannot be decoded" })),
    }
}

fn read_tail(file: &TemporaryFile, bytes: usize) -> Result<Vec<u8>, ConvertError> {
    let mut tail = vec![0; usize::try_from(file.len()).map_or(bytes, |length| length.min(bytes))];
    file.read(file.len() - tail.len() as u64, &mut tail)?;
    Ok(tail)
}

/// Decodes a layer meta into a temporary file.
fn decode(part: TemporaryRange<'_>, temporaries: &TemporaryFiles) -> Result<io::Result<TemporaryFile>, ConvertError> {
    let file = temporaries.create()?;
    let mut decoder = match LayerDecoder::with_limit(part, Some(Compression::Zstd), MAX_META_BYTES) {
        Ok(decoder) => decoder,
        Err(error) => return Ok(Err(error)),
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Ok(Ok(file)),
            Ok(count) => file.append(buffer.get(..count).unwrap_or_default()).map(drop)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn maps(meta: &TemporaryFile) -> Result<Result<(DeviceMap, FrameMap), FormatError>, ConvertError> {
    let tail = read_tail(meta, META_FOOTER_BYTES)?;
    let footer = match LayerMetaFooter::parse(&tail, meta.len()) {
        Ok(footer) => footer,
        Err(error) => return Ok(Err(error)),
    };
    // The footer's counts give the length, which is that of the file: no row is beyond it.
    let chunks = footer.chunks as usize;
    let at = u64::from(footer.erofs_blocks) * BLOCK_U64;
    let (mut rows, mut lengths) = (vec![0; chunks * DEVICE_ROW], vec![0; chunks * FRAME_ROW]);
    meta.read(at, &mut rows)?;
    meta.read(at + rows.len() as u64, &mut lengths)?;
    let map = DeviceMap::parse(&rows);
    let maps = map.and_then(|map| Ok((map, FrameMap::parse(&lengths)?)));
    let short = FormatError::Truncated { part: LAYER_META, need: u64::from(footer.chunks), have: 0 };
    Ok(maps.and_then(|(map, frames)| if map.chunks() == frames.frames() { Ok((map, frames)) } else { Err(short) }))
}
