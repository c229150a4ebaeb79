//! The limits of the format (`docs/format.md`, section 9), enforced on write and on read.

/// Blocks of a flat image: addresses have 32 bits and `u32::MAX` means null.
pub const MAX_FLAT_BLOCKS: u64 = (u32::MAX - 1) as u64;
/// Packs of an image; containerd and registries limit layers to about that.
pub const MAX_PACKS: usize = 128;
/// Blocks of a chunk (8 MiB): bounds the memory of a miss; the largest slice is 4 MiB and a joined tail of 1 MiB.
pub const MAX_CHUNK_BLOCKS: u32 = 2048;
/// Bytes of a chunk's zstd frame: an incompressible chunk plus headers, with room.
pub const MAX_FRAME_BYTES: u32 = 16 << 20;
/// Chunks of a pack: 1 TiB of 256 KiB slices; keeps the maps of a pack below 160 MiB.
pub const MAX_CHUNKS: u64 = 1 << 22;
/// Bytes of an uncompressed meta or layer meta: about 40 million files.
pub const MAX_META_BYTES: u64 = u32::MAX as u64;
/// Bytes of a manifest or index; what registries accept.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Bytes of an image config: twice the manifest, for it holds the history.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Layers of a source image; the same bound as for packs, plus empty ones that registries let through.
pub const MAX_SOURCE_LAYERS: usize = 512;
/// Manifests of an index; the largest multi-platform images have some tens.
pub const MAX_INDEX_MANIFESTS: usize = 1024;
/// Bytes of a compressed meta's index: the chaining values and frame lengths of [`MAX_META_BYTES`].
pub const MAX_META_INDEX_BYTES: u64 = 16 << 20;

/// Smallest and largest slice size, powers of two.
pub const SLICE_SIZES: std::ops::RangeInclusive<u32> = (64 << 10)..=(4 << 20);
/// Smallest and largest bundle size, powers of two.
pub const BUNDLE_SIZES: std::ops::RangeInclusive<u32> = (32 << 10)..=(1 << 20);
