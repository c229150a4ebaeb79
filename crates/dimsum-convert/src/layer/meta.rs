//! The layer meta: what a pack says of itself (`docs/format.md`, section 3.1).

use std::io::Write as _;

use dimsum_erofs::ImageKind;
use dimsum_format::pack::{
    FILE_ROW, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, REFERENCE_ROW, SKIPPABLE_LAYER_META, skippable_header,
};
use dimsum_format::{BLOCK_U64, DeviceId, FormatError};

use super::chunks::Maps;
use super::pack::{Common, Plan};
use crate::blob::BlobOut;
use crate::content::SmallRecord;
use crate::erofs::{DataArea, Image, for_each_use};
use crate::error::Error;
use crate::stream::stream;

/// Bytes copied at a time from the temporary file.
const COPY: u64 = 256 << 10;

/// Rows of the file table that are made together.
const ROWS_AT_A_TIME: usize = 4096;

/// Writes layer meta and footer behind the frames of a pack; returns the bytes of the compressed layer meta.
pub(super) fn write(plan: &Plan, maps: &Maps, common: Common<'_>, out: &mut BlobOut<'_>) -> Result<u64, Error> {
    let (map, frames) = maps;
    let origin = &*plan.origin;
    let failed = |source| Error::format(origin, source);
    let area = data_area(plan, map.blocks(), common);
    let image = Image::plan(&plan.tree, common.contents, &area, ImageKind::Layer, common.options, origin)?;
    let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
    let footer = LayerMetaFooter {
        erofs_blocks: image.blocks(),
        blocks: map.blocks(),
        chunks: count(map.chunks()),
        references: count(references(&area).count() as u64),
        files: count(plan.device.files.len() as u64),
    };
    let params = image.address(footer.length())?;
    // The length of a skippable frame stands before it, so what is in it must be known first.
    let compressed = common.temporaries.create()?;
    let mut put = |bytes: &[u8]| compressed.append(bytes).map(drop);
    let streamed = stream(common.jobs, common.options.level, origin, footer.length(), &mut put, |stream| {
        image.write(&params, stream)?;
        stream.write_all(&map.to_bytes())?;
        stream.write_all(&frames.to_bytes())?;
        for (id, blocks) in references(&area).filter_map(|number| device(common, number)) {
            stream.write_all(id.as_bytes())?;
            stream.write_all(&blocks.to_le_bytes())?;
        }
        for files in plan.device.files.chunks(ROWS_AT_A_TIME) {
            let records = plan.rows.records(files).map_err(std::io::Error::other)?;
            for (&file, record) in files.iter().zip(&records) {
                stream.write_all(&file_row(record, common.contents.small.place(file).block))?;
            }
        }
        let rows = map.to_bytes().len() + frames.to_bytes().len();
        let rows = rows + references(&area).count() * REFERENCE_ROW + plan.device.files.len() * FILE_ROW;
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
fn data_area(plan: &Plan, blocks: u32, common: Common<'_>) -> DataArea {
    let mut area = DataArea::default();
    area.push(plan.number, plan.id, blocks);
    for_each_use(&plan.tree, common.contents, |number| {
        if area.base(number).is_none()
            && let Some((id, blocks)) = device(common, number)
        {
            area.push(number, id, blocks);
        }
    });
    area
}

fn device(common: Common<'_>, number: u16) -> Option<(DeviceId, u32)> {
    common.devices.get(usize::from(number)).copied().flatten()
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
