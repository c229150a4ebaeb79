//! Files of the lower tree that a layer's hard links bring in.
//!
//! A hard link `g` to a lower file `f` makes `f` and `g` one file of the layer, as overlayfs copies `f` up. But `f` is
//! no entry of the layer. A whiteout or an opaque mark hides it like everything else of the lower tree, wherever the
//! mark stands. So the name `f` is only noted while entries are read, and given when all are known and nothing hides
//! it.

use std::collections::{BTreeMap, HashMap};

use super::apply::Applier;
use super::resolve::Way;
use crate::builder::{NodeId, TreeBuilder};
use crate::error::EntryFault;
use crate::types::InodeId;

/// The names that wait for the end of the layer, and the files that they stand for.
#[derive(Debug, Default)]
pub(super) struct BorrowedNames {
    /// By lower directory and name there: an order that does not depend on that of the entries.
    files: BTreeMap<(InodeId, Vec<u8>), NodeId>,
    /// How each of these directories is reached from the root.
    paths: HashMap<InodeId, Vec<Vec<u8>>>,
}

impl BorrowedNames {
    /// Returns the file that was brought in from this lower name.
    pub(super) fn find(&self, directory: InodeId, name: &[u8]) -> Option<NodeId> {
        self.files.get(&(directory, name.to_vec())).copied()
    }

    /// Notes a file that is brought in from `name` in the lower directory where a way ends.
    pub(super) fn note(&mut self, directory: InodeId, way: &Way, name: &[u8], node: NodeId) {
        self.files.insert((directory, name.to_vec()), node);
        self.paths.entry(directory).or_insert_with(|| way.names().map(<[u8]>::to_vec).collect());
    }
}

impl Applier<'_> {
    /// Gives the files that were brought in their lower names too, but for names that this layer hides or has anew.
    pub(super) fn give_borrowed_names(&mut self) -> Result<(), EntryFault> {
        let BorrowedNames { files, paths } = std::mem::take(&mut self.borrowed);
        for ((directory, name), node) in files {
            let Some(path) = paths.get(&directory) else { continue };
            if let Some(parent) = self.visible_directory(path)?
                && self.builder.lookup(parent, &name).is_none()
            {
                self.builder.link(parent, &name, node)?;
            }
        }
        Ok(())
    }

    /// Returns a directory through which its lower namesake is seen, making it if need be; nothing if the layer hides it.
    fn visible_directory(&mut self, path: &[Vec<u8>]) -> Result<Option<NodeId>, EntryFault> {
        let mut directory = TreeBuilder::ROOT;
        // Nothing is made before it is known that nothing hides the end of the path.
        let mut missing = path.len();
        for (depth, name) in path.iter().enumerate() {
            if self.builder.inode(directory).is_opaque() {
                return Ok(None);
            }
            match self.builder.lookup(directory, name) {
                Some(next) if self.builder.inode(next).is_directory() => directory = next,
                Some(_) => return Ok(None),
                None => {
                    missing = depth;
                    break;
                }
            }
        }
        if self.builder.inode(directory).is_opaque() {
            return Ok(None);
        }
        for name in path.iter().skip(missing) {
            directory = self.add_implicit(directory, name)?;
        }
        Ok(Some(directory))
    }
}
