//! Proves that a small file stands where a file table says.
//!
//! An image proves the device map of its packs, but not their file tables. A false table would put wrong bytes
//! into an image whose digests are all right. So a bundle is proven before one of its files is referred to. If
//! the source has all of its files, the bundle is put together from them, which costs only hashing; otherwise
//! it is fetched.

use dimsum_format::codec::Decompressor;
use dimsum_format::pack::FileRow;
use dimsum_format::{BLOCK, Blake3};
use dimsum_source::Source;

use super::packs::KnownPack;
use crate::error::ConvertError;

/// Says whether all files that the table places in a chunk are there. `bytes_of` gives the bytes of files that
/// are at hand.
pub(super) fn proves(
    pack: &KnownPack,
    source: &dyn Source,
    chunk: u32,
    decompressor: &mut Decompressor,
    bytes_of: &dyn Fn(Blake3) -> Result<Option<Vec<u8>>, ConvertError>,
) -> Result<bool, ConvertError> {
    let (_, files) = pack.files_of(chunk);
    let (Some(blocks), Some(digest)) = (pack.map.chunk_blocks(chunk), pack.map.digest(chunk)) else { return Ok(false) };
    if let Some(bytes) = rebuild(files, blocks.start, blocks.len() * BLOCK, bytes_of)? {
        return Ok(Blake3::of(&bytes) == digest);
    }
    let Some(bytes) = fetch(pack, source, chunk, decompressor)? else { return Ok(false) };
    Ok(files.iter().all(|file| holds(&bytes, blocks.start, file)))
}

/// Puts a bundle together; none if a file of it is not at hand.
fn rebuild(
    files: &[FileRow],
    start: u32,
    length: usize,
    bytes_of: &dyn Fn(Blake3) -> Result<Option<Vec<u8>>, ConvertError>,
) -> Result<Option<Vec<u8>>, ConvertError> {
    let mut chunk = vec![0; length];
    for file in files {
        let Some(bytes) = bytes_of(file.digest)? else { return Ok(None) };
        let at = file.block.saturating_sub(start) as usize * BLOCK;
        let Some(to) = chunk.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) else { return Ok(None) };
        to.copy_from_slice(&bytes);
    }
    Ok(Some(chunk))
}

/// Says whether a chunk has a file, with zeros behind it to the end of its last block.
fn holds(chunk: &[u8], start: u32, file: &FileRow) -> bool {
    let at = file.block.saturating_sub(start) as usize * BLOCK;
    let blocks = chunk.get(at..).and_then(|rest| rest.get(..file.blocks() as usize * BLOCK));
    let Some((bytes, padding)) = blocks.and_then(|blocks| blocks.split_at_checked(file.length as usize)) else {
        return false;
    };
    Blake3::of(bytes) == file.digest && padding.iter().all(|&byte| byte == 0)
}

/// Fetches a chunk; none if it is not what the device map says.
pub(crate) fn fetch(
    pack: &KnownPack,
    source: &dyn Source,
    chunk: u32,
    decompressor: &mut Decompressor,
) -> Result<Option<Vec<u8>>, ConvertError> {
    let parts = (pack.frames.frame(chunk), pack.map.chunk_blocks(chunk), pack.map.digest(chunk));
    let (Some(frame), Some(blocks), Some(digest)) = parts else { return Ok(None) };
    let frame = source.read_piece(pack.blob.digest, frame)?;
    let bytes = decompressor.decompress(&frame, blocks.len() * BLOCK).ok();
    Ok(bytes.filter(|bytes| Blake3::of(bytes) == digest))
}
