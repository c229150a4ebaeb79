//! The finished tree: immutable, within the limits, numbered in path order.

use std::iter::FusedIterator;

use crate::builder::target;
use crate::record::{Inode, RecordSlot};
use crate::text::Text;
use crate::types::{ContentId, FileType, InodeId, Metadata, NodeKind, Xattr};
use crate::walk::TreeWalk;
use crate::xattrs::XattrSets;

/// A file tree. Made by a [`TreeBuilder`](crate::TreeBuilder), so it cannot exist beyond the [`limits`](crate::limits).
///
/// Inode ids are given in the order of each inode's first path, where paths are ordered bytewise component by
/// component; the root is [`InodeId::ROOT`].
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// Grouped by directory, sorted by name; each directory knows its range.
    slots: Vec<RecordSlot>,
    text: Text,
    xattrs: XattrSets,
}

/// One name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeEntry<'t> {
    /// The name.
    pub name: &'t [u8],
    /// The inode that it stands for.
    pub inode: InodeId,
}

impl Tree {
    /// Takes what [`freeze`](crate::freeze) has made.
    pub(crate) fn from_parts(inodes: Vec<Inode>, slots: Vec<RecordSlot>, text: Text, xattrs: XattrSets) -> Self {
        Self { inodes, slots, text, xattrs }
    }

    /// Gives the memory to a builder.
    pub(crate) fn into_parts(self) -> (Vec<Inode>, Vec<RecordSlot>, Text, XattrSets) {
        let Self { inodes, slots, text, xattrs } = self;
        (inodes, slots, text, xattrs)
    }

    /// Returns the number of inodes, the root included; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a tree has a root and is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Returns the number of names, the root having none.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns all ids in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = InodeId> + DoubleEndedIterator + use<> {
        (0..self.inodes.len()).map(InodeId::from_index)
    }

    /// Returns one inode.
    ///
    /// # Panics
    ///
    /// If the id is of another, larger tree.
    #[must_use]
    pub fn inode(&self, id: InodeId) -> Inode {
        *self.inodes.get(id.index()).expect("the id is of this tree")
    }

    /// Returns a directory's names in bytewise order, without `.` and `..`; nothing for other types.
    #[must_use]
    pub fn entries(&self, directory: InodeId) -> Entries<'_> {
        Entries { text: &self.text, slots: self.slots_of(directory).iter() }
    }

    /// Returns what a name in a directory stands for.
    #[must_use]
    pub fn lookup(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        let slots = self.slots_of(directory);
        let row = slots.binary_search_by(|slot| slot_name(&self.text, slot).cmp(name)).ok()?;
        slots.get(row).map(|slot| InodeId(slot.inode))
    }

    /// Returns what a path stands for. Symbolic links are not followed; empty components and `.` are skipped.
    #[must_use]
    pub fn lookup_path(&self, path: &[u8]) -> Option<InodeId> {
        path.split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty() && *component != b".")
            .try_fold(InodeId::ROOT, |directory, component| self.lookup(directory, component))
    }

    /// Returns a symbolic link's target, nothing for other types.
    #[must_use]
    pub fn symlink_target(&self, id: InodeId) -> &[u8] {
        target(&self.text, &self.inode(id))
    }

    /// Returns an inode's extended attributes, sorted by name.
    #[must_use]
    pub fn xattrs(&self, id: InodeId) -> &[Xattr] {
        self.xattrs.get(self.inode(id).xattrs)
    }

    /// Returns what an inode is, as a builder takes it.
    #[must_use]
    pub fn kind(&self, id: InodeId) -> NodeKind<'_> {
        let inode = self.inode(id);
        match inode.file_type() {
            FileType::Regular => NodeKind::Regular { size: inode.size(), content: ContentId::new(inode.reference) },
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink { target: self.symlink_target(id) },
            FileType::CharDevice if inode.is_whiteout() => NodeKind::Whiteout,
            FileType::CharDevice => NodeKind::CharDevice(inode.rdev()),
            FileType::BlockDevice => NodeKind::BlockDevice(inode.rdev()),
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
        }
    }

    /// Returns mode, owner, time and xattrs of an inode.
    #[must_use]
    pub fn metadata(&self, id: InodeId) -> Metadata<'_> {
        let inode = self.inode(id);
        Metadata {
            permissions: inode.permissions(),
            uid: inode.uid(),
            gid: inode.gid(),
            mtime: inode.mtime(),
            xattrs: self.xattrs(id),
        }
    }

    /// Visits every name in path order: a directory before its names, names bytewise.
    #[must_use]
    pub fn walk(&self) -> TreeWalk<'_> {
        TreeWalk::new(self)
    }

    /// Returns the bytes of memory the tree holds, xattrs left out.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of_val(self.inodes.as_slice()) + size_of_val(self.slots.as_slice()) + self.text.len()
    }

    fn slots_of(&self, directory: InodeId) -> &[RecordSlot] {
        let inode = self.inode(directory);
        if !inode.is_directory() {
            return &[];
        }
        let first = inode.reference as usize;
        self.slots.get(first..first + inode.data as usize).expect("a directory's range lies in the slots")
    }
}

fn slot_name<'t>(text: &'t Text, slot: &RecordSlot) -> &'t [u8] {
    text.get(slot.name, usize::from(slot.name_length))
}

/// A directory's names, see [`Tree::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'t> {
    text: &'t Text,
    slots: std::slice::Iter<'t, RecordSlot>,
}

impl<'t> Iterator for Entries<'t> {
    type Item = TreeEntry<'t>;

    fn next(&mut self) -> Option<TreeEntry<'t>> {
        let slot = self.slots.next()?;
        Some(TreeEntry { name: slot_name(self.text, slot), inode: InodeId(slot.inode) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl ExactSizeIterator for Entries<'_> {}
impl FusedIterator for Entries<'_> {}
