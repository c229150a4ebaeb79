//! Completes a layer when all of its entries have been read.
//!
//! A whiteout may follow the entries that it concerns. So only now is it known which lower directories stay
//! visible through the layer. Directories without an entry of their own take the attributes of those. Whiteouts
//! and opaque marks that hide nothing are removed, so that equal layers are equal trees.

use std::collections::HashSet;

use crate::builder::{NodeId, REMOVED};
use crate::error::{EntryFault, TreeError};
use crate::freeze::Sorted;
use crate::tree::Tree;
use crate::types::InodeId;

/// Goes through all directories of the layer beside the lower ones they lie over.
pub(super) fn normalise(
    layer: &mut Sorted,
    lower: Option<&Tree>,
    implicit: &HashSet<NodeId>,
    replaced: &HashSet<NodeId>,
) -> Result<(), TreeError> {
    let refuse = |fault: EntryFault| TreeError::entry(&[][..], fault);
    let root = lower.map(|tree| (tree, InodeId::ROOT));
    let mut directories = vec![(0, settle(layer, 0, root, implicit, replaced).map_err(refuse)?)];
    while let Some((directory, behind)) = directories.pop() {
        for row in layer.range(directory) {
            let Some(&slot) = layer.slots.get(row) else { continue };
            let name = layer.text.get(slot.name, usize::from(slot.name_length));
            let lower = behind.and_then(|(tree, directory)| Some((tree, tree.lookup(directory, name)?)));
            let Some(inode) = layer.inodes.get(slot.inode as usize) else { continue };
            if inode.is_directory() {
                let lower = lower.filter(|(tree, id)| tree.inode(*id).is_directory());
                let behind = settle(layer, slot.inode, lower, implicit, replaced)
                    .map_err(|fault| TreeError::entry(name_of(layer, row), fault))?;
                directories.push((slot.inode, behind));
            } else if inode.is_whiteout()
                && lower.is_none()
                && let Some(slot) = layer.slots.get_mut(row)
            {
                slot.inode = REMOVED;
            }
        }
    }
    Ok(())
}

/// A lower directory.
type Lower<'t> = Option<(&'t Tree, InodeId)>;

/// Settles attributes and opacity of one directory over `lower`, and returns what of the lower directory is seen in it.
fn settle<'t>(
    layer: &mut Sorted,
    directory: u32,
    lower: Lower<'t>,
    implicit: &HashSet<NodeId>,
    replaced: &HashSet<NodeId>,
) -> Result<Lower<'t>, EntryFault> {
    let node = NodeId(directory);
    let inherits = implicit.contains(&node) && !replaced.contains(&node);
    let attributes = match lower {
        Some((tree, id)) if inherits => Some((tree.inode(id), layer.xattrs.intern(tree.xattrs(id))?)),
        _ => None,
    };
    let Some(inode) = layer.inodes.get_mut(directory as usize) else { return Ok(None) };
    if let Some((from, xattrs)) = attributes {
        inode.permissions = from.permissions;
        inode.uid = from.uid;
        inode.gid = from.gid;
        inode.mtime_seconds = from.mtime_seconds;
        inode.mtime_nanoseconds = from.mtime_nanoseconds;
        inode.xattrs = xattrs;
    }
    inode.hides &= lower.is_some();
    Ok(lower.filter(|_| !inode.hides))
}

fn name_of(layer: &Sorted, row: usize) -> Vec<u8> {
    layer.slots.get(row).map_or_else(Vec::new, |slot| layer.text.get(slot.name, usize::from(slot.name_length)).to_vec())
}
