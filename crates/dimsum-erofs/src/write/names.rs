//! The names of a directory, cut into blocks.

use std::iter::Peekable;

use dimsum_tree::{Entries, FileType, InodeId, Tree, TreeEntry};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use crate::ondisk::{BLOCK, BLOCK_LEN, DIRENT_LEN, ErofsDirent};

/// The names of a directory with `.` and `..`, sorted bytewise. These two are not always first: `-` and a space are
/// smaller than a dot.
#[derive(Debug)]
pub(super) struct Names<'t> {
    entries: Peekable<Entries<'t>>,
    dots: std::array::IntoIter<TreeEntry<'t>, 2>,
}

impl<'t> Names<'t> {
    pub(super) fn new(tree: &'t Tree, directory: InodeId, parent: InodeId) -> Self {
        let dots = [TreeEntry { name: b".", inode: directory }, TreeEntry { name: b"..", inode: parent }];
        Self { entries: tree.entries(directory).peekable(), dots: dots.into_iter() }
    }
}

impl<'t> Iterator for Names<'t> {
    type Item = TreeEntry<'t>;

    fn next(&mut self) -> Option<TreeEntry<'t>> {
        let dot = self.dots.as_slice().first();
        match (dot, self.entries.peek()) {
            (Some(dot), Some(entry)) if entry.name < dot.name => self.entries.next(),
            (Some(_), _) => self.dots.next(),
            (None, _) => self.entries.next(),
        }
    }
}

/// Returns the bytes a name takes in a block.
const fn taken(name: &[u8]) -> usize {
    DIRENT_LEN + name.len()
}

/// Returns the length of a directory in bytes.
pub(super) fn stored_len(tree: &Tree, directory: InodeId) -> u64 {
    let (mut full, mut used) = (0, 0);
    for entry in Names::new(tree, directory, directory) {
        let more = taken(entry.name);
        if used + more > BLOCK_LEN {
            full += 1;
            used = 0;
        }
        used += more;
    }
    full * BLOCK + used as u64
}

/// The blocks of a directory, one after another, each in a buffer that is used again.
#[derive(Debug)]
pub(super) struct NameBlocks<'t> {
    names: Peekable<Names<'t>>,
    entries: Vec<TreeEntry<'t>>,
    bytes: Vec<u8>,
}

impl<'t> NameBlocks<'t> {
    pub(super) fn new(tree: &'t Tree, directory: InodeId, parent: InodeId) -> Self {
        let names = Names::new(tree, directory, parent).peekable();
        Self { names, entries: Vec::new(), bytes: Vec::with_capacity(BLOCK_LEN) }
    }

    /// Returns the used bytes of the next block.
    pub(super) fn next_block(&mut self, tree: &Tree, nid: impl Fn(InodeId) -> u64) -> Option<&[u8]> {
        let Self { names, entries, bytes } = self;
        entries.clear();
        bytes.clear();
        let mut used = 0;
        while let Some(entry) = names.next_if(|entry| used + taken(entry.name) <= BLOCK_LEN) {
            used += taken(entry.name);
            entries.push(entry);
        }
        if entries.is_empty() {
            return None;
        }
        let mut offset = entries.len() * DIRENT_LEN;
        for entry in entries.iter() {
            let dirent = ErofsDirent {
                nid: U64::new(nid(entry.inode)),
                nameoff: U16::new(u16::try_from(offset).expect("a block has 4096 bytes")),
                file_type: type_number(tree.inode(entry.inode).file_type()),
                reserved: 0,
            };
            bytes.extend_from_slice(dirent.as_bytes());
            offset += entry.name.len();
        }
        for entry in entries.iter() {
            bytes.extend_from_slice(entry.name);
        }
        Some(bytes)
    }
}

/// Returns the number that a directory gives a type.
pub(crate) const fn type_number(file_type: FileType) -> u8 {
    match file_type {
        FileType::Regular => 1,
        FileType::Directory => 2,
        FileType::CharDevice => 3,
        FileType::BlockDevice => 4,
        FileType::Fifo => 5,
        FileType::Socket => 6,
        FileType::Symlink => 7,
    }
}
