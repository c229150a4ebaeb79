//! Merges one layer over another, as overlayfs shows them, into one tree without whiteouts.

use crate::builder::{NodeId, REMOVED, TreeBuilder};
use crate::error::{EntryFault, TreeError};
use crate::freeze::Sorted;
use crate::record::Inode;
use crate::tree::Tree;
use crate::types::InodeId;
use crate::xattrs::XattrInterner;

/// Merges a layer tree over the tree of the layers below, in the memory of the latter.
///
/// Where both have a directory the names of both are there, with the attributes of `upper`; all else of `upper`
/// replaces what `lower` has. Names of one file stay names of one file, on either side.
///
/// For the lowest layer use [`Tree::into_base`], which copies nothing.
///
/// # Errors
///
/// The merged tree is beyond a limit.
pub fn merge(lower: Tree, upper: &Tree) -> Result<Tree, TreeError> {
    // Nothing of the lower tree is seen through an opaque root.
    let builder =
        if upper.inode(InodeId::ROOT).is_opaque() { TreeBuilder::new() } else { TreeBuilder::from_tree(lower) };
    let mut merger = Merger { builder, upper, nodes: vec![None; upper.len()] };
    let fail = |fault| TreeError::entry(&[][..], fault);
    merger.builder.set_metadata(TreeBuilder::ROOT, &upper.metadata(InodeId::ROOT)).map_err(fail)?;
    let mut directories = vec![(InodeId::ROOT, TreeBuilder::ROOT)];
    while let Some((directory, into)) = directories.pop() {
        for entry in upper.entries(directory) {
            let merged =
                merger.name(into, entry.name, entry.inode).map_err(|fault| TreeError::entry(entry.name, fault))?;
            if let Some(node) = merged {
                directories.push((entry.inode, node));
            }
        }
    }
    merger.builder.finish()
}

impl Tree {
    /// Returns the tree as the lowest layer, which has nothing to hide: without whiteouts, no directory opaque.
    ///
    /// # Errors
    ///
    /// None that the tree did not have.
    pub fn into_base(self) -> Result<Self, TreeError> {
        if self.ids().all(|id| !self.inode(id).hides) {
            return Ok(self);
        }
        let (mut inodes, mut slots, text, xattrs) = self.into_parts();
        for slot in &mut slots {
            if inodes.get(slot.inode as usize).is_some_and(Inode::is_whiteout) {
                slot.inode = REMOVED;
            }
        }
        for inode in inodes.iter_mut().filter(|inode| inode.is_directory()) {
            inode.hides = false;
        }
        Sorted::new(inodes, slots, text, XattrInterner::from_sets(xattrs)).finish()
    }
}

impl Tree {
    /// Returns the tree without the inodes that `keep` refuses, and without the names below them. The root stays.
    ///
    /// # Errors
    ///
    /// None that the tree did not have.
    pub fn retain(self, mut keep: impl FnMut(InodeId, Inode) -> bool) -> Result<Self, TreeError> {
        let kept: Vec<bool> = self.ids().map(|id| id == InodeId::ROOT || keep(id, self.inode(id))).collect();
        let (inodes, mut slots, text, xattrs) = self.into_parts();
        for slot in &mut slots {
            if kept.get(slot.inode as usize) == Some(&false) {
                slot.inode = REMOVED;
            }
        }
        Sorted::new(inodes, slots, text, XattrInterner::from_sets(xattrs)).finish()
    }
}

struct Merger<'u> {
    builder: TreeBuilder,
    upper: &'u Tree,
    /// What became of the upper inodes that are no directories: their other names link to it.
    nodes: Vec<Option<NodeId>>,
}

impl Merger<'_> {
    /// Merges one name; returns the directory to go on with if it is one.
    fn name(&mut self, parent: NodeId, name: &[u8], id: InodeId) -> Result<Option<NodeId>, EntryFault> {
        let inode = self.upper.inode(id);
        if let Some(node) = self.builder.lookup(parent, name) {
            if inode.is_directory() && self.builder.inode(node).is_directory() && !inode.is_opaque() {
                self.builder.set_metadata(node, &self.upper.metadata(id))?;
                return Ok(Some(node));
            }
            self.builder.remove(parent, name);
        }
        if inode.is_whiteout() {
            return Ok(None);
        }
        if let Some(node) = self.nodes.get(id.index()).copied().flatten() {
            self.builder.link(parent, name, node)?;
            return Ok(None);
        }
        let node = self.builder.insert(parent, name, self.upper.kind(id), &self.upper.metadata(id))?;
        if inode.is_directory() {
            return Ok(Some(node));
        }
        if let Some(known) = self.nodes.get_mut(id.index()) {
            *known = Some(node);
        }
        Ok(None)
    }
}
