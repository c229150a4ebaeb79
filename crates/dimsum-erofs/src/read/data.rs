//! Finds the data of files in the flat image.

use dimsum_tree::FileType;

use super::{Data, ErofsImage, ErofsInode, MetaRead, ReadResult};
use crate::error::{ErofsError, ErofsFault};
use crate::limits::{MAX_FILE_SIZE, MAX_MAP_ENTRIES, MAX_SYMLINK_TARGET};
use crate::ondisk::{BLOCK, BLOCK_BITS, MAP_ENTRY, NULL_ADDRESS};

/// Map entries looked at by one [`ErofsImage::map`]: one read of 512 bytes, 32 MiB of a file in slices of 256 KiB.
const MAP_WINDOW: usize = 128;

/// A piece of a file: a hole, or bytes that lie together in the flat image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataExtent {
    /// Where the byte at the offset asked for lies in the flat image, in bytes; `None` in a hole. In our images data
    /// starts on blocks, so this is a block boundary plus the offset's place in its block.
    pub flat: Option<u64>,
    /// How many bytes from the offset on are of this piece; more than 0, and never beyond the end of the file.
    pub len: u64,
}

impl DataExtent {
    /// Returns the block of the flat image in which the piece starts; `None` in a hole.
    #[must_use]
    pub fn flat_block(&self) -> Option<u64> {
        self.flat.map(|flat| flat / BLOCK)
    }
}

impl<M: MetaRead> ErofsImage<M> {
    /// Returns the piece of a regular file that starts at `offset`; `None` at the end of the file and behind it.
    ///
    /// Neighbouring map entries are joined as far as one read shows them. At most one read, none for a file without a
    /// block map.
    ///
    /// # Errors
    ///
    /// If it is not a regular file, or the map cannot be read or is not well-formed.
    pub fn map(&self, inode: &ErofsInode, offset: u64) -> ReadResult<Option<DataExtent>, M> {
        let refuse = |fault| Err(ErofsError::inode(inode.nid(), fault));
        if inode.file_type() != FileType::Regular {
            return refuse(ErofsFault::NotAFile);
        }
        if inode.size() > MAX_FILE_SIZE {
            return refuse(ErofsFault::Size { size: inode.size() });
        }
        let Some(left) = inode.size().checked_sub(offset).filter(|&left| left > 0) else { return Ok(None) };
        // Nothing below can overflow: offsets are at most 2^44 and addresses have 32 bits.
        match inode.data() {
            Data::Plain { block } => {
                Ok(Some(DataExtent { flat: block.map(|block| u64::from(block) * BLOCK + offset), len: left }))
            }
            Data::Inline { block } => {
                let tail = inode.size() / BLOCK * BLOCK;
                Ok(Some(match offset.checked_sub(tail) {
                    Some(inside) => DataExtent { flat: Some(inode.behind().saturating_add(inside)), len: left },
                    None => DataExtent { flat: Some(u64::from(block) * BLOCK + offset), len: tail - offset },
                }))
            }
            Data::Map { bits } => self.map_chunks(inode, bits, offset, left).map(Some),
            Data::None(_) => refuse(ErofsFault::NotAFile),
        }
    }

    fn map_chunks(&self, inode: &ErofsInode, bits: u32, offset: u64, left: u64) -> ReadResult<DataExtent, M> {
        let (count, start) = self.block_map(inode, bits)?;
        let shift = u32::from(BLOCK_BITS) + bits;
        let first = offset >> shift;
        let mut bytes = [0; MAP_WINDOW * MAP_ENTRY as usize];
        let window = count.saturating_sub(first).min(MAP_WINDOW as u64) * MAP_ENTRY;
        let window = usize::try_from(window).ok().and_then(|window| bytes.get_mut(..window)).unwrap_or_default();
        self.read(inode.nid(), start.saturating_add(first * MAP_ENTRY), window)?;
        let (entries, _) = window.as_chunks::<4>();
        let mut entries = entries.iter().map(|entry| u32::from_le_bytes(*entry));
        let Some(address) = entries.next() else {
            return Err(ErofsError::inode(inode.nid(), ErofsFault::Map { format: bits, entries: count }));
        };
        let mut expected = address;
        let joined = 1 + entries
            .take_while(|&next| {
                if address != NULL_ADDRESS {
                    expected = expected.checked_add(1 << bits).unwrap_or(NULL_ADDRESS);
                    if expected == NULL_ADDRESS {
                        return false;
                    }
                }
                next == expected
            })
            .count() as u64;
        let inside = offset - (first << shift);
        let flat = (address != NULL_ADDRESS).then(|| u64::from(address) * BLOCK + inside);
        Ok(DataExtent { flat, len: ((joined << shift) - inside).min(left) })
    }

