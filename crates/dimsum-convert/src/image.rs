//! Writes the image tree over the devices it uses, as a meta blob.

use std::io::Write as _;

use dimsum_erofs::ImageKind;
use dimsum_format::codec::meta_level;
use dimsum_format::index::MetaIndex;
use dimsum_format::limits::MAX_PACKS;
use dimsum_format::meta::MetaMaps;
use dimsum_format::{DeviceId, Digest, FormatError, MetaRoot};
use dimsum_tree::Tree;

use crate::blob::{BlobOut, WholeBlob};
use crate::content::ContentTable;
use crate::erofs::{DataArea, PlannedImage, for_each_use};
use crate::error::ConvertError;
use crate::layer::Maps;
use crate::options::ConvertOptions;
use crate::stream::stream;

/// A meta that is written but not visible yet.
pub(crate) struct WrittenMeta<'t> {
    pub(crate) blob: WholeBlob<'t>,
    pub(crate) root: MetaRoot,
    /// SHA-256 of the uncompressed meta.
    pub(crate) diff_id: Digest,
    pub(crate) length: u64,
    pub(crate) flat_blocks: u32,
}

const ORIGIN: &str = "image";

/// Says of each device, by its number, whether the image uses something of it.
pub(crate) fn live(tree: &Tree, contents: &ContentTable) -> Result<Vec<bool>, ConvertError> {
    let mut live = Vec::new();
    for_each_use(tree, contents, |number| {
        let number = usize::from(number);
        if live.len() <= number {
            live.resize(number + 1, false);
        }
        if let Some(live) = live.get_mut(number) {
            *live = true;
        }
    });
    let listed = live.iter().filter(|live| **live).count();
    if listed > MAX_PACKS {
        let source = FormatError::Limit { part: "packs of an image", value: listed as u64, limit: MAX_PACKS as u64 };
        return Err(ConvertError::format(ORIGIN, source));
    }
    Ok(live)
}

/// Writes the meta over the listed devices, each a number and an id; `maps` are theirs.
pub(crate) fn write_meta<'t>(
    tree: &Tree,
    contents: &ContentTable,
    listed: &[(u16, DeviceId)],
    maps: &[Maps],
    options: &ConvertOptions,
    mut out: BlobOut<'t>,
) -> Result<WrittenMeta<'t>, ConvertError> {
    let mut area = DataArea::default();
    for ((number, id), (map, _)) in listed.iter().zip(maps) {
        area.push(*number, *id, map.blocks());
    }
    let image = PlannedImage::plan(tree, contents, &area, ImageKind::Image, options, ORIGIN)?;
    let length = MetaMaps::footer(image.blocks(), maps).length();
    let params = image.address(length)?;
    let mut put = |bytes: &[u8]| out.put(bytes);
    let streamed = stream(options.jobs, meta_level(options.level), ORIGIN, length, &mut put, |stream| {
        image.write(&params, stream)?;
        stream.write_all(&MetaMaps::tail_bytes(image.blocks(), maps))
    })?;
    let index = MetaIndex::to_bytes(&streamed.frames, &streamed.values, length);
    out.put(&index.map_err(|source| ConvertError::format(ORIGIN, source))?)?;
    Ok(WrittenMeta {
        blob: out.finish(),
        root: MetaRoot::new(*streamed.digest.as_bytes()),
        diff_id: streamed.diff_id,
        length,
        flat_blocks: params.total_blocks,
    })
}
