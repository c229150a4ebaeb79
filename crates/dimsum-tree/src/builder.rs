//! A tree under construction: entries in any order, names replaced and removed, hard links.
//!
//! Names are found by one hash table over (directory, name). Removing a name takes it out of the table. Its
//! inode stays in the arena until [`TreeBuilder::finish`], which numbers the inodes that the root reaches and
//! drops the rest.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::error::{EntryFault, TreeError};
use crate::freeze::Sorted;
use crate::limits::{
    MAX_DEVICE_MAJOR, MAX_DEVICE_MINOR, MAX_ENTRIES, MAX_FILE_SIZE, MAX_ID, MAX_INODES, MAX_NAME, MAX_SYMLINK_TARGET,
};
use crate::record::{Inode, RecordSlot};
use crate::text::Text;
use crate::tree::Tree;
use crate::types::{DeviceNumber, FileType, Metadata, NodeKind, Xattr};
use crate::xattrs::XattrInterner;

/// Names an inode of a [`TreeBuilder`]; of no meaning to the finished tree, which numbers anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct NodeId(pub(crate) u32);

/// In a slot's `inode`: the name has been removed.
pub(crate) const REMOVED: u32 = u32::MAX;

/// Builds a [`Tree`].
#[derive(Debug)]
pub struct TreeBuilder {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) slots: Vec<RecordSlot>,
    pub(crate) text: Text,
    pub(crate) xattrs: XattrInterner,
    /// Rows of `slots`, by directory and name.
    index: HashTable<u32>,
    hasher: RandomState,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeBuilder {
    /// The root directory.
    pub const ROOT: NodeId = NodeId(0);

    /// Starts with an empty root directory: mode 0755, owner 0:0, 1970.
    #[must_use]
    pub fn new() -> Self {
        let root = record(NodeKind::Directory, &Metadata::IMPLICIT_DIRECTORY, 0);
        Self {
            inodes: vec![root],
            slots: Vec::new(),
            text: Text::default(),
            xattrs: XattrInterner::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// Goes on from a finished tree, in its memory; its inode ids stay valid as node ids.
    #[must_use]
    pub fn from_tree(tree: Tree) -> Self {
        let (inodes, slots, text, xattrs) = tree.into_parts();
        let hasher = RandomState::new();
        let mut index = HashTable::with_capacity(slots.len());
        for (row, slot) in (0u32..).zip(&slots) {
            index
                .insert_unique(slot_hash(&hasher, &text, slot), row, |&row| slot_hash(&hasher, &text, at(&slots, row)));
        }
        Self { inodes, slots, text, xattrs: XattrInterner::from_sets(xattrs), index, hasher }
    }

    /// Adds a new inode under a name that is free.
    ///
    /// # Errors
    ///
    /// The fault of the entry. The builder is unchanged then, but for text that it may hold in vain.
    pub fn insert(
        &mut self,
        parent: NodeId,
        name: &[u8],
        kind: NodeKind<'_>,
        metadata: &Metadata<'_>,
    ) -> Result<NodeId, EntryFault> {
        self.check_free(parent, name)?;
        let node = self.add_inode(kind, metadata)?;
        self.add_name(parent, name, node)?;
        Ok(node)
    }

    /// Gives an inode that is no directory one more name, which must be free.
    ///
    /// # Errors
    ///
    /// The fault of the entry.
    pub fn link(&mut self, parent: NodeId, name: &[u8], node: NodeId) -> Result<(), EntryFault> {
        if self.inode(node).is_directory() {
            return Err(EntryFault::LinkToDirectory);
        }
        self.check_free(parent, name)?;
        self.add_name(parent, name, node)
    }

    /// Removes a name and all names below it; returns the inode that it stood for. Other names of a file stay.
    pub fn remove(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hasher.hash_one((parent.0, name));
        let Self { slots, text, index, .. } = self;
        let found = index.find_entry(hash, |&row| is_slot(text, at(slots, row), parent, name)).ok()?;
        let (row, _) = found.remove();
        let slot = slots.get_mut(row as usize).expect("rows come from the index");
        Some(NodeId(std::mem::replace(&mut slot.inode, REMOVED)))
    }

    /// Returns what a name stands for.
    #[must_use]
    pub fn lookup(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = self.hasher.hash_one((parent.0, name));
        let row = self.index.find(hash, |&row| is_slot(&self.text, at(&self.slots, row), parent, name))?;
        Some(NodeId(at(&self.slots, *row).inode))
    }

    /// Returns an inode as it stands; `nlink` is counted only when the tree is finished.
    #[must_use]
    pub fn inode(&self, node: NodeId) -> Inode {
        *self.inodes.get(node.0 as usize).expect("nodes come from this builder")
    }

    /// Returns a symbolic link's target, nothing for other types.
    #[must_use]
    pub fn symlink_target(&self, node: NodeId) -> &[u8] {
        target(&self.text, &self.inode(node))
    }

    /// Returns an inode's extended attributes, sorted by name.
    #[must_use]
    pub fn xattrs(&self, node: NodeId) -> &[Xattr] {
        self.xattrs.get(self.inode(node).xattrs)
    }

    /// Replaces mode, owner, time and xattrs.
    ///
    /// # Errors
    ///
    /// Their fault.
    pub fn set_metadata(&mut self, node: NodeId, metadata: &Metadata<'_>) -> Result<(), EntryFault> {
        check_metadata(metadata)?;
        let xattrs = self.xattrs.intern(metadata.xattrs)?;
        let inode = self.inode_mut(node);
        inode.permissions = metadata.permissions;
        inode.uid = metadata.uid;
        inode.gid = metadata.gid;
        inode.mtime_seconds = metadata.mtime.seconds;
        inode.mtime_nanoseconds = metadata.mtime.nanoseconds;
        inode.xattrs = xattrs;
        Ok(())
    }

    /// Says whether a directory hides that of the layers below.
    pub fn set_opaque(&mut self, directory: NodeId, opaque: bool) {
        let inode = self.inode_mut(directory);
        if inode.is_directory() {
            inode.hides = opaque;
        }
    }

    /// Numbers the tree in path order and checks what can only be checked whole.
    ///
    /// # Errors
    ///
    /// A path that is too long or too deep.
    pub fn finish(self) -> Result<Tree, TreeError> {
        self.sort().finish()
    }

    /// Puts the names in order, for a last look before they are numbered.
    pub(crate) fn sort(self) -> Sorted {
        let Self { inodes, slots, text, xattrs, index, hasher: _ } = self;
        // The table must be gone before the sort: both together would be the peak of a conversion.
        drop(index);
        Sorted::new(inodes, slots, text, xattrs)
    }

    /// Adds an inode without a name yet.
    pub(crate) fn add_inode(&mut self, kind: NodeKind<'_>, metadata: &Metadata<'_>) -> Result<NodeId, EntryFault> {
        check_kind(kind)?;
        check_metadata(metadata)?;
        if self.inodes.len() >= MAX_INODES {
            return Err(EntryFault::TreeTooLarge { what: "inodes", limit: MAX_INODES });
        }
        let xattrs = match kind {
            NodeKind::Whiteout => 0,
            _ => self.xattrs.intern(metadata.xattrs)?,
        };
        let mut inode = record(kind, metadata, xattrs);
        if let NodeKind::Symlink { target } = kind {
            inode.reference = self.text.push(target)?;
        }
        let node = NodeId(u32::try_from(self.inodes.len()).expect("MAX_INODES fits 32 bits"));
        self.inodes.push(inode);
        Ok(node)
    }

    /// Adds a name that has been checked.
    fn add_name(&mut self, parent: NodeId, name: &[u8], node: NodeId) -> Result<(), EntryFault> {
        if self.slots.len() >= MAX_ENTRIES {
            return Err(EntryFault::TreeTooLarge { what: "names", limit: MAX_ENTRIES });
        }
        let row = u32::try_from(self.slots.len()).expect("MAX_ENTRIES fits 32 bits");
        let name_length = u8::try_from(name.len()).map_err(|_| EntryFault::NameTooLong { length: name.len() })?;
        let start = self.text.push(name)?;
        self.slots.push(RecordSlot { parent: parent.0, inode: node.0, name: start, name_length });
        let Self { slots, text, index, hasher, .. } = self;
        index.insert_unique(hasher.hash_one((parent.0, name)), row, |&row| slot_hash(hasher, text, at(slots, row)));
        Ok(())
    }

    /// Returns an error unless `name` can be added to `parent`.
    fn check_free(&self, parent: NodeId, name: &[u8]) -> Result<(), EntryFault> {
        check_name(name)?;
        if !self.inode(parent).is_directory() {
            return Err(EntryFault::NotADirectory);
        }
        if self.lookup(parent, name).is_some() { Err(EntryFault::Exists) } else { Ok(()) }
    }

    fn inode_mut(&mut self, node: NodeId) -> &mut Inode {
        self.inodes.get_mut(node.0 as usize).expect("nodes come from this builder")
    }
}

/// Returns the target of a symbolic link.
pub(crate) fn target<'t>(text: &'t Text, inode: &Inode) -> &'t [u8] {
    match inode.file_type {
        FileType::Symlink => text.get(inode.reference, inode.data as usize),
        _ => &[],
    }
}

