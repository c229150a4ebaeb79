//! An opened image: the superblock, and reads that are checked against the image's length.

use zerocopy::FromBytes;

use super::{ErofsInode, MetaRead, ReadResult};
use crate::error::{ErofsError, ErofsFault, SuperblockFault};
use crate::limits::NANOSECONDS;
use crate::ondisk::{self, BLOCK, BLOCK_LEN, SLOT, SUPERBLOCK_OFFSET, Superblock};

/// An image that can be read.
#[derive(Debug, Clone)]
pub struct ErofsImage<M> {
    meta: M,
    superblock: Superblock,
}

impl<M: MetaRead> ErofsImage<M> {
    /// Opens an image: one read of 4 KiB.
    ///
    /// # Errors
    ///
    /// If it has no superblock, one of features we do not know, or a wrong checksum.
    pub fn open(meta: M) -> ReadResult<Self, M> {
        let refuse = |fault| Err(ErofsError::Superblock { fault });
        let length = meta.len();
        if length < BLOCK {
            return refuse(SuperblockFault::TooShort { length });
        }
        let mut block = [0; BLOCK_LEN];
        meta.read_at(0, &mut block).map_err(|source| ErofsError::Read { offset: 0, length: BLOCK_LEN, source })?;
        let Some((superblock, behind)) =
            block.get(SUPERBLOCK_OFFSET..).and_then(|bytes| Superblock::read_from_prefix(bytes).ok())
        else {
            return refuse(SuperblockFault::TooShort { length });
        };
        match check(&superblock, behind) {
            Some(fault) => refuse(fault),
            None => Ok(Self { meta, superblock }),
        }
    }

    /// Returns the superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Returns the source of the bytes.
    pub fn meta(&self) -> &M {
        &self.meta
    }

    /// Returns the blocks of the whole flat image, data included.
    pub fn flat_blocks(&self) -> u64 {
        u64::from(self.superblock.blocks.get())
    }

    /// Returns the number of inodes the superblock announces.
    pub fn inode_count(&self) -> u64 {
        self.superblock.inos.get()
    }

    /// Returns the nid of the root directory.
    pub fn root_nid(&self) -> u64 {
        u64::from(self.superblock.root_nid.get())
    }

    /// Returns the root directory.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not a directory.
    pub fn root(&self) -> ReadResult<ErofsInode, M> {
        let root = self.inode(self.root_nid())?;
        if root.is_directory() { Ok(root) } else { Err(ErofsError::inode(root.nid(), ErofsFault::NotADirectory)) }
    }

    /// Reads an inode: one read of 64 bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not well-formed. An arbitrary nid may give an inode that no name leads to.
    pub fn inode(&self, nid: u64) -> ReadResult<ErofsInode, M> {
        let position = self.position(nid)?;
        let mut bytes = [0; 64];
        // A compact inode may be the last thing in an image.
        let readable = self.meta.len().saturating_sub(position).min(64);
        let buf = usize::try_from(readable).ok().and_then(|readable| bytes.get_mut(..readable)).unwrap_or_default();
        self.read(nid, position, buf)?;
        let len = buf.len();
        let bytes = bytes.get(..len).unwrap_or_default();
        ErofsInode::parse(nid, position, bytes, &self.superblock).map_err(|fault| ErofsError::inode(nid, fault))
    }

    /// Returns the byte position of an inode.
    fn position(&self, nid: u64) -> ReadResult<u64, M> {
        let start = u64::from(self.superblock.meta_blkaddr.get()) * BLOCK;
        nid.checked_mul(SLOT)
            .and_then(|offset| offset.checked_add(start))
            .filter(|position| position.checked_add(SLOT).is_some_and(|end| end <= self.meta.len()))
            .ok_or_else(|| {
                ErofsError::inode(nid, ErofsFault::OutOfImage { offset: nid.saturating_mul(SLOT), length: SLOT })
            })
    }

    /// Reads bytes of the image on behalf of an inode.
    pub(crate) fn read(&self, nid: u64, offset: u64, buf: &mut [u8]) -> ReadResult<(), M> {
        let length = buf.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.meta.len()) {
            return Err(ErofsError::inode(nid, ErofsFault::OutOfImage { offset, length }));
        }
        if buf.is_empty() {
            return Ok(());
        }
        self.meta.read_at(offset, buf).map_err(|source| ErofsError::Read { offset, length: buf.len(), source })
    }
}

/// Returns what makes an image unreadable. A choice that is valid but not ours (see the validator) is accepted.
fn check(superblock: &Superblock, behind: &[u8]) -> Option<SuperblockFault> {
    let found = superblock.magic.get();
    if found != ondisk::MAGIC {
        return Some(SuperblockFault::Magic { found });
    }
    let (compat, incompat) = (superblock.feature_compat.get(), superblock.feature_incompat.get());
    if incompat & !ondisk::INCOMPAT_CHUNKED_FILE != 0 {
        return Some(SuperblockFault::Features { compat, incompat });
    }
    if superblock.blkszbits != ondisk::BLOCK_BITS || superblock.dirblkbits != 0 {
        return Some(SuperblockFault::BlockSize { bits: superblock.blkszbits });
    }
    let nanoseconds = superblock.build_time_nsec.get();
    if nanoseconds >= NANOSECONDS {
        return Some(SuperblockFault::Time { nanoseconds });
    }
    if compat & ondisk::COMPAT_SUPERBLOCK_CHECKSUM != 0 {
        let (found, computed) = (superblock.checksum.get(), superblock.checksum_with(behind));
        if found != computed {
            return Some(SuperblockFault::Checksum { found, computed });
        }
    }
    None
}
