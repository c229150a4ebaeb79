//! The framing of a pack (skippable frames and the footer), and the footer of a layer meta.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::digest::Blake3;
use crate::error::FormatError;
use crate::footer::{FooterHead, check_meta_length, read_footer};
use crate::limits::MAX_CHUNKS;
use crate::map::{DEVICE_ROW, DeviceMap, FRAME_ROW};
use crate::{BLOCK, BLOCK_U64};

/// Format version of packs and metas.
pub const VERSION: u32 = 1;
/// Magic of the skippable frame that holds the layer meta.
pub const SKIPPABLE_LAYER_META: u32 = 0x184D_2A5C;
/// Magic of the skippable frame that holds the pack footer.
pub const SKIPPABLE_FOOTER: u32 = 0x184D_2A5D;
/// Bytes before the payload of a skippable frame.
pub const SKIPPABLE_HEADER: usize = 8;
/// Bytes of uncompressed layer meta or meta per zstd frame: what a piecewise fetch costs at least.
pub const META_FRAME: usize = 128 << 10;
/// Bytes of the pack footer with the header of its skippable frame.
pub const FOOTER_BYTES: usize = SKIPPABLE_HEADER + size_of::<PackFooterBytes>();
/// Bytes of the footer of a meta or layer meta.
pub const META_FOOTER_BYTES: usize = 64;

const PACK_MAGIC: [u8; 8] = *b"DIMSUMP1";
const LAYER_META_MAGIC: [u8; 8] = *b"DIMSUML1";

/// Returns the header of a skippable frame.
///
/// # Errors
/// If the payload does not fit the 32-bit length.
pub fn skippable_header(magic: u32, payload: u64) -> Result<[u8; SKIPPABLE_HEADER], FormatError> {
    let length = u32::try_from(payload).map_err(|_| FormatError::Limit {
        part: "skippable frame",
        value: payload,
        limit: u64::from(u32::MAX),
    })?;
    let mut header = [0; SKIPPABLE_HEADER];
    let (first, second) = header.split_at_mut(4);
    first.copy_from_slice(&magic.to_le_bytes());
    second.copy_from_slice(&length.to_le_bytes());
    Ok(header)
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PackFooterBytes {
    head: FooterHead,
    layer_meta_offset: U64,
    layer_meta_length: U64,
    layer_meta_compressed: U32,
    reserved: U32,
    layer_meta_digest: [u8; 32],
}

/// The footer of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFooter {
    /// Offset of the skippable frame with the layer meta: the length of all chunk frames.
    pub layer_meta_offset: u64,
    /// Length of the uncompressed layer meta.
    pub layer_meta_length: u64,
    /// Length of the compressed layer meta.
    pub layer_meta_compressed: u32,
    /// BLAKE3 of the uncompressed layer meta.
    pub layer_meta_digest: Blake3,
}

impl PackFooter {
    /// Returns the skippable frame that ends a pack.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let payload = PackFooterBytes {
            head: FooterHead::new(PACK_MAGIC),
            layer_meta_offset: self.layer_meta_offset.into(),
            layer_meta_length: self.layer_meta_length.into(),
            layer_meta_compressed: self.layer_meta_compressed.into(),
            reserved: 0.into(),
            layer_meta_digest: *self.layer_meta_digest.as_bytes(),
        };
        let header = skippable_header(SKIPPABLE_FOOTER, size_of::<PackFooterBytes>() as u64).expect("72 bytes fit");
        [header.as_slice(), payload.as_bytes()].concat()
    }

    /// Parses the last [`FOOTER_BYTES`] of a pack of `pack_length` bytes.
    ///
    /// # Errors
    /// If they are not a footer, or the footer does not fit the pack.
    pub fn parse(tail: &[u8], pack_length: u64) -> Result<Self, FormatError> {
        let part = "pack footer";
        let (header, payload) = tail.split_first_chunk::<SKIPPABLE_HEADER>().ok_or(FormatError::Truncated {
            part,
            need: FOOTER_BYTES as u64,
            have: tail.len() as u64,
        })?;
        if *header != skippable_header(SKIPPABLE_FOOTER, size_of::<PackFooterBytes>() as u64)? {
            return Err(FormatError::Magic { part });
        }
        let bytes: &PackFooterBytes = read_footer(part, PACK_MAGIC, payload)?;
        if bytes.reserved.get() != 0 {
            return Err(FormatError::Value {
                part: "reserved field of the pack footer",
                value: u64::from(bytes.reserved.get()),
            });
        }
        let footer = Self {
            layer_meta_offset: bytes.layer_meta_offset.get(),
            layer_meta_length: bytes.layer_meta_length.get(),
            layer_meta_compressed: bytes.layer_meta_compressed.get(),
            layer_meta_digest: Blake3::new(bytes.layer_meta_digest),
        };
        check_meta_length("layer meta", footer.layer_meta_length)?;
        let end = (SKIPPABLE_HEADER as u64 + FOOTER_BYTES as u64)
            .checked_add(u64::from(footer.layer_meta_compressed))
            .and_then(|rest| rest.checked_add(footer.layer_meta_offset));
        if end != Some(pack_length) {
            return Err(FormatError::Mismatch {
                part: "length of the pack",
                said: end.unwrap_or(u64::MAX),
                is: pack_length,
            });
        }
        Ok(footer)
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LayerMetaFooterBytes {
    head: FooterHead,
    erofs_blocks: U32,
    blocks: U32,
    chunks: U32,
    references: U32,
    files: U32,
    reserved: [u8; 28],
}

/// The counts of a layer meta; they give the place of each of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerMetaFooter {
    /// Blocks of the layer's EROFS image.
    pub erofs_blocks: u32,
    /// Blocks of the pack's device.
    pub blocks: u32,
    /// Chunks of the pack.
    pub chunks: u32,
    /// Devices of other packs that the layer refers to.
    pub references: u32,
    /// Rows of the file table.
    pub files: u32,
}