/// Returns an error unless `name` can stand in a directory.
pub(crate) fn check_name(name: &[u8]) -> Result<(), EntryFault> {
    match name {
        b"" | b"." | b".." => Err(EntryFault::InvalidName),
        _ if name.len() > MAX_NAME => Err(EntryFault::NameTooLong { length: name.len() }),
        _ if name.iter().any(|&byte| byte == b'/' || byte == 0) => Err(EntryFault::InvalidName),
        _ => Ok(()),
    }
}

fn check_kind(kind: NodeKind<'_>) -> Result<(), EntryFault> {
    match kind {
        NodeKind::Regular { size, .. } if size > MAX_FILE_SIZE => Err(EntryFault::FileTooLarge { size }),
        NodeKind::Symlink { target }
            if target.is_empty() || target.len() > MAX_SYMLINK_TARGET || target.contains(&0) =>
        {
            Err(EntryFault::SymlinkTarget { length: target.len() })
        }
        NodeKind::CharDevice(DeviceNumber { major: 0, minor: 0 }) => Err(EntryFault::DeviceZero),
        NodeKind::CharDevice(DeviceNumber { major, minor }) | NodeKind::BlockDevice(DeviceNumber { major, minor })
            if major > MAX_DEVICE_MAJOR || minor > MAX_DEVICE_MINOR =>
        {
            Err(EntryFault::DeviceNumber { major, minor })
        }
        _ => Ok(()),
    }
}

