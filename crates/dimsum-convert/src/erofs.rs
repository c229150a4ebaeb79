//! The EROFS image of a tree whose content has places.

use std::io::{self, Write};

use dimsum_erofs::{BlockRun, ErofsLayout, ImageKind, Placements, WriteParams};
use dimsum_format::limits::{MAX_FLAT_BLOCKS, MAX_META_BYTES};
use dimsum_format::{BLOCK_U64, DeviceId, FormatError};
use dimsum_tree::{InodeId, Tree};

use crate::content::{ContentTable, to_run};
use crate::error::ConvertError;
use crate::options::ConvertOptions;

/// The data area behind a meta: which devices it has, in order.
#[derive(Debug, Default)]
pub(crate) struct DataArea {
    /// Of each source layer: the first block of its device in the data area.
    bases: Vec<Option<u64>>,
    /// The layers whose devices there are.
    pub(crate) layers: Vec<u16>,
    ids: Vec<DeviceId>,
    blocks: u64,
}

impl DataArea {
    /// Adds a device at the end.
    pub(crate) fn push(&mut self, layer: u16, id: DeviceId, blocks: u32) {
        let index = usize::from(layer);
        if self.bases.len() <= index {
            self.bases.resize(index + 1, None);
        }
        if let Some(base) = self.bases.get_mut(index) {
            *base = Some(self.blocks);
        }
        self.blocks += u64::from(blocks);
        self.layers.push(layer);
        self.ids.push(id);
    }

    /// Returns the first block of a layer's device.
    pub(crate) fn base(&self, layer: u16) -> Option<u64> {
        self.bases.get(usize::from(layer)).copied().flatten()
    }
}

/// Calls `each` with the layer of every run of data, inodes ascending.
pub(crate) fn for_each_use(tree: &Tree, contents: &ContentTable, mut each: impl FnMut(u16)) {
    for id in tree.ids() {
        contents.for_each_run(&tree.inode(id), |_, place| {
            if let Some(place) = place {
                each(place.device);
            }
        });
    }
}

/// Tells the EROFS writer where data lies.
struct RunPlaces<'a> {
    tree: &'a Tree,
    contents: &'a ContentTable,
    area: &'a DataArea,
}

impl Placements for RunPlaces<'_> {
    fn runs(&self, inode: InodeId, runs: &mut Vec<BlockRun>) -> io::Result<()> {
        self.contents.for_each_run(&self.tree.inode(inode), |blocks, place| {
            let base = |device| self.area.base(device).expect("the area has every device that the tree uses");
            runs.push(to_run(blocks, place, base));
        });
        Ok(())
    }
}

/// A tree with everything decided.
pub(crate) struct PlannedImage<'a> {
    layout: ErofsLayout<'a>,
    places: RunPlaces<'a>,
    origin: &'a str,
}

impl<'a> PlannedImage<'a> {
    pub(crate) fn plan(
        tree: &'a Tree,
        contents: &'a ContentTable,
        area: &'a DataArea,
        kind: ImageKind,
        options: &ConvertOptions,
        origin: &'a str,
    ) -> Result<Self, ConvertError> {
        let places = RunPlaces { tree, contents, area };
        let plan = dimsum_erofs::ErofsOptions { slice_blocks_log2: options.slice_blocks_log2(), kind };
        let layout = ErofsLayout::plan(tree, &places, plan);
        let layout = layout.map_err(|source| ConvertError::Layout { origin: origin.to_owned(), source })?;
        Ok(Self { layout, places, origin })
    }

    /// Blocks of the EROFS image.
    pub(crate) fn blocks(&self) -> u32 {
        self.layout.blocks()
    }

    /// Works out addresses and uuid for a meta of `meta_length` bytes, which takes one pass over the tree.
    pub(crate) fn address(&self, meta_length: u64) -> Result<WriteParams, ConvertError> {
        let limit = |part, value, limit| ConvertError::format(self.origin, FormatError::Limit { part, value, limit });
        if meta_length > MAX_META_BYTES {
            return Err(limit("meta", meta_length, MAX_META_BYTES));
        }
        let meta_blocks = meta_length / BLOCK_U64;
        let total = meta_blocks + self.places.area.blocks;
        if total > MAX_FLAT_BLOCKS {
            return Err(limit("blocks of the flat image", total, MAX_FLAT_BLOCKS));
        }
        let fits = "MAX_FLAT_BLOCKS has 32 bits";
        let mut params = WriteParams {
            data_base: u32::try_from(meta_blocks).expect(fits),
            total_blocks: u32::try_from(total).expect(fits),
            uuid: [0; 16],
            checksum: false,
        };
        let mut hasher = blake3::Hasher::new();
        let hashed = self.write(&params, &mut hasher);
        hashed.map_err(|source| ConvertError::Meta { origin: self.origin.to_owned(), source })?;
        for id in &self.places.area.ids {
            hasher.update(id.as_bytes());
        }
        let hash = hasher.finalize();
        params.uuid = uuid(hash.as_bytes());
        params.checksum = true;
        Ok(params)
    }

    pub(crate) fn write(&self, params: &WriteParams, out: &mut impl Write) -> io::Result<()> {
        self.layout.write(&self.places, params, out)
    }
}

/// Makes a version 8 uuid of the first bytes of a digest.
fn uuid(digest: &[u8; 32]) -> [u8; 16] {
    let mut uuid: [u8; 16] = *digest.first_chunk().expect("a digest has 32 bytes");
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    uuid
}
