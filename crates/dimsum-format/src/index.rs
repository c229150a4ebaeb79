//! The index of a compressed meta: frames and chaining values, so that any part can be fetched and proven alone.

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::digest::MetaRoot;
use crate::error::FormatError;
use crate::footer::check_meta_length;
use crate::group::{self, ChainingValue, Groups};
use crate::limits::{MAX_META_BYTES, MAX_META_INDEX_BYTES};
use crate::map::{FRAME_ROW, FrameMap};
use crate::pack::{META_FRAME, SKIPPABLE_HEADER, skippable_header};

/// Magic of the skippable frame that holds the index.
pub const SKIPPABLE_INDEX: u32 = 0x184D_2A5E;
/// Bytes at the very end of a compressed meta.
pub const TAIL_BYTES: usize = size_of::<TailBytes>();

const INDEX_MAGIC: [u8; 8] = *b"DIMSUMI1";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TailBytes {
    magic: [u8; 8],
    length: U64,
    frames: U32,
    groups: U32,
}

/// The footer of a compressed meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexTail {
    /// Length of the uncompressed meta.
    pub length: u64,
    frames: u32,
    groups: u32,
}

impl IndexTail {
    /// Parses the last [`TAIL_BYTES`] of a compressed meta.
    ///
    /// # Errors
    /// If they are not the end of an index.
    pub fn parse(tail: &[u8]) -> Result<Self, FormatError> {
        let part = "meta index";
        let bytes = TailBytes::ref_from_bytes(tail).map_err(|_| FormatError::Truncated {
            part,
            need: TAIL_BYTES as u64,
            have: tail.len() as u64,
        })?;
        if bytes.magic != INDEX_MAGIC {
            return Err(FormatError::Magic { part });
        }
        let parsed = Self { length: bytes.length.get(), frames: bytes.frames.get(), groups: bytes.groups.get() };
        check_meta_length("meta", parsed.length)?;
        let frames = parsed.length.div_ceil(META_FRAME as u64);
        if u64::from(parsed.frames) != frames {
            return Err(FormatError::Mismatch {
                part: "frames of the meta",
                said: u64::from(parsed.frames),
                is: frames,
            });
        }
        let groups = group::count(parsed.length);
        if u64::from(parsed.groups) != groups {
            return Err(FormatError::Mismatch {
                part: "groups of the meta",
                said: u64::from(parsed.groups),
                is: groups,
            });
        }
        Ok(parsed)
    }

    /// Bytes of the whole skippable frame at the end of the blob, at most [`MAX_META_INDEX_BYTES`].
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        SKIPPABLE_HEADER as u64
            + u64::from(self.frames) * FRAME_ROW as u64
            + u64::from(self.groups) * 32
            + TAIL_BYTES as u64
    }
}

/// The index of a compressed meta, with chaining values that are proven from the meta root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaIndex {
    /// Frames of the blob.
    pub frames: FrameMap,
    /// Proven groups of the uncompressed meta.
    pub groups: Groups,
}

impl MetaIndex {
    /// Parses the skippable frame (the last [`IndexTail::index_bytes`] of a blob of `blob_length` bytes) and proves it.
    ///
    /// # Errors
    /// If its parts do not fit, or the chaining values do not combine to `root`.
    pub fn parse(frame: &[u8], blob_length: u64, root: MetaRoot) -> Result<Self, FormatError> {
        let part = "meta index";
        let cut = |need: u64| FormatError::Truncated { part, need, have: frame.len() as u64 };
        let tail_at = frame.len().checked_sub(TAIL_BYTES).ok_or_else(|| cut(TAIL_BYTES as u64))?;
        let (body, tail) = frame.split_at(tail_at);
        let tail = IndexTail::parse(tail)?;
        let need = tail.index_bytes();
        if need > MAX_META_INDEX_BYTES {
            return Err(FormatError::Limit { part, value: need, limit: MAX_META_INDEX_BYTES });
        }
        let (header, body) = body.split_first_chunk::<SKIPPABLE_HEADER>().ok_or_else(|| cut(need))?;
        if frame.len() as u64 != need || *header != skippable_header(SKIPPABLE_INDEX, need - SKIPPABLE_HEADER as u64)? {
            return Err(FormatError::Mismatch { part: "length of the meta index", said: need, is: frame.len() as u64 });
        }
        let (rows, values) = body.split_at_checked(tail.frames as usize * FRAME_ROW).ok_or_else(|| cut(need))?;
        let frames = FrameMap::parse(rows)?;
        if frames.length().checked_add(need) != Some(blob_length) {
            let said = frames.length().saturating_add(need);
            return Err(FormatError::Mismatch { part: "length of the compressed meta", said, is: blob_length });
        }
        let (values, _) = values.as_chunks::<32>();
        let values: Box<[ChainingValue]> = values.into();
        let is = group::combine(&values, tail.length);
        let groups = Groups::prove(values, tail.length, root.into());
        let groups = groups.ok_or_else(|| FormatError::Digest {
            part: "chaining values of the meta",
            is: is.unwrap_or_else(|| crate::Blake3::new([0; 32])),
            must: root.into(),
        })?;
        Ok(Self { frames, groups })
    }

    /// Returns the skippable frame of an index.
    ///
    /// # Errors
    /// If the meta is above the limits.
    pub fn to_bytes(frames: &FrameMap, values: &[ChainingValue], length: u64) -> Result<Vec<u8>, FormatError> {
        let count = |n: u64| {
            u32::try_from(n).map_err(|_| FormatError::Limit { part: "meta", value: length, limit: MAX_META_BYTES })
        };
        let tail = TailBytes {
            magic: INDEX_MAGIC,
            length: length.into(),
            frames: count(frames.frames())?.into(),
            groups: count(values.len() as u64)?.into(),
        };
        let mut payload = frames.to_bytes();
        payload.extend_from_slice(values.as_flattened());
        payload.extend_from_slice(tail.as_bytes());
        Ok([skippable_header(SKIPPABLE_INDEX, payload.len() as u64)?.as_slice(), &payload].concat())
    }

    /// Range of the uncompressed meta that frame `index` holds.
    #[must_use]
    pub fn frame_content(&self, index: u32) -> Range<u64> {
        let start = u64::from(index) * META_FRAME as u64;
        start..(start + META_FRAME as u64).min(self.groups.length())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blake3;

    #[test]
    fn an_index_reads_back_only_with_its_own_root() {
        let meta: Vec<u8> = (0..300_000u32 / 4096 * 4096).map(|i| (i / 7) as u8).collect();
        let mut frames = FrameMap::default();
        for _ in meta.chunks(META_FRAME) {
            frames.push(1000).unwrap();
        }
        let values = group::chaining_values(&meta);
        let bytes = MetaIndex::to_bytes(&frames, &values, meta.len() as u64).unwrap();
        let root = MetaRoot::new(*Blake3::of(&meta).as_bytes());
        let blob = frames.length() + bytes.len() as u64;
        let index = MetaIndex::parse(&bytes, blob, root).unwrap();
        assert_eq!(index.frame_content(2).end, meta.len() as u64);
        assert!(MetaIndex::parse(&bytes, blob, MetaRoot::new([1; 32])).is_err());
        assert!(MetaIndex::parse(&bytes, blob + 1, root).is_err());
        let tail = IndexTail::parse(&bytes[bytes.len() - TAIL_BYTES..]).unwrap();
        assert_eq!(tail.index_bytes(), bytes.len() as u64);
    }
}
