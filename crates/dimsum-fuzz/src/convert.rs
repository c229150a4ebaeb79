//! What a conversion or an export reads of strangers' images: recipes, packs that describe themselves.

use std::io::{Cursor, Read};
use std::ops::Range;

use bytes::Bytes;
use dimsum_erofs::ondisk::{SUPERBLOCK_OFFSET, Superblock};
use dimsum_format::codec::Compressor;
use dimsum_format::manifest::Blob;
use dimsum_format::map::{DEVICE_ROW, DeviceMap, FRAME_ROW, FrameMap};
use dimsum_format::pack::{
    FOOTER_BYTES, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, SKIPPABLE_LAYER_META, skippable_header,
};
use dimsum_format::{Blake3, Digest};
use dimsum_recipe::fuzzing;
use dimsum_source::{BoxFuture, Source, SourceError};
use zerocopy::FromBytes as _;

/// Bytes of a layer meta that are looked at.
const MAX_LAYER_META: u64 = 4 << 20;

/// A recipe: no panic; tar and blob are as long as it says, and what is read of devices is within them. A DEFLATE stream comes back
/// from its corrections.
///
/// The input is a recipe, if it starts as one. Else its first byte says whether parts of a recipe follow, not
/// compressed, or a stream.
pub fn recipe(data: &[u8]) {
    let temp_dir = std::env::temp_dir();
    match data {
        [b'D', b'I', b'M', b'S', b'U', b'M', ..] => fuzzing::recipe(data, &temp_dir),
        [kind, style, stream @ ..] if *kind > 2 => fuzzing::deflate(*style, stream),
        _ => fuzzing::recipe_of_parts(data, &temp_dir),
    }
}

/// What a pack says of itself: no panic; a layer that is accepted has a consistent tree.
///
/// The input is the end of a pack, if its last bytes say so. Else it is the counts of a layer meta, and the layer meta
/// without its footer. A pack is made around it, for no fuzzer guesses its digest, nor the checksum of its superblock.
pub fn pack_description(data: &[u8]) {
    let length = data.len() as u64;
    match data.last_chunk::<FOOTER_BYTES>().map(|footer| PackFooter::parse(footer, length)) {
        Some(Ok(footer)) if footer.layer_meta_length <= MAX_LAYER_META => {
            describe(DressedPack { front: 0, tail: data.to_vec() });
        }
        Some(Ok(_)) => {}
        _ => {
            if let Some(pack) = dress(data) {
                describe(pack);
            }
        }
    }
}

fn describe(pack: DressedPack) {
    let blob = Blob { digest: Digest::new([1; 32]), size: pack.front + pack.tail.len() as u64 };
    dimsum_convert::fuzzing::pack_description(&pack, blob, &std::env::temp_dir());
}

/// Makes a pack around a layer meta: blocks of the tree, chunks, references, files, each an u16, then the layer meta up to its footer.
fn dress(data: &[u8]) -> Option<DressedPack> {
    let (counts, body) = data.split_first_chunk::<8>()?;
    let &[a, b, c, d, e, f, g, h] = counts;
    let count = |low, high| u32::from(u16::from_le_bytes([low, high]));
    let mut footer = LayerMetaFooter {
        erofs_blocks: count(a, b),
        blocks: 0,
        chunks: count(c, d),
        references: count(e, f),
        files: count(g, h),
    };
    if footer.length() > MAX_LAYER_META {
        return None;
    }
    let mut meta = body.to_vec();
    meta.resize(usize::try_from(footer.length()).ok()? - META_FOOTER_BYTES, 0);
    if let Some(block) = meta.get_mut(SUPERBLOCK_OFFSET..4096) {
        let (superblock, behind) = Superblock::mut_from_prefix(block).ok()?;
        superblock.checksum = superblock.checksum_with(behind).into();
    }
    let chunks = footer.chunks as usize;
    let maps = meta.get(footer.erofs_blocks as usize * 4096..)?;
    let (devices, rest) = maps.split_at_checked(chunks * DEVICE_ROW)?;
    footer.blocks = DeviceMap::parse(devices).ok()?.blocks();
    let front = FrameMap::parse(rest.get(..chunks * FRAME_ROW)?).ok()?.length();
    meta.extend_from_slice(&footer.to_bytes());
    let mut frame = Vec::new();
    Compressor::new(1).ok()?.compress(&meta, &mut frame).ok()?;
    let mut tail = skippable_header(SKIPPABLE_LAYER_META, frame.len() as u64).ok()?.to_vec();
    tail.extend_from_slice(&frame);
    let footer = PackFooter {
        layer_meta_offset: front,
        layer_meta_length: meta.len() as u64,
        layer_meta_compressed: u32::try_from(frame.len()).ok()?,
        layer_meta_digest: Blake3::of(&meta),
    };
    tail.extend_from_slice(&footer.to_bytes());
    Some(DressedPack { front, tail })
}

/// The end of a pack; what comes before it is zeros that nobody reads.
#[derive(Debug)]
struct DressedPack {
    front: u64,
    tail: Vec<u8>,
}

impl Source for DressedPack {
    fn name(&self) -> &str {
        "fuzz"
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(async move { self.read_piece(blob, range) })
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(blob, 0)
    }

    fn open_at(&self, _: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let skip = usize::try_from(start.saturating_sub(self.front)).unwrap_or(usize::MAX);
        let tail = self.tail.get(skip..).unwrap_or_default().to_vec();
        let zeros = std::io::repeat(0).take(self.front.saturating_sub(start));
        Ok(Box::new(zeros.chain(Cursor::new(tail))))
    }

    fn size(&self, _: Digest) -> Result<Option<u64>, SourceError> {
        Ok(Some(self.front + self.tail.len() as u64))
    }
}
