//! The named limits of an EROFS image, enforced on write and on read (`docs/format.md`, section 9).

use crate::ondisk::BLOCK;

/// Blocks of a flat image: addresses have 32 bits and one value stands for holes.
pub const MAX_BLOCKS: u64 = 0xFFFF_FFFE;

/// Blocks of the EROFS image itself: a meta has less than 4 GiB, so its nids fit 32 bits.
pub const MAX_EROFS_BLOCKS: u64 = (1 << 32) / BLOCK - 1;

/// log2 of the blocks a map entry covers at most: the field has five bits.
pub const MAX_CHUNK_BITS: u32 = 31;

/// Entries of the block map of one file: 64 MiB of map.
pub const MAX_MAP_ENTRIES: u64 = 1 << 24;

/// Shared attributes of one inode: the count is a byte.
pub const MAX_SHARED_XATTRS: usize = 255;

/// Bytes that inode, xattr body and inline tail of a directory or symlink may take together. A larger item would leave
/// a gap in front of it that is on average more than the block it saves.
pub const MAX_INLINE_ITEM: u64 = 3072;

/// Nanoseconds of a second: no time has as many.
pub const NANOSECONDS: u32 = 1_000_000_000;

pub use dimsum_tree::limits::{
    MAX_DEPTH, MAX_FILE_SIZE, MAX_ID, MAX_INODES, MAX_NAME, MAX_SYMLINK_TARGET, MAX_XATTR_NAME,
};
