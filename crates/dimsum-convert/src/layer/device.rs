//! The device of a layer: its new content in canonical order, which gives each content its place.

use dimsum_format::limits::MAX_FLAT_BLOCKS;
use dimsum_format::{BLOCK_U64, FormatError};
use dimsum_tree::Tree;

use super::bundle::BundleCutter;
use crate::content::{ContentPiece, ContentPlace, ContentTable, FileContent, SliceId, SmallId, write};
use crate::error::ConvertError;

/// The contents of a device.
#[derive(Debug, Default)]
pub(crate) struct LayerDevice {
    /// New slices in path order, each a chunk.
    pub(super) slices: Vec<SliceId>,
    /// New small files in path order.
    pub(super) files: Vec<SmallId>,
    /// Behind which file each bundle ends.
    bundle_ends: Vec<usize>,
    blocks: u64,
}

impl LayerDevice {
    /// Gives everything in `tree` that has no place yet its place in the device of layer `number`.
    pub(crate) fn lay_out(
        tree: &Tree,
        contents: &mut ContentTable,
        number: u16,
        bundle_half: u64,
        origin: &str,
    ) -> Result<Self, ConvertError> {
        let mut device = Self::default();
        device.place_slices(tree, contents, number, origin)?;
        device.place_files(tree, contents, number, bundle_half, origin)?;
        Ok(device)
    }

    fn place_slices(
        &mut self,
        tree: &Tree,
        contents: &mut ContentTable,
        number: u16,
        origin: &str,
    ) -> Result<(), ConvertError> {
        let ContentTable { large, slices, .. } = contents;
        let mut slices = write(slices);
        for id in tree.ids() {
            let inode = tree.inode(id);
            let Some(FileContent::Large(file)) = inode.content().map(FileContent::of) else { continue };
            let first = self.slices.len();
            for piece in large.pieces(file, inode.size(), &slices) {
                if let ContentPiece::Slice { id, .. } = piece
                    && slices.place(id).is_none()
                {
                    self.slices.push(id);
                }
            }
            // A slice may be twice in the list of one file.
            let mut kept = first;
            for row in first..self.slices.len() {
                let Some(&id) = self.slices.get(row) else { break };
                if slices.place(id).is_none() {
                    let place = self.next(number, u64::from(slices.slice(id).blocks), origin)?;
                    slices.set_place(id, place);
                    if let Some(slot) = self.slices.get_mut(kept) {
                        *slot = id;
                    }
                    kept += 1;
                }
            }
            self.slices.truncate(kept);
        }
        Ok(())
    }

    fn place_files(
        &mut self,
        tree: &Tree,
        contents: &mut ContentTable,
        number: u16,
        bundle_half: u64,
        origin: &str,
    ) -> Result<(), ConvertError> {
        let mut cutter = BundleCutter::new(bundle_half);
        for id in tree.ids() {
            let inode = tree.inode(id);
            let Some(FileContent::Small(small)) = inode.content().map(FileContent::of) else { continue };
            if !contents.small.place(small).is_none() {
                continue;
            }
            let blocks = inode.size().div_ceil(BLOCK_U64);
            let cut = cutter.file(blocks, contents.small.fragment(small));
            if cut.before {
                self.bundle_ends.push(self.files.len());
            }
            contents.small.set_place(small, self.next(number, blocks, origin)?);
            self.files.push(small);
            if cut.after {
                self.bundle_ends.push(self.files.len());
            }
        }
        if self.bundle_ends.last().copied().unwrap_or(0) < self.files.len() {
            self.bundle_ends.push(self.files.len());
        }
        Ok(())
    }

    fn next(&mut self, device: u16, blocks: u64, origin: &str) -> Result<ContentPlace, ConvertError> {
        let end = self.blocks.saturating_add(blocks);
        if end > MAX_FLAT_BLOCKS {
            let source = FormatError::Limit { part: "blocks of a device", value: end, limit: MAX_FLAT_BLOCKS };
            return Err(ConvertError::format(origin, source));
        }
        let block = u32::try_from(self.blocks).expect("MAX_FLAT_BLOCKS has 32 bits");
        self.blocks = end;
        Ok(ContentPlace { device, block })
    }

    /// Says whether nothing is new.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Returns the slices that it stores.
    pub(crate) fn slices(&self) -> &[SliceId] {
        &self.slices
    }

    /// Returns how many bundles there are.
    pub(super) fn bundle_count(&self) -> usize {
        self.bundle_ends.len()
    }

    /// Returns the files of one bundle.
    pub(super) fn bundle(&self, number: usize) -> &[SmallId] {
        let end_of = |number: usize| self.bundle_ends.get(number).copied();
        let start = number.checked_sub(1).and_then(end_of).unwrap_or(0);
        self.files.get(start..end_of(number).unwrap_or(start)).unwrap_or_default()
    }
}
