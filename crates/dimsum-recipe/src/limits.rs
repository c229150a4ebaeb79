//! The limits of recipes (`docs/format.md`, section 10), enforced on write and on read.

/// Bytes of a recipe blob. The bytes of the largest layers that are not file content compress to a few MiB. A file that
/// is twice in one layer is a literal in it.
pub const MAX_RECIPE_BYTES: u64 = 1 << 30;
/// Devices that one recipe refers to: every layer of a source image, and packs of other images.
pub const MAX_DEVICES: u32 = 1024;
/// Recipes of an image and packs that come with them, manifest and config.
pub const MAX_BLOBS: usize = dimsum_format::limits::MAX_SOURCE_LAYERS * 2 + 2;
/// Bytes of a file's content that are copied at once.
pub const COPY: usize = 256 << 10;
/// Compressed bytes that are looked at together.
pub const CHUNK: usize = 256 << 10;
/// The most compressed bytes looked at together: blocks of zlib have some 64 KiB, of other compressors up to 1 MiB.
pub const MAX_CHUNK: usize = 8 << 20;
/// Uncompressed bytes of a chunk: twice what 2^15 matches of the greatest length give, the largest block of gzip.
pub const MAX_CHUNK_TAR: usize = 16 << 20;
/// Corrections of a chunk: it is not worth more.
pub const MAX_CORRECTIONS: usize = 4 << 20;
/// Compressed bytes by which the style of a compressor is found out.
pub const PROBE: usize = 128 << 10;
/// A style is the right one if it foresees all but one of so many tokens; none of the others is tried then.
pub const GOOD: usize = 200;
/// How much of a layer's blob the notes may take, as its part: above, they are not worth it.
const MAX_NOTES_PART: u64 = 4;
/// Notes of so many bytes are worth it for the smallest layers: those of an empty tar are longer than its blob.
const MIN_NOTES: u64 = 4 << 10;
/// Bytes that the notes of a blob may have.
pub const fn max_notes(blob: u64) -> u64 {
    let part = blob / MAX_NOTES_PART;
    if part < MIN_NOTES { MIN_NOTES } else { part }
}
/// Bytes of a gzip header with its optional fields; the extra field has up to 64 KiB, names are shorter.
pub const MAX_GZIP_HEADER: usize = 128 << 10;
/// Uncompressed bytes of one gzip member: positions have 32 bits.
pub const MAX_MEMBER: u64 = u32::MAX as u64 - (64 << 20);
/// The most that DEFLATE makes of a byte: a match of 258 bytes in two bits.
pub const MAX_RATIO: u64 = 1032;
/// References to devices that a recipe has for nothing.
const FREE_REFERENCES: u64 = 1 << 16;
/// Bytes of the tar for each other: each costs a look-up and the proof of 16 KiB. A file in a tar has a header of 512
/// bytes at least. Only pieces of sparse files may be smaller, and no usual tool makes such pieces.
const TAR_PER_REFERENCE: u64 = 512;
/// Bytes of a pack that may be decoded for each byte that a recipe takes of it, its header included. It is more than
/// the largest bundle for the smallest file.
const DECODED_PER_BYTE: u64 = 4096;

/// Says how many references to devices there may be before this byte of the tar.
pub const fn max_references(tar: u64) -> u64 {
    FREE_REFERENCES + tar / TAR_PER_REFERENCE
}

/// Says how many bytes may be decoded to take so many of them.
pub const fn max_decoded(taken: u64) -> u64 {
    taken.saturating_add(TAR_PER_REFERENCE).saturating_mul(DECODED_PER_BYTE)
}
