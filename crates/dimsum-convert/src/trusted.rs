//! Takes a layer from its pack without reading the source: tree and places come from the layer meta instead of
//! a tar.
//!
//! The layer meta is validated like any file system from outside, so a false one can do no harm here. Whether
//! it is true is the trust that the user gave.

use std::collections::HashMap;

use dimsum_erofs::{Bounds, ErofsImage, ErofsInode, ImageKind, MetaRead, to_tree, validate};
use dimsum_format::{BLOCK_U64, DeviceId};
use dimsum_recipe::temporary::TemporaryFile;
use dimsum_tree::{ContentId, Tree};
use parking_lot::RwLockWriteGuard;

use crate::content::{
    ContentPlace, ContentTable, FileContent, SliceId, SliceTable, SmallId, SmallRecord, slice_count, write,
};
use crate::error::ConvertError;
use crate::known::DescribedPack;
use crate::options::ConvertOptions;

/// Reads the layer that a pack describes, as the device with this number. `lower` are number, id and blocks of
/// the devices below.
pub(crate) fn read(
    described: &DescribedPack,
    number: u16,
    lower: &[(u16, DeviceId, u32)],
    contents: &mut ContentTable,
    options: &ConvertOptions,
    origin: &str,
) -> Result<Tree, ConvertError> {
    let malformed = |source: Box<dyn std::error::Error + Send + Sync>| ConvertError::Malformed {
        object: origin.to_owned(),
        source,
    };
    let space = TrustedSpace::new(described, number, lower)
        .ok_or_else(|| malformed("it refers to a device that no layer below has".into()))?;
    let bytes = LayerMetaFile { file: &described.meta, length: u64::from(described.layer.erofs_blocks) * BLOCK_U64 };
    let meta_blocks = u32::try_from(described.meta.len() / BLOCK_U64).unwrap_or(u32::MAX);
    let bounds = Bounds { meta_blocks, devices: &space.blocks, kind: ImageKind::Layer };
    validate(&bytes, bounds).map_err(|error| malformed(Box::new(error)))?;
    let erofs = ErofsImage::open(bytes).map_err(|error| malformed(Box::new(error)))?;
    let mut loading = Loading { contents, space, options, slices: HashMap::new(), small: HashMap::new() };
    loading.stored(described, number)?;
    let mut failed = None;
    let tree = to_tree(&erofs, |inode| match loading.content(&erofs, inode) {
        Ok(content) => content.id(),
        Err(reason) => {
            failed.get_or_insert(reason);
            ContentId::new(0)
        }
    });
    match failed {
        Some(Failed::Ours(error)) => Err(error),
        Some(Failed::Meta(reason)) => Err(malformed(reason)),
        None => tree.map_err(|error| malformed(Box::new(error))),
    }
}

/// Why the content of a file is nowhere.
enum Failed {
    Ours(ConvertError),
    Meta(Box<dyn std::error::Error + Send + Sync>),
}

/// The EROFS image of a layer meta.
struct LayerMetaFile<'m> {
    file: &'m TemporaryFile,
    length: u64,
}

impl MetaRead for LayerMetaFile<'_> {
    type Error = ConvertError;

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ConvertError> {
        Ok(self.file.read(offset, buffer)?)
    }
}

/// The devices behind the layer meta: end of each in blocks, and its number.
struct TrustedSpace {
    start: u64,
    areas: Vec<(u64, u16)>,
    blocks: Vec<u32>,
}

impl TrustedSpace {
    fn new(described: &DescribedPack, number: u16, lower: &[(u16, DeviceId, u32)]) -> Option<Self> {
        let start = described.meta.len() / BLOCK_U64;
        let mut space = Self { start, areas: Vec::new(), blocks: Vec::new() };
        space.push(number, described.map.blocks());
        for &(id, blocks) in &described.references {
            let &(number, ..) = lower.iter().find(|(_, lower, length)| *lower == id && *length == blocks)?;
            space.push(number, blocks);
        }
        Some(space)
    }

    fn push(&mut self, number: u16, blocks: u32) {
        let end = self.areas.last().map_or(self.start, |(end, _)| *end) + u64::from(blocks);
        self.areas.push((end, number));
        self.blocks.push(blocks);
    }

    fn place(&self, block: u64) -> Option<ContentPlace> {
        let index = self.areas.partition_point(|(end, _)| *end <= block);
        let (end, device) = *self.areas.get(index)?;
        let blocks = u64::from(*self.blocks.get(index)?);
        let block = block.checked_sub(end - blocks)?;
        Some(ContentPlace { device, block: u32::try_from(block).ok()? })
    }
}

