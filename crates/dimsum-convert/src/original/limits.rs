//! The limits of recipes (`docs/format.md`, section 10), enforced on write and on read.

/// Bytes of a recipe blob: what is not file content of the largest layers compresses to a few MiB; files that are twice in one
/// layer are in it as they are.
pub(crate) const MAX_RECIPE_BYTES: u64 = 1 << 30;
/// Devices that one recipe refers to: every layer of a source image, and packs of other images.
pub(crate) const MAX_DEVICES: u32 = 1024;
/// Recipes of an image and packs that come with them, manifest and config.
pub(crate) const MAX_BLOBS: usize = dimsum_format::limits::MAX_SOURCE_LAYERS * 2 + 2;
/// Bytes of a file's content that are copied at once.
pub(crate) const COPY: usize = 256 << 10;
