//! The layer meta: what a pack says of itself (`docs/format.md`, section 3.1).

use std::io::Write as _;

use dimsum_erofs::ImageKind;
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_format::pack::{
    FILE_ROW, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, REFERENCE_ROW, SKIPPABLE_LAYER_META, skippable_header,
};
use dimsum_format::{BLOCK_U64, DeviceId, FormatError};

use super::pack::Parts;
use crate::blob::BlobOut;
use crate::content::SmallRecord;
use crate::erofs::{DataArea, Image, for_each_use};
use crate::error::Error;
use crate::stream::stream;

/// Bytes copied at a time from the temporary file.
const COPY: u64 = 256 << 10;

/// Rows of the file table that are made together.
const ROWS_AT_A_TIME: usize = 4096;

/// What the device says.
pub(super) struct LayerMeta<'a> {
    pub(super) map: &'a DeviceMap,
    pub(super) frames: &'a FrameMap,
    pub(super) id: DeviceId,
}

/// Writes layer meta and footer behind the frames of a pack; returns the bytes of the compressed layer meta.
pub(super) fn write(parts: &Parts<'_>, layer: &LayerMeta<'_>, out: &mut BlobOut<'_>) -> Result<u64, Error> {
    let failed = |source| Error::format(parts.origin, source);
    let area = data_area(parts, layer);
    let image = Image::plan(parts.tree, parts.contents, &area, ImageKind::Layer, parts.options, parts.origin)?;
    let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
    let footer = LayerMetaFooter {
        erofs_blocks: image.blocks(),
        blocks: layer.map.blocks(),
        chunks: count(layer.map.chunks()),
        references: count(references(&area).count() as u64),
        files: count(parts.device.files.len() as u64),
    };
    let params = image.address(footer.length())?;
    // The length of a skippable frame stands before it, so what is in it must be known first.
    let compressed = parts.temporaries.create()?;
    let mut put = |bytes: &[u8]| compressed.append(bytes).map(drop);
    let streamed =
        stream(parts.options.jobs, parts.options.level, parts.origin, footer.length(), &mut put, |stream| {
            image.write(&params, stream)?;
            stream.write_all(&layer.map.to_bytes())?;
            stream.write_all(&layer.frames.to_bytes())?;
            for (id, blocks) in references(&area).filter_map(|number| lower(parts, number)) {
                stream.write_all(id.as_bytes())?;
                stream.write_all(&blocks.to_le_bytes())?;
            }
            for files in parts.device.files.chunks(ROWS_AT_A_TIME) {
                let records = parts.contents.small.records(files).map_err(std::io::Error::other)?;
                for (&file, record) in files.iter().zip(&records) {
                    stream.write_all(&file_row(record, parts.contents.small.place(file).block))?;
                }
            }
            let rows = layer.map.to_bytes().len() + layer.frames.to_bytes().len();
            let rows = rows + references(&area).count() * REFERENCE_ROW + parts.device.files.len() * FILE_ROW;
            let end = u64::from(footer.erofs_blocks) * BLOCK_U64 + (rows + META_FOOTER_BYTES) as u64;
            let zeros = usize::try_from(footer.length() - end).expect("less than a block");
            stream.write_all(&vec![0; zeros])?;
            stream.write_all(&footer.to_bytes())
        })?;
    let layer_meta_offset = out.size();
    out.put(&skippable_header(SKIPPABLE_LAYER_META, compressed.len()).map_err(failed)?)?;
    let mut at = 0;
    let mut buffer = Vec::new();
    while at < compressed.len() {
        let piece = (compressed.len() - at).min(COPY);
        buffer.resize(usize::try_from(piece).expect("at most COPY"), 0);
        compressed.read(at, &mut buffer)?;
        out.put(&buffer)?;
        at += piece;
    }
    let limit = FormatError::Limit { part: "layer meta", value: compressed.len(), limit: u64::from(u32::MAX) };
    let footer = PackFooter {
        layer_meta_offset,
        layer_meta_length: footer.length(),
        layer_meta_compressed: u32::try_from(compressed.len()).map_err(|_| failed(limit))?,
        layer_meta_digest: streamed.digest,
    };
    out.put(&footer.to_bytes())?;
    Ok(compressed.len())
}

/// The layer's own device, then others in the order of first use.
fn data_area(parts: &Parts<'_>, layer: &LayerMeta<'_>) -> DataArea {
    let mut area = DataArea::default();
    area.push(parts.number, layer.id, layer.map.blocks());
    for_each_use(parts.tree, parts.contents, |number| {
        if area.base(number).is_none()
            && let Some((id, blocks)) = lower(parts, number)
        {
            area.push(number, id, blocks);
        }
    });
    area
}

fn lower(parts: &Parts<'_>, number: u16) -> Option<(DeviceId, u32)> {
    parts.lower.get(usize::from(number)).copied().flatten()
}

/// All devices but the layer's own, which is the first.
fn references(area: &DataArea) -> impl Iterator<Item = u16> {
    area.layers.iter().copied().skip(1)
}

fn file_row(record: &SmallRecord, block: u32) -> [u8; FILE_ROW] {
    let mut row = [0; FILE_ROW];
    let (digest, rest) = row.split_at_mut(32);
    let (first, length) = rest.split_at_mut(4);
    digest.copy_from_slice(record.digest.as_bytes());
    first.copy_from_slice(&block.to_le_bytes());
    length.copy_from_slice(&record.length.to_le_bytes());
    row
}
