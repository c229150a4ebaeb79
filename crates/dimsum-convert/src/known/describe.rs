//! Reads the description that a pack carries, by ranges from its end: a footer, then the layer meta.
//!
//! Only its form is checked here. A device map proves itself, because an image that refers to a chunk carries
//! the chunk's digest. A file table is proven before it is used ([`super::prove`]), and a whole layer meta by
//! making it again ([`crate::reuse`]).

use std::io::{self, Cursor, Read};

use dimsum_format::limits::MAX_META_BYTES;
use dimsum_format::manifest::Blob;
use dimsum_format::map::{DEVICE_ROW, DeviceMap, FRAME_ROW, FrameMap};
use dimsum_format::pack::{
    FILE_ROW, FOOTER_BYTES, FileRow, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, REFERENCE_ROW, SKIPPABLE_HEADER,
    SKIPPABLE_LAYER_META, parse_file_table, skippable_header,
};
use dimsum_format::{BLOCK_U64, Blake3, DeviceId, FormatError};
use dimsum_recipe::temporary::{TemporaryFile, TemporaryFiles};
use dimsum_source::Source;
use dimsum_tree::{Compression, LayerDecoder};

use crate::error::ConvertError;

/// Bytes that are fetched from a pack's end at first: most layer metas are smaller, so one request is enough.
const TAIL: u64 = 128 << 10;
/// Bytes decoded at a time: one frame of a layer meta.
const BUFFER: usize = 128 << 10;
/// Rows of all tables of a layer meta: the tables in memory are below 300 MB.
const MAX_ROWS: u64 = 1 << 22;

/// A pack's own description.
#[derive(Debug)]
pub(crate) struct DescribedPack {
    pub(crate) footer: PackFooter,
    pub(crate) layer: LayerMetaFooter,
    pub(crate) id: DeviceId,
    pub(crate) map: DeviceMap,
    pub(crate) frames: FrameMap,
    /// The small files that the device holds.
    pub(crate) files: Vec<FileRow>,
    /// Other devices that the layer refers to, with their blocks.
    pub(crate) references: Vec<(DeviceId, u32)>,
    /// The layer meta, uncompressed; at its front the EROFS image of the layer's tree.
    pub(crate) meta: TemporaryFile,
}

/// Reads the description of a pack.
pub(crate) fn describe(
    source: &dyn Source,
    pack: Blob,
    temporaries: &TemporaryFiles,
) -> Result<DescribedPack, ConvertError> {
    let origin = format!("pack {} in {}", pack.digest, source.name());
    let failed = |source| ConvertError::format(&origin, source);
    let start = pack.size.saturating_sub(TAIL);
    let tail = source.read_piece(pack.digest, start..pack.size)?;
    let at = tail.len().checked_sub(FOOTER_BYTES).ok_or_else(|| failed(short("pack", FOOTER_BYTES, tail.len())))?;
    let footer = PackFooter::parse(tail.get(at..).unwrap_or_default(), pack.size).map_err(failed)?;
    let frame_at = footer.layer_meta_offset;
    let held = frame_at.checked_sub(start).and_then(|at| tail.get(usize::try_from(at).ok()?..));
    let mut frame: Box<dyn Read> = match held {
        Some(held) => Box::new(Cursor::new(held)),
        None => source.open_at(pack.digest, frame_at)?,
    };
    let unreadable = |source: io::Error| ConvertError::Unreadable { object: origin.clone(), source: Box::new(source) };
    let mut header = [0; SKIPPABLE_HEADER];
    frame.read_exact(&mut header).map_err(unreadable)?;
    let compressed = u64::from(footer.layer_meta_compressed);
    if header != skippable_header(SKIPPABLE_LAYER_META, compressed).map_err(failed)? {
        return Err(failed(FormatError::Magic { part: "layer meta" }));
    }
    let (meta, digest) = decode(frame.take(compressed), &footer, temporaries, &unreadable)?;
    if digest != footer.layer_meta_digest {
        let must = footer.layer_meta_digest;
        return Err(failed(FormatError::Digest { part: "layer meta", is: digest, must }));
    }
    parse(footer, meta, &origin)
}

