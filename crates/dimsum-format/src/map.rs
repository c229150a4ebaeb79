//! Device maps and frame maps.

use std::ops::Range;

use crate::BLOCK_U64;
use crate::digest::{Blake3, DeviceId};
use crate::error::FormatError;
use crate::limits::{MAX_CHUNK_BLOCKS, MAX_CHUNKS, MAX_FLAT_BLOCKS, MAX_FRAME_BYTES};

/// Bytes of a device map row.
pub const DEVICE_ROW: usize = 36;
/// Bytes of a frame map row.
pub const FRAME_ROW: usize = 4;

/// The chunks of one device: for each, where it ends and its digest.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct DeviceMap {
    /// First block behind chunk i.
    ends: Vec<u32>,
    digests: Vec<Blake3>,
}

impl std::fmt::Debug for DeviceMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceMap").field("chunks", &self.chunks()).field("blocks", &self.blocks()).finish()
    }
}

impl DeviceMap {
    /// Parses the rows of a device map.
    ///
    /// # Errors
    /// If a row is cut off, a chunk has no or too many blocks, or there are too many.
    pub fn parse(rows: &[u8]) -> Result<Self, FormatError> {
        let mut map = Self::default();
        let mut chunks = rows.chunks_exact(DEVICE_ROW);
        for row in &mut chunks {
            let (Some((blocks, digest)), true) = (row.split_first_chunk::<4>(), map.chunks() < MAX_CHUNKS) else {
                return Err(FormatError::Limit {
                    part: "chunks of a device",
                    value: map.chunks() + 1,
                    limit: MAX_CHUNKS,
                });
            };
            let digest: [u8; 32] = digest.try_into().map_err(|_| truncated_row(rows))?;
            map.push(u32::from_le_bytes(*blocks), Blake3::new(digest))?;
        }
        if !chunks.remainder().is_empty() {
            return Err(truncated_row(rows));
        }
        Ok(map)
    }

    /// Adds a chunk at the end.
    ///
    /// # Errors
    /// If the chunk or the device is above the limits.
    pub fn push(&mut self, blocks: u32, digest: Blake3) -> Result<(), FormatError> {
        if blocks == 0 || blocks > MAX_CHUNK_BLOCKS {
            let limit = u64::from(MAX_CHUNK_BLOCKS);
            return Err(FormatError::Limit { part: "blocks of a chunk", value: u64::from(blocks), limit });
        }
        if self.chunks() >= MAX_CHUNKS {
            return Err(FormatError::Limit { part: "chunks of a device", value: self.chunks() + 1, limit: MAX_CHUNKS });
        }
        let end = self.blocks().checked_add(blocks).filter(|end| u64::from(*end) <= MAX_FLAT_BLOCKS);
        let limit = MAX_FLAT_BLOCKS;
        let end =
            end.ok_or_else(|| FormatError::Limit { part: "blocks of a device", value: u64::from(u32::MAX), limit })?;
        self.ends.push(end);
        self.digests.push(digest);
        Ok(())
    }

    /// Returns the rows as they stand in a meta.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.ends.len() * DEVICE_ROW);
        let mut start = 0;
        for (end, digest) in self.ends.iter().zip(&self.digests) {
            bytes.extend_from_slice(&(end - start).to_le_bytes());
            bytes.extend_from_slice(digest.as_bytes());
            start = *end;
        }
        bytes
    }

    /// Returns the device id: BLAKE3 of all rows.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId::new(*Blake3::of(&self.to_bytes()).as_bytes())
    }

    /// Number of chunks.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Number of blocks of the device.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Blocks of chunk `index`.
    #[must_use]
    pub fn chunk_blocks(&self, index: u32) -> Option<Range<u32>> {
        let at = index as usize;
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(start..end)
    }

    /// Byte range of chunk `index` in the device.
    #[must_use]
    pub fn chunk_bytes(&self, index: u32) -> Option<Range<u64>> {
        let blocks = self.chunk_blocks(index)?;
        Some(u64::from(blocks.start) * BLOCK_U64..u64::from(blocks.end) * BLOCK_U64)
    }

    /// Digest of chunk `index`.
    #[must_use]
    pub fn digest(&self, index: u32) -> Option<Blake3> {
        self.digests.get(index as usize).copied()
    }

    /// Index of the chunk that holds `block`.
    #[must_use]
    pub fn chunk_of_block(&self, block: u32) -> Option<u32> {
        let index = self.ends.partition_point(|end| *end <= block);
        (index < self.ends.len()).then(|| u32::try_from(index).ok()).flatten()
    }
}

