//! The meta: the places of its parts, and its maps.

use std::ops::Range;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::digest::{Blake3, DeviceId};
use crate::error::FormatError;
use crate::footer::{FooterHead, check_meta_length, read_footer};
use crate::limits::{MAX_CHUNKS, MAX_FLAT_BLOCKS, MAX_PACKS};
use crate::map::{DEVICE_ROW, DeviceMap, FRAME_ROW, FrameMap};
use crate::pack::META_FOOTER_BYTES;
use crate::{BLOCK_U64, pack};

const META_MAGIC: [u8; 8] = *b"DIMSUMM1";
/// Bytes of a row of the device table.
pub const TABLE_ROW: usize = size_of::<TableRowBytes>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct MetaFooterBytes {
    head: FooterHead,
    erofs_blocks: U32,
    devices: U32,
    chunks: U64,
    length: U64,
    reserved: [u8; 24],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct TableRowBytes {
    id: [u8; 32],
    blocks: U32,
    chunks: U32,
    frames_length: U64,
}

/// The footer of a meta: the counts that give the place of every part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaFooter {
    /// Blocks of the EROFS image.
    pub erofs_blocks: u32,
    /// Devices listed, in manifest order.
    pub devices: u32,
    /// Chunks of all devices.
    pub chunks: u64,
}

impl MetaFooter {
    /// Length of the uncompressed meta in bytes: a whole number of blocks.
    #[must_use]
    pub fn length(&self) -> u64 {
        let rows = self.row_bytes();
        (u64::from(self.erofs_blocks) * BLOCK_U64)
            .saturating_add(rows)
            .saturating_add(META_FOOTER_BYTES as u64)
            .checked_next_multiple_of(BLOCK_U64)
            .unwrap_or(u64::MAX)
    }

    /// Bytes of device table and maps; a count from outside that is absurd gives a length that nothing has.
    fn row_bytes(&self) -> u64 {
        let chunks = self.chunks.saturating_mul((DEVICE_ROW + FRAME_ROW) as u64);
        chunks.saturating_add(u64::from(self.devices) * TABLE_ROW as u64)
    }

    /// Byte range of device table and maps, which follow one another.
    #[must_use]
    pub fn maps_range(&self) -> Range<u64> {
        let start = u64::from(self.erofs_blocks) * BLOCK_U64;
        let rows = self.row_bytes();
        start..start.saturating_add(rows)
    }

    /// Returns the footer.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; META_FOOTER_BYTES] {
        zerocopy::transmute!(MetaFooterBytes {
            head: FooterHead::new(META_MAGIC),
            erofs_blocks: self.erofs_blocks.into(),
            devices: self.devices.into(),
            chunks: self.chunks.into(),
            length: self.length().into(),
            reserved: [0; 24],
        })
    }

    /// Parses the last 64 bytes of a meta of `length` bytes.
    ///
    /// # Errors
    /// If they are no footer, or the counts are above the limits or do not give `length`.
    pub fn parse(footer: &[u8], length: u64) -> Result<Self, FormatError> {
        let bytes: &MetaFooterBytes = read_footer("meta footer", META_MAGIC, footer)?;
        let parsed =
            Self { erofs_blocks: bytes.erofs_blocks.get(), devices: bytes.devices.get(), chunks: bytes.chunks.get() };
        if parsed.devices as usize > MAX_PACKS {
            let (value, limit) = (u64::from(parsed.devices), MAX_PACKS as u64);
            return Err(FormatError::Limit { part: "packs of an image", value, limit });
        }
        check_meta_length("meta", length)?;
        for said in [bytes.length.get(), parsed.length()] {
            if said != length {
                return Err(FormatError::Mismatch { part: "length of the meta", said, is: length });
            }
        }
        Ok(parsed)
    }
}

/// One device of an image: its maps and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedDevice {
    /// BLAKE3 of the device map.
    pub id: DeviceId,
    /// Chunks and their digests.
    pub map: DeviceMap,
    /// Frames in the pack.
    pub frames: FrameMap,
    /// First block of the device in the flat image.
    pub first_block: u32,
}

