//! Checks one inode with all its data, but not the names in a directory.

use std::collections::HashSet;
use std::ops::ControlFlow;

use dimsum_tree::{DeviceNumber, FileType, PathName};

use super::Bounds;
use super::bitmap::BlockBitmap;
use super::cache::Cached;
use super::devices::DeviceRanges;
use crate::error::{ErofsError, ErofsFault, SuperblockFault};
use crate::limits::{MAX_FILE_SIZE, MAX_ID, MAX_SYMLINK_TARGET, MAX_XATTR_NAME};
use crate::ondisk::{self, BLOCK, BLOCK_LEN, INODE_AREA, MAP_ENTRY, NULL_ADDRESS};
use crate::prefix::{self, OPAQUE_NAME, OPAQUE_VALUE};
use crate::read::{Data, ErofsImage, ErofsInode, FoundXattr, MetaRead, ReadResult};
use crate::write::ImageKind;

/// Checks inodes, each once, and remembers the bytes that they take of the image.
pub(super) struct ImageChecker<'a, M: MetaRead> {
    image: &'a ErofsImage<Cached<'a, M>>,
    devices: DeviceRanges,
    kind: ImageKind,
    taken: BlockBitmap,
    /// The inode that reaches furthest, and where it ends.
    last_inode: (u64, u64),
    /// Where the shared attributes end that were seen.
    shared_end: u64,
    /// Where the first block of a directory or symbolic link lies.
    stored_start: u64,
}

impl<'a, M: MetaRead> ImageChecker<'a, M> {
    pub(super) fn new(image: &'a ErofsImage<Cached<'a, M>>, bounds: &Bounds<'_>) -> Self {
        Self {
            image,
            devices: DeviceRanges::new(bounds.meta_blocks, bounds.devices),
            kind: bounds.kind,
            taken: BlockBitmap::new(image.meta().len()),
            last_inode: (0, 0),
            shared_end: 0,
            stored_start: u64::MAX,
        }
    }

    /// Checks one inode. The names of a directory are for the walk.
    pub(super) fn check(&mut self, inode: &ErofsInode) -> ReadResult<(), M> {
        let refuse = |fault| Err(ErofsError::inode(inode.nid(), fault));
        if inode.position() < INODE_AREA {
            return refuse(ErofsFault::OutOfInodeArea);
        }
        if !inode.reserved_is_zero() {
            return refuse(ErofsFault::Reserved);
        }
        let (uid, gid) = (inode.uid(), inode.gid());
        if uid > MAX_ID || gid > MAX_ID {
            return refuse(ErofsFault::Owner { uid, gid });
        }
        let size = inode.size();
        let (size_fits, layout_fits) = match inode.file_type() {
            FileType::Directory => (size > 0, matches!(inode.data(), Data::Plain { .. } | Data::Inline { .. })),
            FileType::Symlink => (
                (1..=MAX_SYMLINK_TARGET as u64).contains(&size),
                matches!(inode.data(), Data::Plain { .. } | Data::Inline { .. }),
            ),
            FileType::Regular => (size <= MAX_FILE_SIZE, matches!(inode.data(), Data::Plain { .. } | Data::Map { .. })),
            _ => (size == 0, inode.layout() == ondisk::LAYOUT_FLAT_PLAIN),
        };
        if !size_fits {
            return refuse(ErofsFault::Size { size });
        }
        if !layout_fits {
            return refuse(ErofsFault::Format { format: inode.layout() << ondisk::FORMAT_LAYOUT_SHIFT });
        }
        if self.kind == ImageKind::Image
            && inode.file_type() == FileType::CharDevice
            && inode.rdev() == (DeviceNumber { major: 0, minor: 0 })
        {
            return refuse(ErofsFault::Whiteout);
        }
        self.take_item(inode)?;
        self.check_xattrs(inode)?;
        match inode.file_type() {
            FileType::Regular => self.check_data(inode),
            FileType::Symlink if self.image.read_link(inode)?.contains(&0) => refuse(ErofsFault::Target),
            _ => Ok(()),
        }
    }

    /// Checks what can only be known when all inodes have been seen: that the areas follow one another.
    pub(super) fn finish(&self) -> ReadResult<(), M> {
        let xattr_block = self.image.superblock().xattr_blkaddr.get();
        let shared_start = u64::from(xattr_block) * BLOCK;
        let area_end = if xattr_block == 0 { self.stored_start } else { shared_start.min(self.stored_start) };
        let (nid, end) = self.last_inode;
        if end > area_end {
            return Err(ErofsError::inode(nid, ErofsFault::OutOfInodeArea));
        }
        if self.shared_end > self.stored_start {
            return Err(ErofsError::Superblock { fault: SuperblockFault::XattrArea { block: xattr_block } });
        }
        Ok(())
    }

