//! Applies the entries of one layer's tar to a tree, one after the other.

use std::collections::HashSet;

use super::borrowed::BorrowedNames;
use super::normalise::normalise;
use super::resolve::Way;
use crate::builder::{NodeId, TreeBuilder, check_name};
use crate::error::{EntryFault, TreeError};
use crate::limits::{MAX_DEPTH, MAX_PATH};
use crate::policy::{LayerReport, Policy};
use crate::tar::{EntryType, TarEntry};
use crate::tree::Tree;
use crate::types::{ContentId, DeviceNumber, FileType, Metadata, NodeKind};

/// A name with this prefix is a whiteout of the rest of it.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// A name with this prefix is a note of aufs, one of which counts.
const AUFS: &[u8] = b".wh..wh.";
/// Hides what the lower tree has in the directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry needs before it can be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WantedEntry {
    /// Its content.
    Content,
    /// Nothing.
    Nothing,
}

/// A layer tree under construction.
#[derive(Debug)]
pub(super) struct Applier<'l> {
    pub(super) builder: TreeBuilder,
    pub(super) lower: Option<&'l Tree>,
    policy: Policy,
    report: LayerReport,
    /// Directories no entry has named (yet).
    implicit: HashSet<NodeId>,
    /// Directories whose lower namesake was deleted; they are opaque, and have nothing of its attributes.
    replaced: HashSet<NodeId>,
    /// Lower files that hard links brought in.
    pub(super) borrowed: BorrowedNames,
    /// The last parent, as the tar names it: most entries stand beside the one before. Forgotten when it may
    /// not hold any more.
    last_parent: Option<(Vec<u8>, NodeId)>,
    /// Where the entry at hand goes, found out before its content is read.
    target: Option<LinkTarget>,
}

/// Where an entry goes.
#[derive(Debug)]
enum LinkTarget {
    Root,
    Name { parent: NodeId, name: Vec<u8> },
}

impl<'l> Applier<'l> {
    /// Starts a layer over `lower`.
    pub(super) fn new(lower: Option<&'l Tree>, policy: Policy) -> Self {
        Self {
            builder: TreeBuilder::new(),
            lower,
            policy,
            report: LayerReport::default(),
            implicit: HashSet::from([TreeBuilder::ROOT]),
            replaced: HashSet::new(),
            borrowed: BorrowedNames::default(),
            last_parent: None,
            target: None,
        }
    }

    /// Finds out where an entry goes and what it needs; none if it is done with (a whiteout, a note, left out
    /// by policy).
    pub(super) fn prepare(&mut self, entry: &mut TarEntry) -> Result<Option<WantedEntry>, TreeError> {
        self.report.entries += 1;
        self.prepare_entry(entry).map_err(|fault| TreeError::entry(entry.path.as_slice(), fault))
    }

    /// Adds the entry just prepared.
    pub(super) fn add(&mut self, entry: &TarEntry, content: Option<ContentId>) -> Result<(), TreeError> {
        self.add_entry(entry, content).map_err(|fault| TreeError::entry(entry.path.as_slice(), fault))
    }

    /// Takes out what hides nothing, gives implicit directories their attributes, and numbers the tree.
    pub(super) fn finish(mut self) -> Result<(Tree, LayerReport), TreeError> {
        self.give_borrowed_names().map_err(|fault| TreeError::entry(&[][..], fault))?;
        let mut sorted = self.builder.sort();
        normalise(&mut sorted, self.lower, &self.implicit, &self.replaced)?;
        Ok((sorted.finish()?, self.report))
    }