/// Finds content by its place.
struct Loading<'c> {
    contents: &'c mut ContentTable,
    space: TrustedSpace,
    options: &'c ConvertOptions,
    slices: HashMap<ContentPlace, SliceId>,
    small: HashMap<ContentPlace, SmallId>,
}

impl Loading<'_> {
    /// Takes in what the device stores, and what devices below do.
    fn stored(&mut self, described: &DescribedPack, number: u16) -> Result<(), ConvertError> {
        let ContentTable { small, slices, .. } = &mut *self.contents;
        let mut slices = write(slices);
        if self.space.areas.len() > 1 {
            self.slices.extend(slices.placed());
            self.small.extend(small.placed());
        }
        let bundles = described.files.first().and_then(|file| described.map.chunk_of_block(file.block));
        let count = bundles.map_or_else(|| described.map.chunks(), u64::from);
        for chunk in 0..u32::try_from(count).unwrap_or(u32::MAX) {
            let (Some(blocks), Some(digest)) = (described.map.chunk_blocks(chunk), described.map.digest(chunk)) else {
                break;
            };
            let place = ContentPlace { device: number, block: blocks.start };
            let id = slices.add_stored(digest, blocks.end - blocks.start, place)?;
            self.slices.insert(place, id);
        }
        for file in &described.files {
            let place = ContentPlace { device: number, block: file.block };
            // The bytes are not here, and no one asks for them: the content has its position.
            let id = small.add(SmallRecord { digest: file.digest, length: file.length, offset: u64::MAX })?;
            small.set_place(id, place);
            self.small.insert(place, id);
        }
        Ok(())
    }

    fn content(&mut self, erofs: &ErofsImage<LayerMetaFile<'_>>, inode: &ErofsInode) -> Result<FileContent, Failed> {
        let size = inode.size();
        if size == 0 {
            return Ok(FileContent::Empty);
        }
        if size > self.options.small_limit() {
            return self.large(erofs, inode);
        }
        let FlatAddress::Place(place) = self.at(erofs, inode, 0)? else { return Ok(FileContent::Null) };
        let id = self.small.get(&place).copied().ok_or_else(|| nowhere(inode))?;
        let length = self.contents.small.record(id).map_err(Failed::Ours)?.length;
        if u64::from(length) == size { Ok(FileContent::Small(id)) } else { Err(nowhere(inode)) }
    }

    fn large(&mut self, erofs: &ErofsImage<LayerMetaFile<'_>>, inode: &ErofsInode) -> Result<FileContent, Failed> {
        let slice_size = u64::from(self.options.slice_size);
        let start = self.table().start().map_err(Failed::Ours)?;
        let count = slice_count(inode.size(), slice_size);
        let mut slice = 0;
        while slice < count {
            let first = slice * slice_size;
            match self.at(erofs, inode, first)? {
                FlatAddress::Hole(length) => {
                    // A hole of terabytes is one step.
                    let skipped = (length / slice_size).clamp(1, count - slice);
                    self.table().push_null(u32::try_from(skipped).map_err(|_| nowhere(inode))?, start);
                    slice += skipped;
                }
                FlatAddress::Place(place) => {
                    slice += 1;
                    let end = if slice == count { inode.size() } else { slice * slice_size };
                    let id = self.slices.get(&place).copied().ok_or_else(|| nowhere(inode))?;
                    if u64::from(self.table().slice(id).blocks) != (end - first).div_ceil(BLOCK_U64) {
                        return Err(nowhere(inode));
                    }
                    self.table().push_known(id).map_err(Failed::Ours)?;
                }
            }
        }
        if self.table().drop_if_null(start) {
            return Ok(FileContent::Null);
        }
        self.contents.large.add(start).map(FileContent::Large).map_err(Failed::Ours)
    }

    fn table(&self) -> RwLockWriteGuard<'_, SliceTable> {
        write(&self.contents.slices)
    }

    /// Returns what there is from a byte of a file on.
    fn at(
        &self,
        erofs: &ErofsImage<LayerMetaFile<'_>>,
        inode: &ErofsInode,
        offset: u64,
    ) -> Result<FlatAddress, Failed> {
        let extent = erofs.map(inode, offset).map_err(|error| Failed::Meta(Box::new(error)))?;
        let extent = extent.ok_or_else(|| nowhere(inode))?;
        let Some(flat) = extent.flat else { return Ok(FlatAddress::Hole(extent.len)) };
        self.space.place(flat / BLOCK_U64).map(FlatAddress::Place).ok_or_else(|| nowhere(inode))
    }
}

/// What a byte of a file is part of.
enum FlatAddress {
    /// The block at this place.
    Place(ContentPlace),
    /// A hole with so many bytes more.
    Hole(u64),
}

fn nowhere(inode: &ErofsInode) -> Failed {
    Failed::Meta(format!("the content of inode {} is in no table", inode.nid()).into())
}
