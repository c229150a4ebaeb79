//! The store's bounds. Everything that outside data can make grow has one.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Bytes of one [`crate::Image::read`]: the largest request of the kernel's FUSE client.
pub const MAX_READ: u64 = 1 << 20;
/// Extents of one read: one per block and a hole between any two.
pub const MAX_EXTENTS: usize = 512;
/// Reads of one image that wait at the same time. A FUSE session has at most 512 in the background and one per reading
/// thread besides. A reader beyond this bound is told so instead of growing the queue.
pub const MAX_PARKED: usize = 4096;
/// Bytes charged to reads of all images that wait: 128 of the longest reads, or 1,000 of a kernel's usual 128 KiB. One image gets at
/// most half of it while others hold none.
pub const MAX_PARKED_BYTES: u64 = 256 << 20;
/// Requests of fills under way for all images. A few long answers saturate any link, and each holds up to a piece of it
/// in memory.
pub const MAX_FILL_REQUESTS: usize = 8;
/// Images whose metas are fetched to open them, of all sources together. Each is a thread that waits and may hold a
/// meta of [`WHOLE_META`], so they hold at most 512 MiB. One source gets at most half of them while others have none.
pub const MAX_OPENINGS: usize = 32;
/// Bytes of maps of all open images in memory, where they stay: 500 images of 10 GB each.
pub const MAX_OPEN_MAPS: u64 = 1 << 30;
/// Bytes of proven groups of metas of all images in memory: the trees of 32 images that are walked at the same time.
pub const MAX_CACHED_META: u64 = 256 << 20;
/// Bytes of proven chaining values of all devices in memory: for 64 GiB of data.
pub const MAX_PROVEN_BYTES: u64 = 128 << 20;
/// Open files of devices: two for each that is read. A service's usual limit of descriptors is 524,288, a shell's soft one 1,024; with
/// the rest of a server this stays below the first. A file that was closed is opened again by the next read.
pub const MAX_DEVICE_FILES: u64 = 8192;
/// Bytes of chunks that are kept in memory by a store whose files another process writes: one image's first reads.
pub const MAX_GUEST_BYTES: u64 = 64 << 20;
/// Bytes of one joined request to a source. It is long enough that the round trip does not matter, and short enough
/// that the first chunk of it is not late.
pub const MAX_REQUEST: u64 = 4 << 20;
/// Chunks of one joined request: bounds the bookkeeping when frames are tiny.
pub const MAX_REQUEST_CHUNKS: usize = 128;
/// Unwanted bytes between two frames that are fetched to save a round trip, whatever a source's estimate says. They are
/// a quarter of a request, so that a false estimate fetches at most four times the bytes that were asked for.
pub const MAX_BRIDGE: u64 = MAX_REQUEST / 4;
/// How long what a fill asks for at once should take: a reader who comes meanwhile shares the link with it for that long.
pub const FILL_RANGE_TIME: Duration = Duration::from_millis(200);
/// Bytes that a fill asks for at once. The least makes the round trip of 20 ms small on a link of 100 Mbit/s. The most
/// comes at 2.5 Gbit/s in [`FILL_RANGE_TIME`], so that a broken answer costs little to ask for again.
pub const FILL_RANGE: RangeInclusive<u64> = 1 << 20..=64 << 20;
/// A fill that is done within this goes ahead of readers that come one after the other. They find everything here
/// sooner than by a round trip for each chunk. A longer one would stand in their way.
pub const FILL_RUSH: Duration = Duration::from_secs(2);
/// How long no reader must have asked a source before a long fill goes on. It is longer than a program that starts
/// needs between two files, and shorter than its pauses.
pub const FILL_QUIET: Duration = Duration::from_millis(100);
/// How long a long fill waits for that at most: readers that never pause leave it a fifth of the link.
pub const FILL_PATIENCE: Duration = Duration::from_secs(1);
/// Length of the pieces in which what stands behind the frames of a pack is fetched and held.
pub(crate) const TAIL_PART: u64 = 1 << 20;
/// Bytes that a fill receives before it writes them: more than a write costs, less than is felt in memory.
pub(crate) const FILL_WRITE: u64 = 1 << 20;
/// Attempts of a fill in a row that bring nothing. With [`MAX_PAUSE`] between them they outlast ten minutes without a registry.
pub const FILL_TRIES: u32 = 30;
/// Walks of a fill over all packs: what a reader was fetching during one, and did not get, is fetched in the next.
pub(crate) const FILL_PASSES: u32 = 3;
/// Pause of a fill after its first failure, doubled with each in a row.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause of a fill.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Pause of a fill that is kept up after it failed. People or other programs make room on a disk, or bring a registry
/// back.
pub const FILL_FIRST_RESUME: Duration = Duration::from_secs(30);
/// Longest such pause: late enough to cost nothing, soon enough that an image is whole the same day.
pub const FILL_MAX_RESUME: Duration = Duration::from_mins(10);
/// Pause before a reader's request asks again when all sources are out of reach: a registry that is restarted is back in a moment.
pub(crate) const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Longest such pause, and so how late a reader hears that a registry is back.
pub const MAX_RETRY: Duration = Duration::from_secs(2);
/// How long a source has at least for readers whose time is nearly over, since they joined a try that failed. A source
/// that is well again answers within it.
pub(crate) const MIN_PATIENCE: Duration = Duration::from_secs(2);
/// How long a source that failed is asked after the others, doubled with each failure in a row.
pub(crate) const DEMOTION: Duration = Duration::from_secs(1);
/// Longest such time: a source that heals is preferred again within it.
pub const MAX_DEMOTION: Duration = Duration::from_secs(30);
/// Bytes of a compressed meta that is fetched whole by one request. All of it is needed before an image is open, so
/// this saves round trips and costs nothing but the memory of one answer. A longer one is asked for in pieces, and a
/// piece that breaks off is asked for again alone. The meta of an image of 110,000 files has some megabytes.
pub const WHOLE_META: u64 = 16 << 20;
/// Sources of one image: those of all who opened it. More than a registry and its mirrors; each may cost a failed read a request.
pub const MAX_ORIGINS: usize = 16;
/// Requests under way for all images together: with [`MAX_REQUEST`] the bound of compressed bytes in memory (256 MiB), and of
/// connections. Each image may have one more, so that those that hang stop no other.
pub const MAX_REQUESTS: usize = 64;
/// Requests under way for one device of one image.
pub const MAX_REQUESTS_PER_DEVICE: usize = 8;
/// Requests under way for one image: with [`MAX_REQUEST`] the bound of its compressed bytes in memory.
pub const MAX_REQUESTS_PER_IMAGE: usize = 16;
/// Bytes per second below which a source counts as hanging; adds to the deadline of a long request.
pub const MIN_SOURCE_RATE: f64 = 65_536.0;
/// How long one request to a source may take before the next source is asked, besides the time for its bytes.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Proven 16 KiB groups of a meta in memory (8 MiB per image). Those not held are read from the page cache and proven
/// again in microseconds.
pub const META_CACHE_GROUPS: usize = 512;
/// Bytes of device and frame maps of an image, which are held in memory: 3 TiB of 256 KiB slices.
pub const MAX_MAPS_BYTES: u64 = 512 << 20;
/// Frames of the meta that are asked for together when an image is opened for the first time (16 MiB decoded).
pub const META_WINDOW: usize = 128;
/// Chaining values per device in memory (8 MiB, for 4 GiB of the device); those not held are read and recombined again in a microsecond.
pub const MAX_PROVEN_GROUPS: usize = 1 << 18;
/// Frames on this disk that are remembered as wrong, so that they are not looked at again first.
pub const MAX_DISTRUSTED: usize = 4096;
/// Chunks of other devices that are known by their digests, present or not. They are a TiB of chunks of 256 KiB, in
/// about 64 bytes of memory each.
pub const MAX_SIBLING_ROWS: usize = 1 << 20;
/// Packs that these lie in: some thousand images, in about 300 bytes of memory each.
pub const MAX_SIBLING_PLACES: usize = 1 << 14;
/// Images of the store whose maps are looked at for these: more than the packs of any of them leave room for.
pub const MAX_SIBLING_IMAGES: usize = 1 << 14;
/// Places that are looked at for one missing chunk, each at the cost of opening some files.
pub const MAX_SIBLINGS: usize = 4;
/// How long the first misses after an image was opened wait for maps that are being read. It is the time of some
/// round trips to a registry, in which some hundred maps are read.
pub const SIBLING_HOLD: Duration = Duration::from_millis(50);
/// Decoded bytes that a fill takes from other devices in one go, between looks whether it was ended.
pub(crate) const FILL_SHARE: u64 = 16 << 20;
/// Decoding threads: beyond that the link is the bottleneck.
pub const MAX_DECODE_THREADS: usize = 16;
/// Bytes of a file of small records that is read whole.
pub const MAX_RECORD: u64 = 64 << 10;
/// Bytes of the options text of a conversion record.
pub const MAX_OPTIONS_TEXT: usize = 4096;
/// Times the length of a try to mend a pack that passes before the next: a tenth of a CPU at most.
pub(crate) const MEND_SHARE: u32 = 9;
/// Flights that are shown to people: the oldest ones, which tell why something hangs.
pub const MAX_SHOWN_FLIGHTS: usize = 1000;
/// Findings that `check` lists; the rest is only counted.
pub const MAX_FINDINGS: usize = 10_000;
/// Entries of one directory of the store that `check` looks at: a store of some million objects fans out over 256 directories.
pub const MAX_DIR_ENTRIES: usize = 1 << 20;
/// Bytes read at once when a whole file is hashed.
pub(crate) const HASH_BUFFER: usize = 1 << 20;