/// The parts of a meta behind the EROFS image, which serve to find and prove data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaMaps {
    /// Blocks of the EROFS image at the front of the meta.
    pub erofs_blocks: u32,
    /// Blocks of the meta; the first device starts there.
    pub meta_blocks: u32,
    /// Devices in manifest order.
    pub devices: Vec<MappedDevice>,
}

impl MetaMaps {
    /// Parses device table and maps: the bytes of [`MetaFooter::maps_range`].
    ///
    /// # Errors
    /// If lengths, sums, ids or limits do not agree.
    pub fn parse(footer: &MetaFooter, maps: &[u8]) -> Result<Self, FormatError> {
        let need = footer.maps_range().end - footer.maps_range().start;
        let cut = || FormatError::Truncated { part: "maps of the meta", need, have: maps.len() as u64 };
        if maps.len() as u64 != need {
            return Err(cut());
        }
        let (table, mut rest) = maps.split_at_checked(footer.devices as usize * TABLE_ROW).ok_or_else(cut)?;
        let rows = <[TableRowBytes]>::ref_from_bytes(table).map_err(|_| cut())?;
        let chunks: u64 = rows.iter().map(|row| u64::from(row.chunks.get())).sum();
        if chunks != footer.chunks {
            return Err(FormatError::Mismatch { part: "chunks of the image", said: footer.chunks, is: chunks });
        }
        let mut devices = Vec::with_capacity(rows.len());
        let mut first_block = footer.length() / BLOCK_U64;
        let meta_blocks = first_block;
        for row in rows {
            let chunks = u64::from(row.chunks.get());
            if chunks > MAX_CHUNKS {
                return Err(FormatError::Limit { part: "chunks of a pack", value: chunks, limit: MAX_CHUNKS });
            }
            let (map_rows, behind) = rest.split_at_checked(row.chunks.get() as usize * DEVICE_ROW).ok_or_else(cut)?;
            rest = behind;
            let (is, must) = (Blake3::of(map_rows), Blake3::new(row.id));
            if is != must {
                return Err(FormatError::Digest { part: "device map", is, must });
            }
            let map = DeviceMap::parse(map_rows)?;
            same("blocks of a device", u64::from(row.blocks.get()), u64::from(map.blocks()))?;
            let first = u32::try_from(first_block).unwrap_or(u32::MAX);
            first_block += u64::from(map.blocks());
            devices.push(MappedDevice {
                id: DeviceId::new(row.id),
                map,
                frames: FrameMap::default(),
                first_block: first,
            });
        }
        for (device, row) in devices.iter_mut().zip(rows) {
            let (frame_rows, behind) = rest.split_at_checked(row.chunks.get() as usize * FRAME_ROW).ok_or_else(cut)?;
            rest = behind;
            device.frames = FrameMap::parse(frame_rows)?;
            same("length of the frames of a pack", row.frames_length.get(), device.frames.length())?;
        }
        if first_block > MAX_FLAT_BLOCKS {
            return Err(FormatError::Limit {
                part: "blocks of the flat image",
                value: first_block,
                limit: MAX_FLAT_BLOCKS,
            });
        }
        let meta_blocks = u32::try_from(meta_blocks).unwrap_or(u32::MAX);
        Ok(Self { erofs_blocks: footer.erofs_blocks, meta_blocks, devices })
    }

    /// Returns the footer that goes with these maps.
    #[must_use]
    pub fn footer(erofs_blocks: u32, devices: &[(DeviceMap, FrameMap)]) -> MetaFooter {
        MetaFooter {
            erofs_blocks,
            devices: u32::try_from(devices.len()).unwrap_or(u32::MAX),
            chunks: devices.iter().map(|(map, _)| map.chunks()).sum(),
        }
    }

    /// Returns the bytes between the EROFS image and the end of the meta: table, maps, zeros, footer.
    #[must_use]
    pub fn tail_bytes(erofs_blocks: u32, devices: &[(DeviceMap, FrameMap)]) -> Vec<u8> {
        let footer = Self::footer(erofs_blocks, devices);
        let start = u64::from(erofs_blocks) * BLOCK_U64;
        let mut bytes = Vec::new();
        for (map, frames) in devices {
            let row = TableRowBytes {
                id: *map.id().as_bytes(),
                blocks: map.blocks().into(),
                chunks: u32::try_from(map.chunks()).unwrap_or(u32::MAX).into(),
                frames_length: frames.length().into(),
            };
            bytes.extend_from_slice(row.as_bytes());
        }
        for (map, _) in devices {
            bytes.extend_from_slice(&map.to_bytes());
        }
        for (_, frames) in devices {
            bytes.extend_from_slice(&frames.to_bytes());
        }
        pad_and_close(&mut bytes, footer.length() - start, &footer.to_bytes());
        bytes
    }

