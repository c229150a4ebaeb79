//! Form and length of one inode and its inline data.

use dimsum_tree::{FileType, Inode, InodeId, Timestamp, Tree};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::names;
use super::runs::FileData;
use super::xattrs::XattrBody;
use crate::limits::MAX_INLINE_ITEM;
use crate::ondisk::{self, BLOCK, InodeCompact, InodeExtended, MAP_ENTRY};

/// An inode, ready to be placed.
#[derive(Debug)]
pub(super) struct InodeShape<'t> {
    inode: Inode,
    size: u64,
    pub(super) extended: bool,
    pub(super) xattrs: XattrBody<'t>,
    pub(super) bytes: InodeBytes,
}

/// Where the bytes of an inode are to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InodeBytes {
    /// There are none.
    None,
    /// In a device.
    File(FileData),
    /// In the image: a directory or symbolic link.
    Stored {
        /// Blocks of its own.
        blocks: u64,
        /// Bytes behind the inode; if 0 the last block is padded.
        tail: u64,
    },
}

impl<'t> InodeShape<'t> {
    /// Finds the shape of an inode; `data` is where the bytes of a regular file are, `None` if it is empty.
    pub(super) fn new(
        tree: &Tree,
        id: InodeId,
        common: Timestamp,
        xattrs: XattrBody<'t>,
        data: Option<FileData>,
    ) -> Self {
        let inode = tree.inode(id);
        let size = if inode.is_directory() { names::stored_len(tree, id) } else { inode.size() };
        let extended = !(inode.mtime() == common
            && inode.uid() <= u16::MAX.into()
            && inode.gid() <= u16::MAX.into()
            && inode.nlink() <= u16::MAX.into()
            && size <= u32::MAX.into());
        let mut shape = Self { inode, size, extended, xattrs, bytes: InodeBytes::None };
        shape.bytes = match (inode.file_type(), data) {
            (FileType::Directory | FileType::Symlink, _) => {
                let tail = size % BLOCK;
                if tail > 0 && shape.head_len() + tail <= MAX_INLINE_ITEM {
                    InodeBytes::Stored { blocks: size / BLOCK, tail }
                } else {
                    InodeBytes::Stored { blocks: size.div_ceil(BLOCK), tail: 0 }
                }
            }
            (FileType::Regular, Some(data)) => InodeBytes::File(data),
            _ => InodeBytes::None,
        };
        shape
    }

    /// Returns the bytes that must not cross a block boundary if they can help it: all but the block map.
    pub(super) fn head_len(&self) -> u64 {
        let inode = if self.extended { size_of::<InodeExtended>() } else { size_of::<InodeCompact>() };
        let tail = match self.bytes {
            InodeBytes::Stored { tail, .. } => tail,
            _ => 0,
        };
        (inode + self.xattrs.len()) as u64 + tail
    }

    /// Returns the bytes of the block map.
    pub(super) fn map_len(&self) -> u64 {
        match self.bytes {
            InodeBytes::File(FileData::Map { entries, .. }) => entries * MAP_ENTRY,
            _ => 0,
        }
    }

    /// Returns the blocks of its own it takes behind the inode area.
    pub(super) fn stored_blocks(&self) -> u64 {
        match self.bytes {
            InodeBytes::Stored { blocks, .. } => blocks,
            _ => 0,
        }
    }

    /// Appends the inode itself. `start` is the first of its blocks, if its bytes are in one run of them.
    pub(super) fn write_inode(&self, number: u32, start: u32, bytes: &mut Vec<u8>) {
        let inode = &self.inode;
        let layout = match self.bytes {
            InodeBytes::File(FileData::Map { .. }) => ondisk::LAYOUT_CHUNK_BASED,
            InodeBytes::Stored { tail: 1.., .. } => ondisk::LAYOUT_FLAT_INLINE,
            _ => ondisk::LAYOUT_FLAT_PLAIN,
        };
        let u = match self.bytes {
            InodeBytes::File(FileData::Map { bits, .. }) => bits,
            InodeBytes::File(FileData::Plain { .. }) | InodeBytes::Stored { blocks: 1.., .. } => start,
            InodeBytes::Stored { blocks: 0, .. } => 0,
            InodeBytes::None => ondisk::encode_device(inode.rdev().major, inode.rdev().minor),
        };
        let format = U16::new(layout << ondisk::FORMAT_LAYOUT_SHIFT | u16::from(self.extended));
        let xattr_icount = U16::new(self.xattrs.count());
        let mode = U16::new(inode.file_type().mode_bits() | inode.permissions());
        if self.extended {
            let extended = InodeExtended {
                format,
                xattr_icount,
                mode,
                reserved: U16::ZERO,
                size: U64::new(self.size),
                u: U32::new(u),
                ino: U32::new(number),
                uid: U32::new(inode.uid()),
                gid: U32::new(inode.gid()),
                mtime: U64::new(inode.mtime().seconds.cast_unsigned()),
                mtime_nsec: U32::new(inode.mtime().nanoseconds),
                nlink: U32::new(inode.nlink()),
                reserved2: [0; 16],
            };
            bytes.extend_from_slice(extended.as_bytes());
            return;
        }
        let narrow = |value: u32| U16::new(u16::try_from(value).expect("a compact inode has small numbers"));
        let compact = InodeCompact {
            format,
            xattr_icount,
            mode,
            nlink: narrow(inode.nlink()),
            size: U32::new(u32::try_from(self.size).expect("a compact inode is small")),
            reserved: U32::ZERO,
            u: U32::new(u),
            ino: U32::new(number),
            uid: narrow(inode.uid()),
            gid: narrow(inode.gid()),
            reserved2: U32::ZERO,
        };
        bytes.extend_from_slice(compact.as_bytes());
    }
}

/// Finds the mtime that compact inodes have: a majority vote in one pass, without memory.
pub(super) fn common_mtime(tree: &Tree) -> Timestamp {
    let mut candidate = Timestamp::default();
    let mut lead = 0u64;
    for id in tree.ids() {
        let mtime = tree.inode(id).mtime();
        if lead == 0 {
            candidate = mtime;
            lead = 1;
        } else if mtime == candidate {
            lead += 1;
        } else {
            lead -= 1;
        }
    }
    candidate
}