    fn prepare_entry(&mut self, entry: &mut TarEntry) -> Result<Option<WantedEntry>, EntryFault> {
        let TarEntry { path, xattrs, entry_type, device, .. } = entry;
        let components = components(path)?;
        let Some((&name, above)) = components.split_last() else {
            if *entry_type != EntryType::Directory {
                return Err(EntryFault::Root);
            }
            self.policy.filter_xattrs(path, FileType::Directory, xattrs, &mut self.report)?;
            self.target = Some(LinkTarget::Root);
            return Ok(Some(WantedEntry::Nothing));
        };
        if name != OPAQUE && components.iter().any(|name| name.starts_with(AUFS)) {
            self.report.aufs_entries += 1;
            return Ok(None);
        }
        if above.iter().any(|name| name.starts_with(WHITEOUT)) {
            return Err(EntryFault::WhiteoutDirectory);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if *entry_type == EntryType::Directory {
                return Err(EntryFault::WhiteoutDirectory);
            }
            let parent = self.parent(above)?;
            if name == OPAQUE {
                self.builder.set_opaque(parent, true);
            } else {
                self.whiteout(parent, hidden)?;
            }
            return Ok(None);
        }
        check_name(name)?;
        if *entry_type == EntryType::CharDevice && *device == DeviceNumber::default() {
            self.policy.device_zero(path, &mut self.report)?;
            return Ok(None);
        }
        self.policy.filter_xattrs(path, file_type(*entry_type), xattrs, &mut self.report)?;
        let parent = self.parent(above)?;
        self.target = Some(LinkTarget::Name { parent, name: name.to_vec() });
        Ok(Some(if *entry_type == EntryType::Regular { WantedEntry::Content } else { WantedEntry::Nothing }))
    }

    fn add_entry(&mut self, entry: &TarEntry, content: Option<ContentId>) -> Result<(), EntryFault> {
        let metadata = Metadata {
            permissions: entry.permissions,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: &entry.xattrs,
        };
        let (parent, name) = match self.target.take() {
            Some(LinkTarget::Name { parent, name }) => (parent, name),
            Some(LinkTarget::Root) => {
                self.implicit.remove(&TreeBuilder::ROOT);
                return self.builder.set_metadata(TreeBuilder::ROOT, &metadata);
            }
            None => return Ok(()),
        };
        let kind = match entry.entry_type {
            EntryType::HardLink => return self.hard_link(parent, &name, &entry.link),
            EntryType::Regular => {
                let content = content.expect("prepare has asked for content");
                NodeKind::Regular { size: entry.size, content }
            }
            EntryType::Directory => return self.directory(parent, &name, &metadata),
            EntryType::Symlink => NodeKind::Symlink { target: &entry.link },
            EntryType::CharDevice => NodeKind::CharDevice(entry.device),
            EntryType::BlockDevice => NodeKind::BlockDevice(entry.device),
            EntryType::Fifo => NodeKind::Fifo,
        };
        self.clear(parent, &name);
        self.builder.insert(parent, &name, kind, &metadata).map(drop)
    }

    /// Adds a directory, or sets the attributes of the one that is there.
    fn directory(&mut self, parent: NodeId, name: &[u8], metadata: &Metadata<'_>) -> Result<(), EntryFault> {
        match self.builder.lookup(parent, name) {
            Some(node) if self.builder.inode(node).is_directory() => {
                self.implicit.remove(&node);
                self.builder.set_metadata(node, metadata)
            }
            _ => self.add_directory(parent, name, metadata).map(drop),
        }
    }

