//! The named limits of a file tree.
//!
//! Every count and size from outside is compared with a limit before memory is spent on it. A
//! [`Tree`](crate::Tree) cannot exceed the limits, so its writers need not check them.

/// Bytes of one name: `NAME_MAX` of Linux, and what an EROFS directory is asked for.
pub const MAX_NAME: usize = 255;

/// Bytes of a path from the root, without a leading slash. `PATH_MAX` is 4096 with its NUL, so one call could open
/// nothing longer.
pub const MAX_PATH: usize = 4095;

/// Components of a path. `MAX_PATH` alone would allow 2,048; real trees stay below 100, and readers that go down
/// recursively must not run out of stack.
pub const MAX_DEPTH: usize = 1024;

/// Bytes of a symbolic link's target: `PATH_MAX` without its NUL.
pub const MAX_SYMLINK_TARGET: usize = 4095;

/// Bytes of a full xattr name, prefix included: `XATTR_NAME_MAX` of Linux.
pub const MAX_XATTR_NAME: usize = 255;

/// Bytes of an xattr value: EROFS keeps the length in 16 bits (Linux allows one byte more).
pub const MAX_XATTR_VALUE: usize = 65_535;

/// Bytes of all xattrs of one inode, each counted as 4 + name + value. There is room for one value of full length and
/// for more small ones than any file system takes. An EROFS inode can count four times as much (2^16 words of 4 bytes).
pub const MAX_XATTR_BYTES: usize = 131_072;

/// Bytes of all xattr names of one inode, each with its NUL: `XATTR_LIST_MAX`, beyond which `listxattr` fails.
pub const MAX_XATTR_LIST: usize = 65_536;

/// Bytes of a regular file: 16 TiB, all that an image of 32-bit addresses of 4 KiB blocks can hold, and the
/// limit of ext4.
pub const MAX_FILE_SIZE: u64 = 1 << 44;

/// Inodes of a tree. The largest real images have about a million; the memory of a tree at this limit is about 1.3 GB.
pub const MAX_INODES: usize = 1 << 24;

/// Entries (names) of a tree, and so of one directory.
pub const MAX_ENTRIES: usize = 1 << 24;

/// Bytes of all names and symbolic link targets of a tree: their offsets are kept in 32 bits.
pub const MAX_TEXT: usize = 1 << 31;

/// Different sets of xattrs in a tree. Sets are shared, real images have below 100.
pub const MAX_XATTR_SETS: usize = 1 << 24;

/// The largest user or group id: `u32::MAX` is "no id" to the kernel.
pub const MAX_ID: u32 = u32::MAX - 1;

/// Device numbers as Linux has them inside: 12 bits of major.
pub const MAX_DEVICE_MAJOR: u32 = (1 << 12) - 1;

/// Device numbers as Linux has them inside: 20 bits of minor.
pub const MAX_DEVICE_MINOR: u32 = (1 << 20) - 1;

/// Bytes of one extended header of a tar (long name, POSIX records): what Go's `archive/tar`, and so container
/// runtimes, take.
pub const MAX_EXTENDED_HEADER: usize = 1 << 20;

/// Bytes of an uncompressed layer: 1 TiB, as much as a pack can hold. It ends decompression bombs.
pub const MAX_LAYER_SIZE: u64 = 1 << 40;

/// Things left out of a tree that are reported one by one; more are only counted, so that a source cannot fill
/// memory with them.
pub const MAX_REPORTED: usize = 100;

/// Window of a zstd frame, as a power of two: 128 MiB, what the format's own tool takes without being asked to
/// take more.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 27;
