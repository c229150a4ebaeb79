//! Decides whether a kernel may see an image.
//!
//! A mounted image cannot be taken back, and the kernel's EROFS code runs with all rights. So the whole
//! metadata is walked before a mount. An image is refused if anything in it differs from the format
//! (`docs/format.md`, section 6.7), even if a kernel would accept it.
//!
//! ```text
//!   superblock → walk (names, order, links) → check (one inode) → whole-image sums
//!                                              ↳ taken bytes, devices
//! ```
//!
//! Time is linear in the length of the metadata, because no two inodes may share bytes of it. Memory is two bits per 32
//! bytes of metadata: one for taken bytes, one for starts of inodes. To this come 16 bytes per hard-linked file with
//! names still missing, one path, and 1 MiB of cache.

mod bitmap;
mod cache;
mod check;
mod devices;
mod walk;

use crate::error::{ErofsError, SuperblockFault};
use crate::limits::{MAX_BLOCKS, MAX_EROFS_BLOCKS, MAX_INODES};
use crate::ondisk::{self, BLOCK, Superblock};
use crate::read::{ErofsImage, MetaRead, ReadResult};
use crate::write::ImageKind;
use cache::Cached;
use walk::ValidationWalk;

/// The bounds of an image.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Blocks of the whole meta, maps included: data begins behind it.
    pub meta_blocks: u32,
    /// Blocks of each device, in the order of the flat image.
    pub devices: &'a [u32],
    /// Whether marks of overlayfs are allowed.
    pub kind: ImageKind,
}

/// The contents of an image, as counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValidationSummary {
    /// All inodes.
    pub inodes: u64,
    /// Of them, directories.
    pub directories: u64,
    /// Of them, regular files.
    pub files: u64,
    /// Of them, symbolic links.
    pub symlinks: u64,
    /// Of them, device nodes, FIFOs and sockets (and whiteouts).
    pub specials: u64,
    /// Names, `.` and `..` left out.
    pub names: u64,
    /// Sum of the sizes of regular files, holes included.
    pub bytes: u64,
}

/// Checks the whole of an image. See the module for its cost.
///
/// # Errors
///
/// The first violation, with the path or nid of the inode; or the error of `meta`, if bytes cannot be read.
pub fn validate<M: MetaRead>(meta: &M, bounds: Bounds<'_>) -> ReadResult<ValidationSummary, M> {
    let length = meta.len();
    let blocks = length / BLOCK;
    if !length.is_multiple_of(BLOCK) || blocks > MAX_EROFS_BLOCKS || blocks > bounds.meta_blocks.into() {
        return Err(ErofsError::Superblock { fault: SuperblockFault::Length { length } });
    }
    let image = ErofsImage::open(Cached::new(meta))?;
    if let Some(fault) = check_superblock(image.superblock(), blocks, &bounds) {
        return Err(ErofsError::Superblock { fault });
    }
    ValidationWalk::new(&image, &bounds).run()
}

/// Returns what makes a readable superblock not one of ours.
fn check_superblock(superblock: &Superblock, erofs_blocks: u64, bounds: &Bounds<'_>) -> Option<SuperblockFault> {
    let (compat, incompat) = (superblock.feature_compat.get(), superblock.feature_incompat.get());
    let ours = ondisk::COMPAT_SUPERBLOCK_CHECKSUM | ondisk::COMPAT_MTIME;
    if compat != ours || incompat != ondisk::INCOMPAT_CHUNKED_FILE {
        return Some(SuperblockFault::Features { compat, incompat });
    }
    // Destructured, so that no field can be forgotten.
    let Superblock {
        magic: _,
        checksum: _,
        feature_compat: _,
        blkszbits: _,
        extslots,
        root_nid: _,
        inos,
        build_time: _,
        build_time_nsec: _,
        blocks,
        meta_blkaddr,
        xattr_blkaddr,
        uuid: _,
        volume_name,
        feature_incompat: _,
        compression,
        extra_devices,
        devt_slotoff,
        dirblkbits,
        xattr_prefix_count,
        xattr_prefix_start,
        packed_nid,
        xattr_filter_reserved,
        reserved,
    } = *superblock;
    let unused = [extslots, dirblkbits, xattr_prefix_count, xattr_filter_reserved].iter().all(|&byte| byte == 0)
        && [compression, extra_devices, devt_slotoff].iter().all(|field| field.get() == 0)
        && meta_blkaddr.get() == 0
        && xattr_prefix_start.get() == 0
        && packed_nid.get() == 0
        && volume_name == [0; 16]
        && reserved == [0; 23];
    if !unused {
        return Some(SuperblockFault::Reserved);
    }
    let expected = bounds.devices.iter().map(|&blocks| u64::from(blocks)).sum::<u64>() + u64::from(bounds.meta_blocks);
    let found = u64::from(blocks.get());
    if found != expected || expected > MAX_BLOCKS {
        return Some(SuperblockFault::Blocks { found, expected });
    }
    if inos.get() > MAX_INODES as u64 {
        return Some(SuperblockFault::Inodes { found: inos.get(), expected: MAX_INODES as u64 });
    }
    if u64::from(xattr_blkaddr.get()) >= erofs_blocks {
        return Some(SuperblockFault::XattrArea { block: xattr_blkaddr.get() });
    }
    None
}