/// Decodes a layer meta into a temporary file and hashes it.
fn decode(
    frames: impl Read,
    footer: &PackFooter,
    temporaries: &TemporaryFiles,
    unreadable: &dyn Fn(io::Error) -> ConvertError,
) -> Result<(TemporaryFile, Blake3), ConvertError> {
    let limit = footer.layer_meta_length.min(MAX_META_BYTES);
    let mut decoder = LayerDecoder::with_limit(frames, Some(Compression::Zstd), limit).map_err(unreadable)?;
    let (file, mut hasher) = (temporaries.create()?, blake3::Hasher::new());
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match decoder.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok((file, Blake3::new(*hasher.finalize().as_bytes())));
        }
        hasher.update(bytes);
        file.append(bytes)?;
    }
}

fn parse(footer: PackFooter, meta: TemporaryFile, origin: &str) -> Result<DescribedPack, ConvertError> {
    let failed = |source| ConvertError::format(origin, source);
    let length = meta.len();
    if length != footer.layer_meta_length {
        let said = footer.layer_meta_length;
        return Err(failed(FormatError::Mismatch { part: "length of the layer meta", said, is: length }));
    }
    let mut bytes = [0; META_FOOTER_BYTES];
    let cut = || failed(short("layer meta", META_FOOTER_BYTES, usize::try_from(length).unwrap_or(usize::MAX)));
    meta.read(length.checked_sub(META_FOOTER_BYTES as u64).ok_or_else(cut)?, &mut bytes)?;
    let layer = LayerMetaFooter::parse(&bytes, length).map_err(failed)?;
    let rows = u64::from(layer.chunks) + u64::from(layer.references) + u64::from(layer.files);
    if rows > MAX_ROWS {
        return Err(failed(FormatError::Limit { part: "rows of the layer meta", value: rows, limit: MAX_ROWS }));
    }
    // The counts give the length, which is that of the file: no table reaches beyond it.
    let mut at = u64::from(layer.erofs_blocks) * BLOCK_U64;
    let mut table = |rows: u32, row: usize| -> Result<Vec<u8>, ConvertError> {
        let mut bytes = vec![0; rows as usize * row];
        meta.read(at, &mut bytes)?;
        at += bytes.len() as u64;
        Ok(bytes)
    };
    let map = DeviceMap::parse(&table(layer.chunks, DEVICE_ROW)?).map_err(failed)?;
    let frames = FrameMap::parse(&table(layer.chunks, FRAME_ROW)?).map_err(failed)?;
    let references = table(layer.references, REFERENCE_ROW)?;
    let files = parse_file_table(&table(layer.files, FILE_ROW)?, &map).map_err(failed)?;
    for (part, said, is) in [
        ("blocks of the device", u64::from(layer.blocks), u64::from(map.blocks())),
        ("length of all frames", footer.layer_meta_offset, frames.length()),
    ] {
        if said != is {
            return Err(failed(FormatError::Mismatch { part, said, is }));
        }
    }
    let references = references.as_chunks::<REFERENCE_ROW>().0.iter().map(reference).collect();
    Ok(DescribedPack { footer, layer, id: map.id(), map, frames, files, references, meta })
}

fn reference(row: &[u8; REFERENCE_ROW]) -> (DeviceId, u32) {
    let (id, rest) = row.split_first_chunk::<32>().expect("a row has 32 + 4 bytes");
    let (blocks, _) = rest.split_first_chunk::<4>().expect("a row has 32 + 4 bytes");
    (DeviceId::new(*id), u32::from_le_bytes(*blocks))
}

const fn short(part: &'static str, need: usize, have: usize) -> FormatError {
    FormatError::Truncated { part, need: need as u64, have: have as u64 }
}