/// Bytes of a reference row.
pub const REFERENCE_ROW: usize = 36;
/// Bytes of a file table row.
pub const FILE_ROW: usize = 40;

impl LayerMetaFooter {
    /// Length of the whole uncompressed layer meta in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        let rows = u64::from(self.chunks) * (DEVICE_ROW + FRAME_ROW) as u64
            + u64::from(self.references) * REFERENCE_ROW as u64
            + u64::from(self.files) * FILE_ROW as u64;
        (u64::from(self.erofs_blocks) * BLOCK_U64 + rows + META_FOOTER_BYTES as u64).next_multiple_of(BLOCK_U64)
    }

    /// Returns the footer.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; META_FOOTER_BYTES] {
        let bytes = LayerMetaFooterBytes {
            head: FooterHead::new(LAYER_META_MAGIC),
            erofs_blocks: self.erofs_blocks.into(),
            blocks: self.blocks.into(),
            chunks: self.chunks.into(),
            references: self.references.into(),
            files: self.files.into(),
            reserved: [0; 28],
        };
        zerocopy::transmute!(bytes)
    }

    /// Parses the footer of a layer meta of `length` bytes.
    ///
    /// # Errors
    /// If it is none, or its counts are above the limits or do not give `length`.
    pub fn parse(footer: &[u8], length: u64) -> Result<Self, FormatError> {
        let bytes: &LayerMetaFooterBytes = read_footer("layer meta footer", LAYER_META_MAGIC, footer)?;
        let parsed = Self {
            erofs_blocks: bytes.erofs_blocks.get(),
            blocks: bytes.blocks.get(),
            chunks: bytes.chunks.get(),
            references: bytes.references.get(),
            files: bytes.files.get(),
        };
        if u64::from(parsed.chunks) > MAX_CHUNKS {
            return Err(FormatError::Limit { part: "chunks", value: u64::from(parsed.chunks), limit: MAX_CHUNKS });
        }
        check_meta_length("layer meta", length)?;
        if parsed.length() != length {
            return Err(FormatError::Mismatch { part: "length of the layer meta", said: parsed.length(), is: length });
        }
        Ok(parsed)
    }
}

/// A row of the file table: a small file that a pack stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRow {
    /// BLAKE3 of the file's bytes.
    pub digest: Blake3,
    /// First block in the device.
    pub block: u32,
    /// Length in bytes, at least 1.
    pub length: u32,
}

impl FileRow {
    /// Returns the row as it stands in a layer meta.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; FILE_ROW] {
        let mut row = [0; FILE_ROW];
        let (digest, rest) = row.split_at_mut(32);
        let (first, length) = rest.split_at_mut(4);
        digest.copy_from_slice(self.digest.as_bytes());
        first.copy_from_slice(&self.block.to_le_bytes());
        length.copy_from_slice(&self.length.to_le_bytes());
        row
    }

    /// Blocks of the file.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.length.div_ceil(BLOCK as u32)
    }

    fn from_bytes(row: &[u8; FILE_ROW]) -> Self {
        let split = "a row has 32 + 4 + 4 bytes";
        let (digest, rest) = row.split_first_chunk::<32>().expect(split);
        let (block, rest) = rest.split_first_chunk::<4>().expect(split);
        let (length, _) = rest.split_first_chunk::<4>().expect(split);
        Self { digest: Blake3::new(*digest), block: u32::from_le_bytes(*block), length: u32::from_le_bytes(*length) }
    }
}

