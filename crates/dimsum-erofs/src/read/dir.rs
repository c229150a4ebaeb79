//! Directories: sorted blocks of sorted names.

use std::cmp::Ordering;

use dimsum_tree::FileType;
use zerocopy::FromBytes;

use super::{ErofsImage, ErofsInode, MetaRead, ReadResult};
use crate::error::{ErofsError, ErofsFault};
use crate::limits::MAX_NAME;
use crate::ondisk::{BLOCK, BLOCK_LEN, DIRENT_LEN, ErofsDirent};

/// One name of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErofsDirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode it stands for.
    pub nid: u64,
    /// The type of that inode, as the directory announces it.
    pub file_type: Option<FileType>,
    /// Where to go on behind this name: the argument of [`ErofsImage::read_dir`]. Never 0, ascending, the same at
    /// every read.
    pub next: u64,
}

/// A dirent and its name, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawEntry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) file_type: u8,
    pub(crate) reserved: u8,
}

/// The used bytes of one block of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirBlock<'a> {
    bytes: &'a [u8],
    dirents: &'a [ErofsDirent],
}

impl<'a> DirBlock<'a> {
    /// Takes the block apart; `None` if it is not one.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (first, _) = ErofsDirent::read_from_prefix(bytes).ok()?;
        let front = usize::from(first.nameoff.get());
        if front == 0 || !front.is_multiple_of(DIRENT_LEN) {
            return None;
        }
        let dirents = <[ErofsDirent]>::ref_from_bytes(bytes.get(..front)?).ok()?;
        Some(Self { bytes, dirents })
    }

    /// Returns the number of names; never 0.
    pub(crate) fn count(&self) -> usize {
        self.dirents.len()
    }

    /// Returns one name; `None` if there are fewer or it is not inside the block.
    pub(crate) fn entry(&self, index: usize) -> Option<RawEntry<'a>> {
        let dirent = self.dirents.get(index)?;
        let start = usize::from(dirent.nameoff.get());
        let name = match self.dirents.get(index.checked_add(1)?) {
            Some(next) => self.bytes.get(start..usize::from(next.nameoff.get()))?,
            // The last name ends where the padding or the block does.
            None => self.bytes.get(start..)?.split(|&byte| byte == 0).next()?,
        };
        let inside = start >= size_of_val(self.dirents) && (1..=MAX_NAME).contains(&name.len());
        inside.then_some(RawEntry {
            name,
            nid: dirent.nid.get(),
            file_type: dirent.file_type,
            reserved: dirent.reserved,
        })
    }
}

/// Returns the type that a dirent's number stands for.
pub(crate) fn file_type(number: u8) -> Option<FileType> {
    Some(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

impl<M: MetaRead> ErofsImage<M> {
    /// Looks a name up; `None` if it is not there. Reads one block per halving of the directory's blocks: one for up to
    /// some hundred names, about eleven for 100,000.
    ///
    /// # Errors
    ///
    /// If `directory` is not one, or a block cannot be read or is not well-formed.
    pub fn lookup(&self, directory: &ErofsInode, name: &[u8]) -> ReadResult<Option<u64>, M> {
        check_directory(directory)?;
        let mut buf = [0; BLOCK_LEN];
        let (mut low, mut high) = (0, directory.size_in_blocks());
        while low < high {
            let middle = low.midpoint(high);
            let block = self.dir_block(directory, middle, &mut buf)?;
            match search(&block, name) {
                Some(FoundName::At(nid)) => return Ok(Some(nid)),
                Some(FoundName::NotHere) => return Ok(None),
                Some(FoundName::Before) => high = middle,
                Some(FoundName::Behind) => low = middle + 1,
                None => return Err(ErofsError::inode(directory.nid(), ErofsFault::DirectoryBlock { block: middle })),
            }
        }
        Ok(None)
    }

    /// Reads names from a cursor on: 0, or [`ErofsDirEntry::next`] of the last name seen. `.` and `..` are among them.
    ///
    /// # Errors
    ///
    /// If `directory` is not one. Any cursor is accepted; one that was never given out starts at some name.
    pub fn read_dir(&self, directory: &ErofsInode, cursor: u64) -> ReadResult<ReadDir<'_, M>, M> {
        check_directory(directory)?;
        Ok(ReadDir { image: self, directory: *directory, cursor, loaded: None, buf: [0; BLOCK_LEN] })
    }

    /// Reads one block of a directory.
    pub(crate) fn dir_block<'b>(
        &self,
        directory: &ErofsInode,
        index: u64,
        buf: &'b mut [u8; BLOCK_LEN],
    ) -> ReadResult<DirBlock<'b>, M> {
        let (start, used) = self.stored_block(directory, index)?;
        let bytes = buf.get_mut(..used).unwrap_or_default();
        self.read(directory.nid(), start, bytes)?;
        DirBlock::parse(bytes)
            .ok_or_else(|| ErofsError::inode(directory.nid(), ErofsFault::DirectoryBlock { block: index }))
    }

    /// Returns the block that [`dir_block`](Self::dir_block) has put into the buffer.
    pub(crate) fn loaded_dir_block<'b>(
        &self,
        directory: &ErofsInode,
        index: u64,
        buf: &'b [u8; BLOCK_LEN],
    ) -> ReadResult<DirBlock<'b>, M> {
        let (_, used) = self.stored_block(directory, index)?;
        let block = buf.get(..used).and_then(DirBlock::parse);
        block.ok_or_else(|| ErofsError::inode(directory.nid(), ErofsFault::DirectoryBlock { block: index }))
    }
}

