//! The store's bounds. Everything that outside data can make grow has one.

use std::time::Duration;

/// Bytes of one [`crate::Image::read`]: the largest request of the kernel's FUSE client.
pub const MAX_READ: u64 = 1 << 20;
/// Extents of one read: one per block and a hole between any two.
pub const MAX_EXTENTS: usize = 512;
/// Reads of one image that wait at the same time. A FUSE session has at most 512 in the background and one per reading thread
/// besides; a reader beyond this bound is told so instead of growing the queue.
pub const MAX_PARKED: usize = 4096;
/// Bytes of one joined request to a source: long enough that the round trip does not matter, short enough that the first chunk
/// of it is not late.
pub const MAX_REQUEST: u64 = 4 << 20;
/// Chunks of one joined request: bounds the bookkeeping when frames are tiny.
pub const MAX_REQUEST_CHUNKS: usize = 128;
/// Bytes between two frames that are fetched and thrown away to save a request. Only adjacent frames are joined until a cost model
/// of the source exists.
pub const MAX_BRIDGE: u64 = 0;
/// Requests under way for one device of one image.
pub const MAX_REQUESTS_PER_DEVICE: usize = 8;
/// Requests under way for one image: with [`MAX_REQUEST`] the bound of its compressed bytes in memory.
pub const MAX_REQUESTS_PER_IMAGE: usize = 16;
/// Bytes per second below which a source counts as hanging; adds to the deadline of a long request.
pub const MIN_SOURCE_RATE: f64 = 65_536.0;
/// How long one request to a source may take before the next source is asked, besides the time for its bytes.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Proven 16 KiB groups of a meta in memory (8 MiB per image); those not held are read from the page cache and proven again in
/// microseconds.
pub const META_CACHE_GROUPS: usize = 512;
/// Bytes of device and frame maps of an image, which are held in memory: 3 TiB of 256 KiB slices.
pub const MAX_MAPS_BYTES: u64 = 512 << 20;
/// Frames of the meta that are asked for together when an image is opened for the first time (16 MiB decoded).
pub const META_WINDOW: usize = 128;
/// Chaining values per device in memory (8 MiB, for 4 GiB of the device); those not held are read and recombined again in a microsecond.
pub const MAX_PROVEN_GROUPS: usize = 1 << 18;
/// Frames of a source that are remembered as wrong, so that they are not asked for again first.
pub const MAX_DISTRUSTED: usize = 4096;
/// Decoding threads: beyond that the link is the bottleneck.
pub const MAX_DECODE_THREADS: usize = 16;
/// Bytes of a file of small records that is read whole.
pub const MAX_RECORD: u64 = 64 << 10;
/// Bytes of the options text of a conversion record.
pub const MAX_OPTIONS_TEXT: usize = 4096;
/// Findings that `check` lists; the rest is only counted.
pub const MAX_FINDINGS: usize = 10_000;
/// Entries of one directory of the store that `check` looks at: a store of some million objects fans out over 256 directories.
pub const MAX_DIR_ENTRIES: usize = 1 << 20;
/// Bytes read at once when a whole file is hashed.
pub(crate) const HASH_BUFFER: usize = 1 << 20;