/// Parses a file table.
///
/// # Errors
/// If a row is cut off, has no bytes, does not lie in one chunk, or does not follow the row before it.
pub fn parse_file_table(rows: &[u8], device: &DeviceMap) -> Result<Vec<FileRow>, FormatError> {
    let (rows, rest) = rows.as_chunks::<FILE_ROW>();
    if !rest.is_empty() {
        let have = (rows.len() * FILE_ROW + rest.len()) as u64;
        return Err(FormatError::Truncated { part: "file table", need: have.next_multiple_of(FILE_ROW as u64), have });
    }
    let mut free = 0;
    let mut files = Vec::with_capacity(rows.len());
    for row in rows {
        let row = FileRow::from_bytes(row);
        let end = row.block.checked_add(row.blocks());
        let chunk = device.chunk_of_block(row.block).and_then(|chunk| device.chunk_blocks(chunk));
        match (end, chunk) {
            (Some(end), Some(chunk)) if row.length > 0 && row.block >= free && end <= chunk.end => free = end,
            _ => return Err(FormatError::Value { part: "block of a file", value: row.block.into() }),
        }
        files.push(row);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footers_have_the_sizes_of_the_document() {
        assert_eq!(FOOTER_BYTES, 80);
        assert_eq!(size_of::<LayerMetaFooterBytes>(), META_FOOTER_BYTES);
    }

    #[test]
    fn a_file_table_must_lie_in_the_chunks_of_its_device() {
        let mut device = DeviceMap::default();
        device.push(2, Blake3::of(b"a")).unwrap();
        device.push(3, Blake3::of(b"b")).unwrap();
        let row = |block, length| FileRow { digest: Blake3::of(b"x"), block, length };
        let parse = |rows: &[FileRow]| {
            let bytes: Vec<u8> = rows.iter().flat_map(FileRow::to_bytes).collect();
            parse_file_table(&bytes, &device)
        };
        let good = [row(0, 1), row(1, 4096), row(2, 4097), row(4, 5)];
        assert_eq!(parse(&good).unwrap(), good);
        for bad in
            [[row(0, 0), row(1, 1)], [row(1, 1), row(0, 1)], [row(0, 4097), row(1, 1)], [row(1, 4097), row(3, 1)]]
        {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        assert!(parse(&[row(5, 1)]).is_err() && parse(&[row(u32::MAX, u32::MAX)]).is_err());
        assert!(parse_file_table(&[0; FILE_ROW - 1], &device).is_err());
    }

    #[test]
    fn a_pack_footer_reads_back_and_must_fit_the_pack() {
        let footer = PackFooter {
            layer_meta_offset: 1000,
            layer_meta_length: 8192,
            layer_meta_compressed: 500,
            layer_meta_digest: Blake3::of(b"x"),
        };
        let length = 1000 + 8 + 500 + 80;
        assert_eq!(PackFooter::parse(&footer.to_bytes(), length).unwrap(), footer);
        assert!(PackFooter::parse(&footer.to_bytes(), length + 1).is_err());
        for at in 0..FOOTER_BYTES - 40 {
            let mut bytes = footer.to_bytes();
            bytes[at] ^= 0x80;
            // The length of the uncompressed layer meta is proven by its digest only.
            assert!(PackFooter::parse(&bytes, length).is_err() || (32..40).contains(&at), "byte {at}");
        }
    }

    #[test]
    fn the_counts_of_a_layer_meta_give_its_length() {
        let footer = LayerMetaFooter { erofs_blocks: 2, blocks: 9, chunks: 100, references: 1, files: 3 };
        let length = footer.length();
        assert_eq!(length, (2 * 4096 + 4000 + 36 + 120 + 64u64).next_multiple_of(4096));
        assert_eq!(LayerMetaFooter::parse(&footer.to_bytes(), length).unwrap(), footer);
        assert!(LayerMetaFooter::parse(&footer.to_bytes(), length + 4096).is_err());
    }
}