    /// Blocks of the whole flat image.
    #[must_use]
    pub fn flat_blocks(&self) -> u32 {
        self.devices.last().map_or(self.meta_blocks, |last| last.first_block.saturating_add(last.map.blocks()))
    }

    /// Finds the device that holds flat block `block`: its index and the block inside it. `None` in the meta or
    /// past the end.
    #[must_use]
    pub fn locate(&self, block: u32) -> Option<(usize, u32)> {
        let index = self.devices.partition_point(|device| device.first_block <= block).checked_sub(1)?;
        let device = self.devices.get(index)?;
        let inside = block - device.first_block;
        (inside < device.map.blocks()).then_some((index, inside))
    }
}

/// Pads `bytes` with zeros so that `footer` ends them at `length`.
pub(crate) fn pad_and_close(bytes: &mut Vec<u8>, length: u64, footer: &[u8; pack::META_FOOTER_BYTES]) {
    let end = usize::try_from(length).expect("a meta is below 4 GiB");
    bytes.resize(end.saturating_sub(footer.len()), 0);
    bytes.extend_from_slice(footer);
}

fn same(part: &'static str, said: u64, is: u64) -> Result<(), FormatError> {
    if said == is { Ok(()) } else { Err(FormatError::Mismatch { part, said, is }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn example() -> Vec<(DeviceMap, FrameMap)> {
        let mut devices = Vec::new();
        for count in [3u32, 1, 40] {
            let (mut map, mut frames) = (DeviceMap::default(), FrameMap::default());
            for i in 0..count {
                map.push(i + 1, Blake3::of(&i.to_le_bytes())).unwrap();
                frames.push(100 + i).unwrap();
            }
            devices.push((map, frames));
        }
        devices
    }

    fn parse(erofs_blocks: u32, tail: &[u8]) -> Result<MetaMaps, FormatError> {
        let length = u64::from(erofs_blocks) * BLOCK_U64 + tail.len() as u64;
        let footer = MetaFooter::parse(&tail[tail.len() - META_FOOTER_BYTES..], length)?;
        let range = footer.maps_range();
        let start = u64::from(erofs_blocks) * BLOCK_U64;
        MetaMaps::parse(&footer, &tail[(range.start - start) as usize..(range.end - start) as usize])
    }

    #[test]
    fn maps_read_back_and_place_every_block() {
        let devices = example();
        let maps = parse(5, &MetaMaps::tail_bytes(5, &devices)).unwrap();
        assert_eq!(maps.devices.len(), 3);
        assert_eq!(maps.locate(maps.meta_blocks - 1), None);
        assert_eq!(maps.locate(maps.meta_blocks), Some((0, 0)));
        assert_eq!(maps.locate(maps.meta_blocks + 6), Some((1, 0)));
        assert_eq!(maps.locate(maps.flat_blocks() - 1), Some((2, devices[2].0.blocks() - 1)));
        assert_eq!(maps.locate(maps.flat_blocks()), None);
    }

    #[test]
    fn an_image_without_devices_has_no_data() {
        let maps = parse(1, &MetaMaps::tail_bytes(1, &[])).unwrap();
        assert_eq!((maps.meta_blocks, maps.flat_blocks(), maps.locate(0)), (2, 2, None));
    }

    proptest! {
        #[test]
        fn damaged_maps_are_refused_or_the_same(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let whole = MetaMaps::tail_bytes(5, &example());
            let expected = parse(5, &whole).unwrap();
            let mut tail = whole.clone();
            tail[at.index(whole.len())] ^= 1 << bit;
            if let Ok(maps) = parse(5, &tail) {
                // Frame lengths are the encoder's word; a sum that still fits is not visible here, only in the
                // meta root.
                prop_assert_eq!(maps.devices.len(), expected.devices.len());
            }
        }
    }
}
