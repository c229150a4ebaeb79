//! Iterates over every name of a tree in path order.

use crate::tree::{Entries, Tree, TreeEntry};
use crate::types::InodeId;

/// One name met on a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkEntry<'t> {
    /// The directory the name is in.
    pub parent: InodeId,
    /// The name.
    pub name: &'t [u8],
    /// The inode that it stands for.
    pub inode: InodeId,
    /// Components of the path: 1 for names in the root.
    pub depth: usize,
    /// Whether this is the inode's first path: false for each further name of a hard-linked file.
    pub first: bool,
}

/// An iterator over every name in path order, see [`Tree::walk`]. The root has no name and is not visited.
#[derive(Clone, Debug)]
pub struct TreeWalk<'t> {
    tree: &'t Tree,
    levels: Vec<(InodeId, Entries<'t>)>,
    /// Ids are given in the order of first paths, so an id below this has been met.
    next_id: usize,
}

impl<'t> TreeWalk<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Self {
        Self { tree, levels: vec![(InodeId::ROOT, tree.entries(InodeId::ROOT))], next_id: 1 }
    }
}

impl<'t> Iterator for TreeWalk<'t> {
    type Item = WalkEntry<'t>;

    fn next(&mut self) -> Option<WalkEntry<'t>> {
        loop {
            let depth = self.levels.len();
            let (parent, entries) = self.levels.last_mut()?;
            let parent = *parent;
            let Some(TreeEntry { name, inode }) = entries.next() else {
                self.levels.pop();
                continue;
            };
            let first = inode.index() == self.next_id;
            if first {
                self.next_id += 1;
            }
            let below = self.tree.entries(inode);
            if below.len() > 0 {
                self.levels.push((inode, below));
            }
            return Some(WalkEntry { parent, name, inode, depth, first });
        }
    }
}