    /// Takes the bytes of an inode with all behind it, and its blocks, from the image.
    fn take_item(&mut self, inode: &ErofsInode) -> ReadResult<(), M> {
        let refuse = |fault| Err(ErofsError::inode(inode.nid(), fault));
        let behind = match inode.data() {
            Data::Inline { .. } => inode.size() % BLOCK,
            Data::Map { bits } => self.image.block_map(inode, bits)?.0 * MAP_ENTRY,
            Data::None(_) | Data::Plain { .. } => 0,
        };
        let start = inode.position();
        // Positions are in the image, and at most 2^24 entries are behind: no overflow.
        let end = inode.behind() + behind;
        if end > self.image.meta().len() {
            return refuse(ErofsFault::OutOfImage { offset: start, length: end - start });
        }
        // The kernel wants an inline tail in the block of its inode.
        if matches!(inode.data(), Data::Inline { .. }) && start / BLOCK != (end - 1) / BLOCK {
            return refuse(ErofsFault::Format { format: inode.layout() << ondisk::FORMAT_LAYOUT_SHIFT });
        }
        if !self.taken.take(start, end) {
            return refuse(ErofsFault::Overlap);
        }
        if end > self.last_inode.1 {
            self.last_inode = (inode.nid(), end);
        }
        if matches!(inode.file_type(), FileType::Directory | FileType::Symlink) {
            self.take_blocks(inode)
        } else {
            Ok(())
        }
    }

    /// Takes the blocks of a directory or symbolic link.
    fn take_blocks(&mut self, inode: &ErofsInode) -> ReadResult<(), M> {
        let refuse = |fault| Err(ErofsError::inode(inode.nid(), fault));
        let (block, blocks) = match inode.data() {
            Data::Plain { block: Some(block) } => (block, inode.size_in_blocks()),
            Data::Inline { block } => (block, inode.size() / BLOCK),
            _ => return refuse(ErofsFault::OutOfImage { offset: 0, length: inode.size() }),
        };
        if blocks == 0 {
            return Ok(());
        }
        let start = u64::from(block) * BLOCK;
        let end = blocks.checked_mul(BLOCK).and_then(|length| length.checked_add(start));
        let Some(end) = end.filter(|&end| end <= self.image.meta().len()) else {
            return refuse(ErofsFault::OutOfImage { offset: start, length: inode.size() });
        };
        if !self.taken.take(start, end) {
            return refuse(ErofsFault::Overlap);
        }
        self.stored_start = self.stored_start.min(start);
        Ok(())
    }

    /// Checks that all data lies in devices.
    fn check_data(&self, inode: &ErofsInode) -> ReadResult<(), M> {
        if inode.size() == 0 {
            return match inode.data() {
                Data::Plain { .. } => Ok(()),
                _ => Err(ErofsError::inode(inode.nid(), ErofsFault::Size { size: 0 })),
            };
        }
        match inode.data() {
            Data::Plain { block } => self.hold(inode, block.unwrap_or(NULL_ADDRESS), inode.size_in_blocks()),
            Data::Map { bits } => self.check_map(inode, bits),
            Data::Inline { .. } | Data::None(_) => Ok(()),
        }
    }

    fn hold(&self, inode: &ErofsInode, block: u32, blocks: u64) -> ReadResult<(), M> {
        let block = u64::from(block);
        if self.devices.hold(block, blocks) {
            return Ok(());
        }
        Err(ErofsError::inode(inode.nid(), ErofsFault::OutOfDevice { block, blocks }))
    }

    fn check_map(&self, inode: &ErofsInode, bits: u32) -> ReadResult<(), M> {
        let (entries, mut position) = self.image.block_map(inode, bits)?;
        let end = position + entries * MAP_ENTRY;
        let mut left = inode.size_in_blocks();
        let mut buf = [0; BLOCK_LEN];
        while position < end {
            let piece = (end - position).min(BLOCK) as usize;
            let bytes = buf.get_mut(..piece).unwrap_or_default();
            self.image.read(inode.nid(), position, bytes)?;
            for entry in bytes.as_chunks::<4>().0 {
                let block = u32::from_le_bytes(*entry);
                let blocks = left.min(1 << bits);
                if block != NULL_ADDRESS {
                    self.hold(inode, block, blocks)?;
                }
                left -= blocks;
            }
            position += piece as u64;
        }
        Ok(())
    }

    fn check_xattrs(&mut self, inode: &ErofsInode) -> ReadResult<(), M> {
        let image = self.image;
        let (kind, shared_end) = (self.kind, &mut self.shared_end);
        let has_area = image.superblock().xattr_blkaddr.get() != 0;
        let mut names = HashSet::new();
        let refuse = |fault| Err(ErofsError::inode(inode.nid(), fault));
        image.visit_xattrs(inode, |found| {
            let name = found.name();
            if name.len() > MAX_XATTR_NAME || name.contains(&0) || prefix::split(&name).is_none() {
                return refuse(ErofsFault::Xattrs);
            }
            let opaque = match found {
                FoundXattr::Inline { value, .. } => value == OPAQUE_VALUE,
                FoundXattr::Shared { value_start, value_len, .. } => {
                    let end = value_start + u64::from(value_len);
                    if !has_area || end > image.meta().len() {
                        return refuse(ErofsFault::Xattrs);
                    }
                    *shared_end = end.max(*shared_end);
                    let mut value = [0; OPAQUE_VALUE.len()];
                    usize::from(value_len) == value.len() && {
                        image.read(inode.nid(), value_start, &mut value)?;
                        value == OPAQUE_VALUE
                    }
                }
            };
            let marks_layer = kind == ImageKind::Layer && inode.is_directory() && name == OPAQUE_NAME && opaque;
            if prefix::is_overlay(&name) && !marks_layer {
                return refuse(ErofsFault::OverlayXattr { name: PathName::from(name) });
            }
            if names.contains(&name) {
                return refuse(ErofsFault::XattrTwice { name: PathName::from(name) });
            }
            names.insert(name);
            Ok(ControlFlow::<()>::Continue(()))
        })?;
        Ok(())
    }
}
