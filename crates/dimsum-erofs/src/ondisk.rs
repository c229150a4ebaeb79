//! The bytes of an EROFS image as the kernel lays them out.
//!
//! Every struct is little-endian and unaligned, so it can be read from and written to any offset of a buffer. Names
//! follow the kernel's `erofs_fs.h`. Fields that later kernels gave a meaning are still `reserved` here: the format is
//! that of Linux 5.15 and keeps them zero.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// log2 of [`BLOCK`].
pub const BLOCK_BITS: u8 = 12;
/// Bytes of a block.
pub const BLOCK: u64 = 1 << BLOCK_BITS;
/// Bytes of a block as the length of a buffer.
pub const BLOCK_LEN: usize = 1 << BLOCK_BITS;
/// Where the superblock starts: the first 1024 bytes are left to boot loaders.
pub const SUPERBLOCK_OFFSET: usize = 1024;
/// Where the inode area starts: directly behind the superblock.
pub const INODE_AREA: u64 = 1152;
/// log2 of [`SLOT`].
pub const SLOT_BITS: u32 = 5;
/// An inode starts at a multiple of this; `nid` counts in it.
pub const SLOT: u64 = 1 << SLOT_BITS;

/// Magic number of the superblock.
pub const MAGIC: u32 = 0xE0F5_E1E2;
/// `feature_compat`: the superblock has a checksum.
pub const COMPAT_SUPERBLOCK_CHECKSUM: u32 = 0x1;
/// `feature_compat`: the time of an inode is its mtime.
pub const COMPAT_MTIME: u32 = 0x2;
/// `feature_incompat`: there may be chunk-based files.
pub const INCOMPAT_CHUNKED_FILE: u32 = 0x4;

/// A block address that stands for a hole.
pub const NULL_ADDRESS: u32 = u32::MAX;

/// `i_format`: the inode takes 64 bytes.
pub const FORMAT_EXTENDED: u16 = 0x1;
/// `i_format`: all bits that mean something in Linux 5.15.
pub const FORMAT_ALL: u16 = 0xF;
/// The data layout is found in `i_format` above this many bits.
pub const FORMAT_LAYOUT_SHIFT: u16 = 1;
/// Data layout: one run of blocks.
pub const LAYOUT_FLAT_PLAIN: u16 = 0;
/// Data layout: one run of blocks, the last partial one behind the inode.
pub const LAYOUT_FLAT_INLINE: u16 = 2;
/// Data layout: a block map behind the inode.
pub const LAYOUT_CHUNK_BASED: u16 = 4;
/// Chunk format: log2 of the blocks of a map entry. No other bit is used.
pub const CHUNK_FORMAT_BITS: u32 = 0x1F;

/// Bytes of an entry of a block map.
pub const MAP_ENTRY: u64 = 4;

/// The superblock.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's; docs/format.md says what each holds")]
pub struct Superblock {
    pub magic: U32,
    pub checksum: U32,
    pub feature_compat: U32,
    pub blkszbits: u8,
    pub extslots: u8,
    pub root_nid: U16,
    pub inos: U64,
    pub build_time: U64,
    pub build_time_nsec: U32,
    pub blocks: U32,
    pub meta_blkaddr: U32,
    pub xattr_blkaddr: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: U32,
    pub compression: U16,
    pub extra_devices: U16,
    pub devt_slotoff: U16,
    pub dirblkbits: u8,
    pub xattr_prefix_count: u8,
    pub xattr_prefix_start: U32,
    pub packed_nid: U64,
    pub xattr_filter_reserved: u8,
    pub reserved: [u8; 23],
}

/// An inode of 32 bytes: common mtime, small ids, small size.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct InodeCompact {
    pub format: U16,
    pub xattr_icount: U16,
    pub mode: U16,
    pub nlink: U16,
    pub size: U32,
    pub reserved: U32,
    pub u: U32,
    pub ino: U32,
    pub uid: U16,
    pub gid: U16,
    pub reserved2: U32,
}

/// An inode of 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct InodeExtended {
    pub format: U16,
    pub xattr_icount: U16,
    pub mode: U16,
    pub reserved: U16,
    pub size: U64,
    pub u: U32,
    pub ino: U32,
    pub uid: U32,
    pub gid: U32,
    pub mtime: U64,
    pub mtime_nsec: U32,
    pub nlink: U32,
    pub reserved2: [u8; 16],
}

/// The head of the xattr body of an inode; the ids of shared attributes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct XattrHeader {
    pub name_filter: U32,
    pub shared_count: u8,
    pub reserved: [u8; 7],
}

/// The head of an attribute; the name behind its prefix follows, then the value.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct XattrEntry {
    pub name_len: u8,
    pub name_index: u8,
    pub value_size: U16,
}

/// An entry at the front of a directory block; the names lie behind all entries.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct ErofsDirent {
    pub nid: U64,
    pub nameoff: U16,
    pub file_type: u8,
    pub reserved: u8,
}

/// Bytes of a [`ErofsDirent`].
pub const DIRENT_LEN: usize = size_of::<ErofsDirent>();

const _: () = {
    assert!(size_of::<Superblock>() == 128 && SUPERBLOCK_OFFSET as u64 + 128 == INODE_AREA);
    assert!(size_of::<InodeCompact>() == 32 && size_of::<InodeExtended>() == 64);
    assert!(size_of::<XattrHeader>() == 12 && size_of::<XattrEntry>() == 4 && DIRENT_LEN == 12);
};

impl Superblock {
    /// Returns the checksum that block 0 should have; `behind` is what follows the superblock in it.
    #[must_use]
    pub fn checksum_with(mut self, behind: &[u8]) -> u32 {
        self.checksum = U32::ZERO;
        // The crate's function inverts at the end, the kernel does not.
        !crc32c::crc32c_append(crc32c::crc32c(self.as_bytes()), behind)
    }
}

/// Returns a device number as an inode holds it (the kernel's `new_encode_dev`).
#[must_use]
pub const fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Returns major and minor number of a device as an inode holds it.
#[must_use]
pub const fn decode_device(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_number_of_linux_survives_the_encoding() {
        for (major, minor) in [(0, 0), (1, 3), (4095, 0), (0, 1_048_575), (4095, 1_048_575), (8, 256), (259, 65_536)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
        assert_eq!(encode_device(8, 1), 0x801);
        assert_eq!(encode_device(0xabc, 0x12345), 0x123a_bc45);
    }
}