    /// Adds a directory only because something is in it.
    pub(super) fn add_implicit(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, EntryFault> {
        let node = self.add_directory(parent, name, &Metadata::IMPLICIT_DIRECTORY)?;
        self.implicit.insert(node);
        Ok(node)
    }

    /// Adds a directory where none is. If it takes the place of a whiteout or of something else of this layer,
    /// nothing of the lower tree shows in it.
    fn add_directory(&mut self, parent: NodeId, name: &[u8], metadata: &Metadata<'_>) -> Result<NodeId, EntryFault> {
        let replaces = self.clear(parent, name);
        let node = self.builder.insert(parent, name, NodeKind::Directory, metadata)?;
        if replaces {
            self.replaced.insert(node);
            self.builder.set_opaque(node, true);
        }
        Ok(node)
    }

    /// Says that the lower tree's `name` is not there any more; what this layer has of that name stays.
    fn whiteout(&mut self, parent: NodeId, name: &[u8]) -> Result<(), EntryFault> {
        match self.builder.lookup(parent, name) {
            None => self.builder.insert(parent, name, NodeKind::Whiteout, &Metadata::IMPLICIT_DIRECTORY).map(drop),
            Some(node) => {
                if self.builder.inode(node).is_directory() {
                    self.replaced.insert(node);
                    self.builder.set_opaque(node, true);
                }
                Ok(())
            }
        }
    }

    /// Gives what `target` names one more name, bringing it here from the lower tree if need be.
    fn hard_link(&mut self, parent: NodeId, name: &[u8], target: &[u8]) -> Result<(), EntryFault> {
        let components = components(target)?;
        let (last, above) = components.split_last().ok_or(EntryFault::LinkToDirectory)?;
        let way = self.resolve(above)?;
        let node = self.link_target(&way, last)?.ok_or_else(|| EntryFault::LinkTarget { target: target.into() })?;
        if self.builder.lookup(parent, name) == Some(node) {
            return Ok(());
        }
        self.clear(parent, name);
        self.builder.link(parent, name, node)
    }

    /// Returns what a hard link's target is, in this layer.
    fn link_target(&mut self, way: &Way, name: &[u8]) -> Result<Option<NodeId>, EntryFault> {
        let place = way.end();
        if let Some(node) = place.layer.and_then(|directory| self.builder.lookup(directory, name)) {
            let inode = self.builder.inode(node);
            return match inode.file_type() {
                FileType::Directory => Err(EntryFault::LinkToDirectory),
                _ if inode.is_whiteout() => Ok(None),
                _ => Ok(Some(node)),
            };
        }
        let Some((tree, directory)) = self.lower.zip(place.lower) else { return Ok(None) };
        if let Some(node) = self.borrowed.find(directory, name) {
            return Ok(Some(node));
        }
        match tree.lookup(directory, name) {
            None => Ok(None),
            Some(id) if tree.inode(id).is_directory() => Err(EntryFault::LinkToDirectory),
            Some(id) => {
                // With its attributes and the handle of its content; the link gives it its first name.
                let node = self.builder.add_inode(tree.kind(id), &tree.metadata(id))?;
                self.borrowed.note(directory, way, name, node);
                Ok(Some(node))
            }
        }
    }

    /// Returns the directory that an entry's parent path leads to, making what is not there.
    fn parent(&mut self, path: &[&[u8]]) -> Result<NodeId, EntryFault> {
        if let Some((known, node)) = &self.last_parent
            && known.split(|&byte| byte == b'/').eq(path.iter().copied())
        {
            return Ok(*node);
        }
        let way = self.resolve(path)?;
        let node = self.ensure(&way)?;
        // A name that leads through a symbolic link leads elsewhere when anything takes the link's place.
        self.last_parent = if way.followed || path.is_empty() { None } else { Some((path.join(&b'/'), node)) };
        Ok(node)
    }

    /// Frees a name; returns whether there was something.
    fn clear(&mut self, parent: NodeId, name: &[u8]) -> bool {
        let removed = self.builder.remove(parent, name).is_some();
        if removed {
            self.last_parent = None;
        }
        removed
    }
}

/// Returns the names a path is made of.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, EntryFault> {
    let components: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    let length = components.iter().map(|name| name.len() + 1).sum::<usize>().saturating_sub(1);
    if components.iter().any(|name| *name == b"..") {
        Err(EntryFault::DotDot)
    } else if length > MAX_PATH {
        Err(EntryFault::PathTooLong { length })
    } else if components.len() > MAX_DEPTH {
        Err(EntryFault::TooDeep)
    } else {
        Ok(components)
    }
}

/// Returns the type of file an entry makes; of a hard link that of the file it most often is.
fn file_type(entry_type: EntryType) -> FileType {
    match entry_type {
        EntryType::Regular | EntryType::HardLink => FileType::Regular,
        EntryType::Symlink => FileType::Symlink,
        EntryType::CharDevice => FileType::CharDevice,
        EntryType::BlockDevice => FileType::BlockDevice,
        EntryType::Directory => FileType::Directory,
        EntryType::Fifo => FileType::Fifo,
    }
}
