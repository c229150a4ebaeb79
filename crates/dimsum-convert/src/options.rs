//! The options of a conversion.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use dimsum_format::codec::{DEFAULT_LEVEL, LEVELS};
use dimsum_format::limits::{BUNDLE_SIZES, SLICE_SIZES};
use dimsum_format::{BLOCK, BLOCK_U64};
use dimsum_tree::OverlayEntries;

use crate::error::ConvertError;

/// More threads bring nothing: they would wait for the one thread that reads, hashes and unpacks.
const MAX_JOBS: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// How to convert. The first three change bytes, the others do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Bytes of a slice of a large file: a power of two, 64 KiB to 4 MiB.
    pub slice_size: u32,
    /// Bytes of a bundle of small files on average: a power of two, 32 KiB to 1 MiB, at most the slice size.
    pub bundle_size: u32,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Threads that hash and compress, beside those that decode and read. Each holds at most five slices and a few
    /// bundles, and zstd's own memory (1 to 3 MB at the default level). The number of files bounds the rest. It takes
    /// about 100 bytes for each file of each layer, and again for each file of an image of several layers. It takes 30
    /// bytes for each content and 60 for each slice.
    pub jobs: NonZeroUsize,
    /// The treatment of entries of the source that overlayfs gives a meaning.
    pub overlay_entries: OverlayEntries,
    /// Keep recipes for the source's layers, bit by bit, as a referrer of the image. The source is read once more, and
    /// no pack is taken unseen.
    pub keep_original: bool,
    /// Directory of temporary files, which never have a name there. [`Converted`](crate::Converted) reports the peak of
    /// their bytes. The bound is a sum. It has the compressed chunks of all layers, also of packs that are not listed
    /// in the end, and the small files of two layers. It also has 44 bytes for each small file of the image, and the
    /// compressed trees.
    pub temp_dir: PathBuf,
}

impl Default for ConvertOptions {
    /// 256 KiB slices, 128 KiB bundles, level 9, all processors, overlay entries refused, `/var/tmp` (which,
    /// unlike `/tmp`, is seldom in memory).
    fn default() -> Self {
        Self {
            slice_size: 256 << 10,
            bundle_size: 128 << 10,
            level: DEFAULT_LEVEL,
            jobs: thread::available_parallelism().map_or(NonZeroUsize::MIN, |jobs| jobs.min(MAX_JOBS)),
            overlay_entries: OverlayEntries::Refuse,
            keep_original: false,
            temp_dir: PathBuf::from("/var/tmp"),
        }
    }
}

impl ConvertOptions {
    /// Returns the options that change the canonical bytes as the manifest records them.
    #[must_use]
    pub fn canonical(&self) -> String {
        format!("slice={},bundle={}", self.slice_size, self.bundle_size)
    }

    /// Checks every value against its limits.
    ///
    /// # Errors
    /// If one is outside of them.
    pub fn check(&self) -> Result<(), ConvertError> {
        let refuse = |option, reason| Err(ConvertError::Option { option, reason });
        if !self.slice_size.is_power_of_two() || !SLICE_SIZES.contains(&self.slice_size) {
            return refuse("slice size", "must be a power of two from 64 KiB to 4 MiB");
        }
        if !self.bundle_size.is_power_of_two() || !BUNDLE_SIZES.contains(&self.bundle_size) {
            return refuse("bundle size", "must be a power of two from 32 KiB to 1 MiB");
        }
        if self.bundle_size > self.slice_size {
            return refuse("bundle size", "must not be larger than the slice size");
        }
        if !LEVELS.contains(&self.level) {
            return refuse("level", "must be from 1 to 19");
        }
        if self.jobs > MAX_JOBS {
            return refuse("jobs", "must not be more than 256");
        }
        Ok(())
    }

    /// Files of at most this many bytes are small: they go into bundles.
    pub(crate) const fn small_limit(&self) -> u64 {
        self.bundle_size as u64 / 2
    }

    /// log2 of the blocks of a slice.
    pub(crate) const fn slice_blocks_log2(&self) -> u32 {
        (self.slice_size / BLOCK as u32).trailing_zeros()
    }

    /// The `M` of the bundle rule: half the blocks of a bundle.
    pub(crate) const fn bundle_half(&self) -> u64 {
        self.bundle_size as u64 / (2 * BLOCK_U64)
    }
}