    /// Returns the number of entries of a file's block map, and where it starts.
    pub(crate) fn block_map(&self, inode: &ErofsInode, bits: u32) -> ReadResult<(u64, u64), M> {
        let count = inode.size_in_blocks().div_ceil(1 << bits);
        if count > MAX_MAP_ENTRIES {
            return Err(ErofsError::inode(inode.nid(), ErofsFault::Map { format: bits, entries: count }));
        }
        Ok((count, inode.behind().next_multiple_of(MAP_ENTRY)))
    }

    /// Returns the first offset at or behind `offset` that is data (`SEEK_DATA`); `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn next_data(&self, inode: &ErofsInode, offset: u64) -> ReadResult<Option<u64>, M> {
        self.seek(inode, offset, |extent| extent.flat.is_some())
    }

    /// Returns the first offset at or behind `offset` that is a hole (`SEEK_HOLE`); the end of the file is one. `None`
    /// if `offset` is at the end or behind it.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn next_hole(&self, inode: &ErofsInode, offset: u64) -> ReadResult<Option<u64>, M> {
        if offset >= inode.size() {
            return Ok(None);
        }
        let hole = self.seek(inode, offset, |extent| extent.flat.is_none())?;
        Ok(Some(hole.unwrap_or_else(|| inode.size())))
    }

    /// Goes from piece to piece; each step passes at least one map entry, of which there are at most 2^24.
    fn seek(
        &self,
        inode: &ErofsInode,
        mut offset: u64,
        found: impl Fn(&DataExtent) -> bool,
    ) -> ReadResult<Option<u64>, M> {
        while let Some(extent) = self.map(inode, offset)? {
            if found(&extent) {
                return Ok(Some(offset));
            }
            offset = offset.saturating_add(extent.len);
        }
        Ok(None)
    }

    /// Returns where a symbolic link points to.
    ///
    /// # Errors
    ///
    /// If it is not a symbolic link, or the target cannot be read or is too long.
    pub fn read_link(&self, inode: &ErofsInode) -> ReadResult<Vec<u8>, M> {
        if inode.file_type() != FileType::Symlink {
            return Err(ErofsError::inode(inode.nid(), ErofsFault::NotASymlink));
        }
        let length = usize::try_from(inode.size()).ok().filter(|&length| (1..=MAX_SYMLINK_TARGET).contains(&length));
        let Some(length) = length else {
            return Err(ErofsError::inode(inode.nid(), ErofsFault::Size { size: inode.size() }));
        };
        let mut target = vec![0; length];
        let (start, _) = self.stored_block(inode, 0)?;
        self.read(inode.nid(), start, &mut target)?;
        Ok(target)
    }

    /// Returns where a block of a directory or symbolic link lies in the image, and how many bytes of it are used.
    pub(crate) fn stored_block(&self, inode: &ErofsInode, index: u64) -> ReadResult<(u64, usize), M> {
        let offset = index.saturating_mul(BLOCK);
        let used = inode.size().saturating_sub(offset).min(BLOCK) as usize;
        let start = match inode.data() {
            Data::Inline { .. } if (used as u64) < BLOCK => Some(inode.behind()),
            Data::Plain { block: Some(block) } | Data::Inline { block } => {
                (u64::from(block) * BLOCK).checked_add(offset)
            }
            Data::Plain { block: None } | Data::Map { .. } | Data::None(_) => None,
        };
        match start {
            Some(start) if used > 0 => Ok((start, used)),
            _ => Err(ErofsError::inode(inode.nid(), ErofsFault::OutOfImage { offset, length: used as u64 })),
        }
    }
}
