//! Reads the layer meta of a pack out of the whole blob, and checks the blob's digest on the way.
//!
//! The SHA-256 of the whole pack stands in the manifest and proves the layer meta. The BLAKE3 in the pack's
//! footer then proves that it was decoded right. Chunks are skipped: their bytes are read, and proven, through
//! the flat image.

use std::io::{self, Read};

use dimsum_format::limits::MAX_META_BYTES;
use dimsum_format::manifest::Blob;
use dimsum_format::map::{DEVICE_ROW, FRAME_ROW};
use dimsum_format::pack::{
    FOOTER_BYTES, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, REFERENCE_ROW, SKIPPABLE_HEADER,
    SKIPPABLE_LAYER_META, skippable_header,
};
use dimsum_format::{BLOCK_U64, Blake3, DeviceId, FormatError};
use dimsum_recipe::temporary::{TemporaryFile, TemporaryFiles};
use dimsum_tree::{Compression, LayerDecoder};

use super::contents::from_failure;
use super::open::ExportImage;
use crate::error::ConvertError;
use crate::hashing::HashingReader;
use crate::progress::ConversionProgress;

/// Bytes decoded at a time: one frame of a layer meta.
const BUFFER: usize = 128 << 10;

/// The layer meta of a pack, uncompressed, in a temporary file.
pub(super) struct PackLayerMeta {
    file: TemporaryFile,
    footer: LayerMetaFooter,
    references: Vec<(DeviceId, u32)>,
}

impl PackLayerMeta {
    /// Bytes of the whole.
    pub(super) fn length(&self) -> u64 {
        self.file.len()
    }

    /// Bytes of the EROFS image at its front.
    pub(super) fn erofs_bytes(&self) -> u64 {
        u64::from(self.footer.erofs_blocks) * BLOCK_U64
    }

    /// Devices of other packs behind its own, with their blocks.
    pub(super) fn references(&self) -> &[(DeviceId, u32)] {
        &self.references
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ConvertError> {
        Ok(self.file.read(offset, buffer)?)
    }
}

/// Reads pack `index` from its start to its end and returns its layer meta.
pub(super) fn read(
    image: &dyn ExportImage,
    index: usize,
    pack: Blob,
    temporaries: &TemporaryFiles,
    progress: &dyn ConversionProgress,
) -> Result<PackLayerMeta, ConvertError> {
    let origin = format!("pack {}", pack.digest);
    let device = image.maps().devices.get(index);
    let frames = device.map_or(0, |device| device.frames.length());
    let blob = image.pack(index).map_err(|failure| from_failure(failure, &origin))?;
    // One byte more tells a blob that is too long; an endless one is not read to its end.
    let blob = blob.take(pack.size.saturating_add(1));
    let mut reader = HashingReader::new(blob, progress);
    let unreadable = |source: io::Error| ConvertError::Unreadable { object: origin.clone(), source: Box::new(source) };
    let found = parts(&mut reader, frames, temporaries);
    let rest = io::copy(&mut reader, &mut io::sink());
    if progress.cancelled() {
        return Err(ConvertError::Cancelled);
    }
    rest.map_err(unreadable)?;
    let (is, is_size) = reader.finish();
    // A wrong digest explains every other fault.
    if (is, is_size) != (pack.digest, pack.size) {
        return Err(ConvertError::LayerDigest { must: pack.digest, is, must_size: pack.size, is_size });
    }
    let PackParts { file, digest, tail } = match found? {
        Ok(parts) => parts,
        Err(source) => return Err(unreadable(source)),
    };
    let failed = |source| ConvertError::format(&origin, source);
    let pack_footer = PackFooter::parse(&tail, is_size).map_err(failed)?;
    let must = pack_footer.layer_meta_digest;
    if digest != must {
        return Err(failed(FormatError::Digest { part: "layer meta", is: digest, must }));
    }
    let own = device.map_or(0, |device| device.map.blocks());
    parse(file, own, &origin)
}

/// The parts of a pack behind its chunks.
struct PackParts {
    file: TemporaryFile,
    /// Of what is in the file.
    digest: Blake3,
    tail: Vec<u8>,
}

/// Skips the chunks and decodes the layer meta; the inner result is what reading says.
fn parts(
    reader: &mut impl Read,
    frames: u64,
    temporaries: &TemporaryFiles,
) -> Result<io::Result<PackParts>, ConvertError> {
    let file = temporaries.create()?;
    let compressed = match skip_chunks(reader, frames) {
        Ok(compressed) => compressed,
        Err(error) => return Ok(Err(error)),
    };
    let mut hasher = blake3::Hasher::new();
    let part = reader.by_ref().take(compressed.into());
    let mut decoder = match LayerDecoder::with_limit(part, Some(Compression::Zstd), MAX_META_BYTES) {
        Ok(decoder) => decoder,
        Err(error) => return Ok(Err(error)),
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        let bytes = match decoder.read(&mut buffer) {
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(error)),
        };
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        file.append(bytes)?;
    }
    drop(decoder);
    let mut tail = vec![0; FOOTER_BYTES];
    let read = reader.read_exact(&mut tail);
    Ok(read.map(|()| PackParts { file, digest: Blake3::new(*hasher.finalize().as_bytes()), tail }))
}

/// Skips to the layer meta and returns its compressed length.
fn skip_chunks(reader: &mut impl Read, frames: u64) -> io::Result<u32> {
    io::copy(&mut reader.take(frames), &mut io::sink())?;
    let mut header = [0; SKIPPABLE_HEADER];
    reader.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    let length = u32::from_le_bytes([a, b, c, d]);
    if skippable_header(SKIPPABLE_LAYER_META, length.into()).ok() != Some(header) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no layer meta behind the chunks"));
    }
    Ok(length)
}

/// Finds the parts of a layer meta.
fn parse(file: TemporaryFile, own: u32, origin: &str) -> Result<PackLayerMeta, ConvertError> {
    let failed = |source| ConvertError::format(origin, source);
    let length = file.len();
    let mut bytes = [0; META_FOOTER_BYTES];
    let cut = FormatError::Truncated { part: "layer meta", need: META_FOOTER_BYTES as u64, have: length };
    let at = length.checked_sub(META_FOOTER_BYTES as u64).ok_or_else(|| failed(cut))?;
    file.read(at, &mut bytes)?;
    let footer = LayerMetaFooter::parse(&bytes, length).map_err(failed)?;
    if footer.blocks != own {
        let (said, is) = (footer.blocks.into(), own.into());
        return Err(failed(FormatError::Mismatch { part: "blocks of the layer meta's device", said, is }));
    }
    // The footer's counts give the length, which is that of the file: no count is beyond it.
    let rows = u64::from(footer.chunks) * (DEVICE_ROW + FRAME_ROW) as u64;
    let mut at = u64::from(footer.erofs_blocks) * BLOCK_U64 + rows;
    let mut references = Vec::new();
    for _ in 0..footer.references {
        let (mut id, mut blocks) = ([0; 32], [0; 4]);
        file.read(at, &mut id)?;
        file.read(at + 32, &mut blocks)?;
        references.push((DeviceId::new(id), u32::from_le_bytes(blocks)));
        at += REFERENCE_ROW as u64;
    }
    Ok(PackLayerMeta { file, footer, references })
}
