//! Plans the places of all inodes.

use std::iter;

use dimsum_tree::{FileType, InodeId, Timestamp, Tree};

use super::runs::{BlockRun, FileData, Placements, classify};
use super::shape::{InodeShape, common_mtime};
use super::xattrs::SharedXattrs;
use crate::error::PlanError;
use crate::limits::MAX_EROFS_BLOCKS;
use crate::ondisk::{BLOCK, INODE_AREA, SLOT};

/// The meaning of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A whole root file system: there is nothing to hide.
    Image,
    /// One layer: whiteouts and opaque directories mark the lower names that it hides.
    Layer,
}

/// How to lay a tree out.
#[derive(Clone, Copy, Debug)]
pub struct ErofsOptions {
    /// log2 of the blocks of a slice: the smallest piece a block map tells apart.
    pub slice_blocks_log2: u32,
    /// The meaning of the tree.
    pub kind: ImageKind,
}

/// The layout of a tree: its length is known, and it can be written any number of times.
#[derive(Debug)]
pub struct ErofsLayout<'t> {
    pub(super) tree: &'t Tree,
    pub(super) slice_bits: u32,
    pub(super) common: Timestamp,
    /// The nid of each inode: all that is kept per inode.
    nids: Vec<u32>,
    pub(super) shared: SharedXattrs<'t>,
    /// First block of the shared attributes.
    pub(super) shared_start: u32,
    /// First block of directories and symbolic links.
    pub(super) stored_start: u32,
    blocks: u32,
}

impl<'t> ErofsLayout<'t> {
    /// Finds the place of everything in the EROFS image of a tree. Takes four bytes of memory per inode beside the tree
    /// (and the tables of shared attributes).
    ///
    /// # Errors
    ///
    /// If the image would be too large, or `placements` does not fit the tree. Not because of the contents of a tree.
    pub fn plan(tree: &'t Tree, placements: &dyn Placements, options: ErofsOptions) -> Result<Self, PlanError> {
        if options.kind == ImageKind::Image
            && let Some(inode) = tree.ids().find(|&id| tree.inode(id).is_opaque() || tree.inode(id).is_whiteout())
        {
            return Err(PlanError::Overlay { inode });
        }
        let mut layout = Self {
            tree,
            slice_bits: options.slice_blocks_log2,
            common: common_mtime(tree),
            nids: Vec::with_capacity(tree.len()),
            shared: SharedXattrs::find(tree)?,
            shared_start: 0,
            stored_start: 0,
            blocks: 0,
        };
        let mut runs = Vec::new();
        let mut position = INODE_AREA;
        let mut stored = 0;
        for id in tree.ids() {
            let shape = layout.place_shape(placements, id, &mut runs)?;
            position = place(position, shape.head_len());
            if position / BLOCK > MAX_EROFS_BLOCKS {
                return Err(PlanError::TooLarge { blocks: position / BLOCK });
            }
            layout.nids.push((position / SLOT) as u32);
            position += shape.head_len() + shape.map_len();
            stored += shape.stored_blocks();
        }
        let shared_start = position.div_ceil(BLOCK);
        let stored_start = shared_start + layout.shared.area_len().div_ceil(BLOCK);
        let blocks = stored_start + stored;
        if blocks > MAX_EROFS_BLOCKS {
            return Err(PlanError::TooLarge { blocks });
        }
        // All three are at most `MAX_EROFS_BLOCKS`, which has 20 bits.
        (layout.shared_start, layout.stored_start, layout.blocks) =
            (shared_start as u32, stored_start as u32, blocks as u32);
        Ok(layout)
    }

    /// Returns the length of the EROFS image in blocks; it does not depend on addresses.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the nid that an inode of the tree has in the image.
    #[must_use]
    pub fn nid(&self, id: InodeId) -> u64 {
        self.nids.get(id.index()).copied().expect("the id is of this tree").into()
    }

    /// Returns the block of the shared attributes as the superblock has it.
    pub(super) fn xattr_blkaddr(&self) -> u32 {
        if self.shared.area_len() == 0 { 0 } else { self.shared_start }
    }

    /// Returns the shape of an inode, and puts its shared attributes into their area.
    fn place_shape(
        &mut self,
        placements: &dyn Placements,
        id: InodeId,
        runs: &mut Vec<BlockRun>,
    ) -> Result<InodeShape<'t>, PlanError> {
        let data = file_data(self.tree, placements, id, self.slice_bits, runs)?;
        let body = self.shared.place(self.tree, id);
        Ok(InodeShape::new(self.tree, id, self.common, body, data))
    }

    /// Returns the shape of an inode, and in `runs` the joined runs of a file that is not empty.
    pub(super) fn shape(
        &self,
        placements: &dyn Placements,
        id: InodeId,
        runs: &mut Vec<BlockRun>,
    ) -> Result<InodeShape<'t>, PlanError> {
        let data = file_data(self.tree, placements, id, self.slice_bits, runs)?;
        Ok(self.shape_of(id, data))
    }

    /// Returns the shape of an inode whose file data is known.
    pub(super) fn shape_of(&self, id: InodeId, data: Option<FileData>) -> InodeShape<'t> {
        InodeShape::new(self.tree, id, self.common, self.shared.body(self.tree, id), data)
    }
}

fn file_data(
    tree: &Tree,
    placements: &dyn Placements,
    inode: InodeId,
    slice_bits: u32,
    runs: &mut Vec<BlockRun>,
) -> Result<Option<FileData>, PlanError> {
    let record = tree.inode(inode);
    runs.clear();
    if record.file_type() != FileType::Regular || record.size() == 0 {
        return Ok(None);
    }
    placements.runs(inode, runs).map_err(|source| PlanError::Placements { inode, source })?;
    classify(runs, record.size(), slice_bits).map(Some).map_err(|fault| PlanError::Runs { inode, fault })
}

/// Returns where an item goes whose head has this length: the next slot, or the next block if it would cross into that.
fn place(end: u64, head: u64) -> u64 {
    let position = end.next_multiple_of(SLOT);
    if position % BLOCK + head > BLOCK { position.next_multiple_of(BLOCK) } else { position }
}

/// Returns all inodes in order, each with the directory of its first path (the root with itself).
pub(super) fn inodes_with_parents(tree: &Tree) -> impl Iterator<Item = (InodeId, InodeId)> {
    let below = tree.walk().filter(|entry| entry.first).map(|entry| (entry.inode, entry.parent));
    iter::once((InodeId::ROOT, InodeId::ROOT)).chain(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_stay_in_one_block_unless_they_are_longer() {
        assert_eq!(place(1152, 32), 1152);
        assert_eq!(place(1153, 32), 1184);
        assert_eq!(place(4032, 64), 4032);
        assert_eq!(place(4064, 64), 4096);
        assert_eq!(place(4096, 5000), 4096);
        assert_eq!(place(4100, 5000), 8192);
    }
}
