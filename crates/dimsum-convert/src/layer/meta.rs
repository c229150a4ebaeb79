//! The layer meta: a pack's description of itself (`docs/format.md`, section 3.1).

use std::io::{self, Write};

use dimsum_erofs::{ImageKind, WriteParams};
use dimsum_format::pack::{
    FILE_ROW, FileRow, LayerMetaFooter, META_FOOTER_BYTES, PackFooter, REFERENCE_ROW, SKIPPABLE_LAYER_META,
    skippable_header,
};
use dimsum_format::{BLOCK_U64, Blake3, DeviceId, FormatError};

use super::chunks::Maps;
use super::pack::{PackContent, PackContext};
use crate::blob::BlobOut;
use crate::erofs::{DataArea, PlannedImage, for_each_use};
use crate::error::ConvertError;
use crate::stream::stream;

/// Bytes copied at a time from the temporary file.
const COPY: u64 = 256 << 10;

/// Rows of the file table that are made together.
const ROWS_AT_A_TIME: usize = 4096;

/// Writes layer meta and footer behind the frames of a pack; returns the bytes of the compressed layer meta.
pub(super) fn write(
    plan: &PackContent,
    maps: &Maps,
    common: PackContext<'_>,
    out: &mut BlobOut<'_>,
) -> Result<u64, ConvertError> {
    let origin = &*plan.origin;
    let failed = |source| ConvertError::format(origin, source);
    let area = data_area(plan, maps.0.blocks(), common);
    let layer_meta = LayerMetaImage::plan(plan, maps, common, &area)?;
    let length = layer_meta.footer.length();
    // The length of a skippable frame stands before it, so what is in it must be known first.
    let compressed = common.temporaries.create()?;
    let mut put = |bytes: &[u8]| Ok(compressed.append(bytes).map(drop)?);
    let (jobs, level) = (common.jobs, common.options.level);
    let streamed = stream(jobs, level, origin, length, &mut put, |stream| layer_meta.write(stream))?;
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
        layer_meta_length: length,
        layer_meta_compressed: u32::try_from(compressed.len()).map_err(|_| failed(limit))?,
        layer_meta_digest: streamed.digest,
    };
    out.put(&footer.to_bytes())?;
    Ok(compressed.len())
}

/// Returns the BLAKE3 of the layer meta, without compressing it.
pub(super) fn digest(plan: &PackContent, maps: &Maps, common: PackContext<'_>) -> Result<Blake3, ConvertError> {
    let area = data_area(plan, maps.0.blocks(), common);
    let mut hasher = blake3::Hasher::new();
    let written = LayerMetaImage::plan(plan, maps, common, &area)?.write(&mut hasher);
    written.map_err(|source| ConvertError::Meta { origin: plan.origin.clone(), source })?;
    Ok(Blake3::new(*hasher.finalize().as_bytes()))
}

/// A layer meta of which every byte is decided.
struct LayerMetaImage<'a> {
    plan: &'a PackContent,
    maps: &'a Maps,
    common: PackContext<'a>,
    area: &'a DataArea,
    image: PlannedImage<'a>,
    params: WriteParams,
    footer: LayerMetaFooter,
}

impl<'a> LayerMetaImage<'a> {
    fn plan(
        plan: &'a PackContent,
        maps: &'a Maps,
        common: PackContext<'a>,
        area: &'a DataArea,
    ) -> Result<Self, ConvertError> {
        let origin = &*plan.origin;
        let image = PlannedImage::plan(&plan.tree, common.contents, area, ImageKind::Layer, common.options, origin)?;
        let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
        let footer = LayerMetaFooter {
            erofs_blocks: image.blocks(),
            blocks: maps.0.blocks(),
            chunks: count(maps.0.chunks()),
            references: count(references(area).count() as u64),
            files: count(plan.device.files.len() as u64),
        };
        let params = image.address(footer.length())?;
        Ok(Self { plan, maps, common, area, image, params, footer })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { plan, maps: (map, frames), common, area, footer, .. } = self;
        self.image.write(&self.params, out)?;
        let (map, frames) = (map.to_bytes(), frames.to_bytes());
        out.write_all(&map)?;
        out.write_all(&frames)?;
        for (id, blocks) in references(area).filter_map(|number| device(*common, number)) {
            out.write_all(id.as_bytes())?;
            out.write_all(&blocks.to_le_bytes())?;
        }
        for files in plan.device.files.chunks(ROWS_AT_A_TIME) {
            let records = plan.rows.records(files).map_err(io::Error::other)?;
            for (&file, record) in files.iter().zip(&records) {
                let block = common.contents.small.place(file).block;
                let row = FileRow { digest: record.digest, block, length: record.length };
                out.write_all(&row.to_bytes())?;
            }
        }
        let rows = references(area).count() * REFERENCE_ROW + plan.device.files.len() * FILE_ROW;
        let rows = map.len() + frames.len() + rows;
        let end = u64::from(footer.erofs_blocks) * BLOCK_U64 + (rows + META_FOOTER_BYTES) as u64;
        let zeros = usize::try_from(footer.length() - end).expect("less than a block");
        out.write_all(&vec![0; zeros])?;
        out.write_all(&footer.to_bytes())
    }
}

/// The layer's own device, then others in the order of first use.
fn data_area(plan: &PackContent, blocks: u32, common: PackContext<'_>) -> DataArea {
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

fn device(common: PackContext<'_>, number: u16) -> Option<(DeviceId, u32)> {
    common.devices.get(usize::from(number)).copied().flatten()
}

/// All devices but the layer's own, which is the first.
fn references(area: &DataArea) -> impl Iterator<Item = u16> {
    area.layers.iter().copied().skip(1)
}
