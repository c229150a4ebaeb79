//! A tree as lines of text, to compare and to read: equal trees have equal dumps whatever their memory looks like.

use std::fmt;

use crate::record::Inode;
use crate::tree::Tree;
use crate::types::{FileType, InodeId, Xattr};
use crate::walk::TreeWalk;

/// One path with all its attributes. `Display` prints it without the content handle, which differs between runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpEntry<'t> {
    /// The path from the root; empty for the root.
    pub path: Vec<u8>,
    /// The inode, equal for hard links.
    pub id: InodeId,
    /// Its attributes.
    pub inode: Inode,
    /// A symbolic link's target.
    pub target: &'t [u8],
    /// The extended attributes.
    pub xattrs: &'t [Xattr],
}

impl fmt::Display for DumpEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inode = &self.inode;
        let mode = u32::from(inode.file_type().mode_bits() | inode.permissions());
        let mtime = inode.mtime();
        write!(
            f,
            "/{} #{} {mode:06o} {}:{} links={} mtime={}+{}",
            self.path.escape_ascii(),
            self.id.index(),
            inode.uid(),
            inode.gid(),
            inode.nlink(),
            mtime.seconds,
            mtime.nanoseconds
        )?;
        match inode.file_type() {
            FileType::Regular => write!(f, " size={}", inode.size())?,
            FileType::Symlink => write!(f, " -> {}", self.target.escape_ascii())?,
            FileType::CharDevice if inode.is_whiteout() => f.write_str(" whiteout")?,
            FileType::CharDevice | FileType::BlockDevice => {
                write!(f, " rdev={}:{}", inode.rdev().major, inode.rdev().minor)?;
            }
            FileType::Directory if inode.is_opaque() => f.write_str(" opaque")?,
            FileType::Directory | FileType::Fifo | FileType::Socket => {}
        }
        self.xattrs.iter().try_for_each(|xattr| write!(f, " {xattr:?}"))
    }
}

/// An iterator over the root and every name in path order, see [`Tree::dump`].
#[derive(Clone, Debug)]
pub struct Dump<'t> {
    tree: &'t Tree,
    walk: TreeWalk<'t>,
    path: Vec<u8>,
    /// Lengths of `path` at each depth.
    lengths: Vec<usize>,
    root_done: bool,
}

impl Tree {
    /// Visits the root and then every name in path order, with its whole path and attributes.
    #[must_use]
    pub fn dump(&self) -> Dump<'_> {
        Dump { tree: self, walk: self.walk(), path: Vec::new(), lengths: Vec::new(), root_done: false }
    }
}

impl<'t> Iterator for Dump<'t> {
    type Item = DumpEntry<'t>;

    fn next(&mut self) -> Option<DumpEntry<'t>> {
        let tree = self.tree;
        let id = if self.root_done {
            let entry = self.walk.next()?;
            self.lengths.truncate(entry.depth - 1);
            self.path.truncate(self.lengths.last().copied().unwrap_or(0));
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(entry.name);
            self.lengths.push(self.path.len());
            entry.inode
        } else {
            self.root_done = true;
            InodeId::ROOT
        };
        let inode = tree.inode(id);
        Some(DumpEntry { path: self.path.clone(), id, inode, target: tree.symlink_target(id), xattrs: tree.xattrs(id) })
    }
}