fn check_directory<E: std::error::Error + 'static>(inode: &ErofsInode) -> std::result::Result<(), ErofsError<E>> {
    if inode.is_directory() { Ok(()) } else { Err(ErofsError::inode(inode.nid(), ErofsFault::NotADirectory)) }
}

/// Where a name is, as one block shows it.
enum FoundName {
    /// It is the name of this inode.
    At(u64),
    /// It would be in this block and is not.
    NotHere,
    /// In an earlier block.
    Before,
    /// In a later block.
    Behind,
}

/// Looks a name up in one block; `None` if the block is not well-formed where it was looked at.
fn search(block: &DirBlock<'_>, name: &[u8]) -> Option<FoundName> {
    let (mut low, mut high) = (0, block.count());
    while low < high {
        let middle = low.midpoint(high);
        let entry = block.entry(middle)?;
        match name.cmp(entry.name) {
            Ordering::Equal => return Some(FoundName::At(entry.nid)),
            Ordering::Less => high = middle,
            Ordering::Greater => low = middle + 1,
        }
    }
    Some(match low {
        0 => FoundName::Before,
        low if low == block.count() => FoundName::Behind,
        _ => FoundName::NotHere,
    })
}

/// Reads a directory name by name, see [`ErofsImage::read_dir`]. Holds one block; a failed step can be tried again.
#[derive(Debug)]
pub struct ReadDir<'i, M> {
    image: &'i ErofsImage<M>,
    directory: ErofsInode,
    cursor: u64,
    /// Which block is in the buffer, and how many of its bytes are used.
    loaded: Option<(u64, usize)>,
    buf: [u8; BLOCK_LEN],
}

impl<M: MetaRead> ReadDir<'_, M> {
    /// Returns the next name; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the block cannot be read or is not well-formed. The cursor stays.
    pub fn next_entry(&mut self) -> ReadResult<Option<ErofsDirEntry<'_>>, M> {
        loop {
            let index = self.cursor / BLOCK;
            if index >= self.directory.size_in_blocks() {
                return Ok(None);
            }
            let row = (self.cursor % BLOCK) as usize / DIRENT_LEN;
            let used = self.load(index)?;
            let behind_block = (index + 1).saturating_mul(BLOCK);
            let malformed = ErofsError::inode(self.directory.nid(), ErofsFault::DirectoryBlock { block: index });
            let count = match self.buf.get(..used).and_then(DirBlock::parse) {
                Some(block) => block.count(),
                None => return Err(malformed),
            };
            if row >= count {
                self.cursor = behind_block;
                continue;
            }
            let next = if row + 1 == count { behind_block } else { index * BLOCK + ((row + 1) * DIRENT_LEN) as u64 };
            let entry = self.buf.get(..used).and_then(DirBlock::parse).and_then(|block| block.entry(row));
            let Some(RawEntry { name, nid, file_type: number, .. }) = entry else { return Err(malformed) };
            self.cursor = next;
            return Ok(Some(ErofsDirEntry { name, nid, file_type: file_type(number), next }));
        }
    }

    /// Returns the cursor behind the last name returned.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Makes sure that a block is in the buffer.
    fn load(&mut self, index: u64) -> ReadResult<usize, M> {
        if let Some((loaded, used)) = self.loaded
            && loaded == index
        {
            return Ok(used);
        }
        self.loaded = None;
        let (start, used) = self.image.stored_block(&self.directory, index)?;
        let bytes = self.buf.get_mut(..used).unwrap_or_default();
        self.image.read(self.directory.nid(), start, bytes)?;
        self.loaded = Some((index, used));
        Ok(used)
    }
}