fn truncated_row(rows: &[u8]) -> FormatError {
    let have = rows.len() as u64;
    FormatError::Truncated { part: "device map", need: have.next_multiple_of(DEVICE_ROW as u64), have }
}

/// Where the frame of each chunk lies in a compressed pack.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FrameMap {
    /// First byte behind frame i.
    ends: Vec<u64>,
}

impl std::fmt::Debug for FrameMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameMap").field("frames", &self.ends.len()).field("length", &self.length()).finish()
    }
}

impl FrameMap {
    /// Parses the rows of a frame map.
    ///
    /// # Errors
    /// If a row is cut off or a frame is empty or too long.
    pub fn parse(rows: &[u8]) -> Result<Self, FormatError> {
        let (rows, rest) = rows.as_chunks::<FRAME_ROW>();
        if !rest.is_empty() {
            let have = (rows.len() * FRAME_ROW + rest.len()) as u64;
            return Err(FormatError::Truncated {
                part: "frame map",
                need: have.next_multiple_of(FRAME_ROW as u64),
                have,
            });
        }
        let mut map = Self { ends: Vec::with_capacity(rows.len()) };
        for row in rows {
            map.push(u32::from_le_bytes(*row))?;
        }
        Ok(map)
    }

    /// Adds a frame of `length` bytes.
    ///
    /// # Errors
    /// If the frame is empty or too long, or there are too many.
    pub fn push(&mut self, length: u32) -> Result<(), FormatError> {
        if length == 0 || length > MAX_FRAME_BYTES {
            let limit = u64::from(MAX_FRAME_BYTES);
            return Err(FormatError::Limit { part: "length of a frame", value: u64::from(length), limit });
        }
        if self.ends.len() as u64 >= MAX_CHUNKS {
            return Err(FormatError::Limit { part: "frames of a pack", value: MAX_CHUNKS + 1, limit: MAX_CHUNKS });
        }
        // No overflow: MAX_CHUNKS * MAX_FRAME_BYTES = 2^46.
        self.ends.push(self.length() + u64::from(length));
        Ok(())
    }

    /// Returns the rows as they stand in a meta.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.ends.len() * FRAME_ROW);
        let mut start = 0;
        for end in &self.ends {
            let length = u32::try_from(end - start).expect("push took a u32");
            bytes.extend_from_slice(&length.to_le_bytes());
            start = *end;
        }
        bytes
    }

    /// Number of frames.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Length of all frames in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Byte range of frame `index` in the pack.
    #[must_use]
    pub fn frame(&self, index: u32) -> Option<Range<u64>> {
        let at = index as usize;
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_found_in_their_chunks() {
        let mut map = DeviceMap::default();
        for (blocks, byte) in [(3, 1), (1, 2), (64, 3)] {
            map.push(blocks, Blake3::new([byte; 32])).unwrap();
        }
        assert_eq!((map.chunks(), map.blocks()), (3, 68));
        let chunks: Vec<_> = [0, 2, 3, 4, 67].map(|block| map.chunk_of_block(block).unwrap()).into();
        assert_eq!(chunks, [0, 0, 1, 2, 2]);
        assert_eq!(map.chunk_of_block(68), None);
        assert_eq!(map.chunk_blocks(1), Some(3..4));
        assert_eq!(DeviceMap::parse(&map.to_bytes()).unwrap(), map);
    }

    #[test]
    fn empty_and_oversized_chunks_and_frames_are_refused() {
        assert!(DeviceMap::default().push(0, Blake3::new([0; 32])).is_err());
        assert!(DeviceMap::default().push(MAX_CHUNK_BLOCKS + 1, Blake3::new([0; 32])).is_err());
        assert!(FrameMap::default().push(0).is_err());
        assert!(FrameMap::default().push(MAX_FRAME_BYTES + 1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_rows_never_panic(rows in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(map) = DeviceMap::parse(&rows) {
                prop_assert_eq!(map.to_bytes(), rows.clone());
            }
            if let Ok(map) = FrameMap::parse(&rows) {
                prop_assert_eq!(map.to_bytes(), rows);
            }
        }
    }
}