fn check_metadata(metadata: &Metadata<'_>) -> Result<(), EntryFault> {
    if metadata.uid > MAX_ID || metadata.gid > MAX_ID {
        return Err(EntryFault::Id);
    }
    if metadata.permissions > 0o7777 {
        return Err(EntryFault::Permissions { mode: metadata.permissions });
    }
    if metadata.mtime.nanoseconds >= 1_000_000_000 {
        return Err(EntryFault::Time { nanoseconds: metadata.mtime.nanoseconds });
    }
    Ok(())
}

/// Packs checked attributes.
fn record(kind: NodeKind<'_>, metadata: &Metadata<'_>, xattrs: u32) -> Inode {
    let device = |device: DeviceNumber| u64::from(device.major) << 32 | u64::from(device.minor);
    let (file_type, data, reference, hides) = match kind {
        NodeKind::Regular { size, content } => (FileType::Regular, size, content.get(), false),
        NodeKind::Directory => (FileType::Directory, 0, 0, false),
        NodeKind::Symlink { target } => (FileType::Symlink, target.len() as u64, 0, false),
        NodeKind::CharDevice(number) => (FileType::CharDevice, device(number), 0, false),
        NodeKind::BlockDevice(number) => (FileType::BlockDevice, device(number), 0, false),
        NodeKind::Fifo => (FileType::Fifo, 0, 0, false),
        NodeKind::Socket => (FileType::Socket, 0, 0, false),
        NodeKind::Whiteout => (FileType::CharDevice, 0, 0, true),
    };
    let metadata = &match kind {
        // A whiteout is only a name, whatever its source made it of.
        NodeKind::Whiteout => Metadata { permissions: 0, ..Metadata::IMPLICIT_DIRECTORY },
        // Linux shows no other mode, and sources write different ones.
        NodeKind::Symlink { .. } => Metadata { permissions: 0o777, ..*metadata },
        _ => *metadata,
    };
    Inode {
        mtime_seconds: metadata.mtime.seconds,
        data,
        reference,
        mtime_nanoseconds: metadata.mtime.nanoseconds,
        uid: metadata.uid,
        gid: metadata.gid,
        nlink: 0,
        xattrs,
        permissions: metadata.permissions,
        file_type,
        hides,
    }
}

fn at(slots: &[RecordSlot], row: u32) -> &RecordSlot {
    slots.get(row as usize).expect("rows come from the index")
}

fn is_slot(text: &Text, slot: &RecordSlot, parent: NodeId, name: &[u8]) -> bool {
    slot.parent == parent.0 && text.get(slot.name, usize::from(slot.name_length)) == name
}

fn slot_hash(hasher: &RandomState, text: &Text, slot: &RecordSlot) -> u64 {
    hasher.hash_one((slot.parent, text.get(slot.name, usize::from(slot.name_length))))
}
