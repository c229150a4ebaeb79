//! One pack as a strip of boxes, in SVG.
//!
//! A picture of tens of thousands of boxes is unreadable and slow. Above [`MAX_CELLS`] chunks, neighbours are joined
//! into one box until the limit holds.

use std::fmt::{self, Write};

use dimsum_engine::MetaMaps;
use dimsum_engine::analysis::chunks::{ChunkKind, ChunkRow, OtherImage, PackMap};
use dimsum_engine::analysis::usage::WatchFiles;

use super::page::Html;
use crate::output::Size;

/// Boxes of a picture: with at most some 500 bytes each they stay below 1.5 MB.
pub(super) const MAX_CELLS: u64 = 2800;
/// Names of files that a box shows, and names of other images.
const MAX_NAMES: usize = 3;
/// Bytes of a name that are shown; the end of a path says more than its start.
const MAX_NAME: usize = 64;
/// Units of the picture: its width, the height of a line, and what is between lines.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 30.0;
const GAP: f64 = 6.0;
/// A box that is narrower is not seen.
const MIN_WIDTH: f64 = 1.6;
/// Boxes on a line on average, as far as the number of lines allows.
const PER_LINE: u64 = 56;
/// Lines of the whole picture, about.
const LINES: std::ops::RangeInclusive<u64> = 3..=48;

/// Which chunks are one box, and which files lie in it.
#[derive(Debug)]
pub struct Cells {
    per_cell: usize,
    /// Stored bytes of a unit of width.
    scale: f64,
    /// For each pack, for each box.
    packs: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, Default)]
struct Cell {
    names: Vec<Vec<u8>>,
    files: u64,
    /// The file that was named last: a file with several chunks in one box is one.
    last: Vec<u8>,
}

impl Cells {
    /// Plans the boxes of an image.
    #[must_use]
    pub fn new(maps: &MetaMaps) -> Self {
        let chunks: u64 = maps.devices.iter().map(|device| device.map.chunks()).sum();
        // Each pack may end with a box that is not full.
        let room = MAX_CELLS.saturating_sub(maps.devices.len() as u64).max(1);
        let per_cell = chunks.div_ceil(room).max(1);
        let cells = chunks.div_ceil(per_cell);
        let stored: u64 = maps.devices.iter().map(|device| device.frames.length()).sum();
        let lines = (cells / PER_LINE).clamp(*LINES.start(), *LINES.end());
        let scale = stored as f64 / (lines as f64 * WIDTH);
        let count = |chunks: u64| usize::try_from(chunks.div_ceil(per_cell)).unwrap_or(0);
        let packs = maps.devices.iter().map(|device| vec![Cell::default(); count(device.map.chunks())]).collect();
        Self { per_cell: usize::try_from(per_cell).unwrap_or(usize::MAX), scale: scale.max(1.0), packs }
    }

    /// Chunks in a box.
    pub(super) const fn per_cell(&self) -> usize {
        self.per_cell
    }
}

impl WatchFiles for Cells {
    fn file(&mut self, device: usize, number: u32, path: &[u8]) {
        let at = number as usize / self.per_cell;
        let Some(cell) = self.packs.get_mut(device).and_then(|cells| cells.get_mut(at)) else { return };
        if cell.last == path {
            return;
        }
        path.clone_into(&mut cell.last);
        cell.files = cell.files.saturating_add(1);
        if cell.names.len() < MAX_NAMES {
            cell.names.push(path.to_vec());
        }
    }
}

/// Draws a pack.
pub(super) fn strip(
    number: usize,
    pack: &PackMap,
    with: &[OtherImage],
    cells: &Cells,
    out: &mut String,
) -> fmt::Result {
    let mut boxes = String::new();
    let (mut x, mut y) = (0.0, 0.0);
    let files = cells.packs.get(number).map(Vec::as_slice).unwrap_or_default();
    let none = Cell::default();
    for (at, rows) in pack.chunks.chunks(cells.per_cell).enumerate() {
        let stored: u64 = rows.iter().map(|row| row.stored).sum();
        let width = (stored as f64 / cells.scale).clamp(MIN_WIDTH, WIDTH);
        if x > 0.0 && x + width > WIDTH {
            (x, y) = (0.0, y + HEIGHT + GAP);
        }
        boxes.push_str("<g><title>");
        title(at.saturating_mul(cells.per_cell), rows, with, files.get(at).unwrap_or(&none), &mut boxes)?;
        boxes.push_str("</title>");
        draw(rows, x, y, width, &mut boxes)?;
        boxes.push_str("</g>\n");
        x += width;
    }
    let height = y + HEIGHT;
    write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"chunks of pack {number}\">\n{boxes}</svg>"
    )
}

/// Draws one box: what is not used as ground, on it a layer of colour for each class, as high as its share.
fn draw(rows: &[ChunkRow], x: f64, y: f64, width: f64, out: &mut String) -> fmt::Result {
    // Boxes that touch would be one.
    let shown = width - (width * 0.15).min(0.8);
    let blocks: u64 = rows.iter().map(|row| u64::from(row.blocks)).sum();
    let ground = if rows.iter().all(|row| row.used_blocks == 0) { "dead" } else { "bes" };
    let mut classes: Vec<(u32, u64)> = Vec::new();
    for row in rows.iter().filter(|row| row.used_blocks > 0) {
        // The first image that has it, 32 for none: those come last and stand on top.
        let first = row.shared_with.trailing_zeros();
        match classes.iter_mut().find(|class| class.0 == first) {
            Some(class) => class.1 = class.1.saturating_add(row.used_blocks.into()),
            None => classes.push((first, row.used_blocks.into())),
        }
    }
    classes.sort_unstable();
    let used: u64 = classes.iter().map(|class| class.1).sum();
    if used < blocks {
        rect(ground, x, y, shown, HEIGHT, out)?;
    }
    let mut bottom = y + HEIGHT;
    for (first, part) in classes {
        let height = HEIGHT * part as f64 / blocks.max(1) as f64;
        bottom -= height;
        match first {
            u32::BITS.. => rect("own", x, bottom, shown, height, out)?,
            image => rect(&format!("s{image}"), x, bottom, shown, height, out)?,
        }
    }
    if rows.iter().all(|row| row.kind == ChunkKind::Bundle) {
        rect("b", x, y, shown, 3.0, out)?;
    }
    Ok(())
}

fn rect(class: &str, x: f64, y: f64, width: f64, height: f64, out: &mut String) -> fmt::Result {
    write!(out, "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>")
}

/// Says what a box is.
fn title(first: usize, rows: &[ChunkRow], with: &[OtherImage], cell: &Cell, out: &mut String) -> fmt::Result {
    let stored: u64 = rows.iter().map(|row| row.stored).sum();
    let blocks: u64 = rows.iter().map(|row| u64::from(row.blocks)).sum();
    let used: u64 = rows.iter().map(|row| u64::from(row.used_blocks)).sum();
    match rows {
        [only] => {
            let kind = match only.kind {
                ChunkKind::Slice => ", slice",
                ChunkKind::Bundle => ", bundle",
                ChunkKind::Unknown => "",
            };
            writeln!(out, "chunk {first}{kind}\n{}", only.digest)?;
        }
        rows => writeln!(out, "chunks {first} to {}", first.saturating_add(rows.len()).saturating_sub(1))?,
    }
    let uncompressed = blocks.saturating_mul(dimsum_engine::BLOCK_U64);
    let percent = used as f64 * 100.0 / blocks.max(1) as f64;
    write!(out, "{} stored, {} uncompressed, {percent:.0} % used", Size(stored), Size(uncompressed))?;
    let shared = |number: usize| rows.iter().filter(|row| row.shared_with >> number & 1 == 1).count();
    let sharing =
        || with.iter().enumerate().map(|(number, other)| (shared(number), other)).filter(|(count, _)| *count > 0);
    for (shared, other) in sharing().take(MAX_NAMES) {
        match (shared, rows.len()) {
            (all, count) if all == count => write!(out, "\nalso in {}", short(other.image.as_bytes()))?,
            (some, _) => write!(out, "\n{some} of them also in {}", short(other.image.as_bytes()))?,
        }
    }
    let more = sharing().count().saturating_sub(MAX_NAMES);
    if more > 0 {
        write!(out, "\nand in {more} more images")?;
    }
    for name in &cell.names {
        write!(out, "\n/{}", short(name))?;
    }
    let more = cell.files.saturating_sub(cell.names.len() as u64);
    if more > 0 {
        write!(out, "\nand {more} more files")?;
    }
    Ok(())
}

/// The end of a long name.
fn short(name: &[u8]) -> String {
    match name.len().checked_sub(MAX_NAME) {
        None | Some(0) => Html(name).to_string(),
        Some(cut) => {
            // Not in the middle of a character.
            let rest = name.get(cut..).unwrap_or_default();
            let skip = rest.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
            format!("…{}", Html(rest.get(skip..).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use dimsum_format::map::{DeviceMap, FrameMap};
    use dimsum_format::meta::MappedDevice;
    use dimsum_format::{Blake3, Digest};

    use super::*;
    use dimsum_engine::analysis::chunks::StoredParts;
    use dimsum_engine::analysis::sharing::ChunkSum;

    fn maps(devices: &[u32]) -> MetaMaps {
        let device = |chunks: u32| {
            let (mut map, mut frames) = (DeviceMap::default(), FrameMap::default());
            for _ in 0..chunks {
                map.push(64, Blake3::new([7; 32])).unwrap();
                frames.push(100_000).unwrap();
            }
            MappedDevice { id: map.id(), map, frames, first_block: 0 }
        };
        MetaMaps { erofs_blocks: 1, meta_blocks: 1, devices: devices.iter().copied().map(device).collect() }
    }

    /// The largest picture that there can be, names as long as they get, all of them of characters that have to be escaped.
    #[test]
    fn a_picture_of_however_many_chunks_is_small() {
        let maps = maps(&[70_000, 1, 29_999]);
        let mut cells = Cells::new(&maps);
        let rows = |count| {
            let row = ChunkRow {
                digest: Blake3::new([7; 32]),
                blocks: 64,
                used_blocks: 40,
                stored: 100_000,
                kind: ChunkKind::Bundle,
                shared_with: 1,
            };
            vec![row; count]
        };
        let mut out = String::new();
        let with = [OtherImage { image: "other".into(), manifest: Digest::of(b"") }];
        for (number, count) in [70_000, 1, 29_999].into_iter().enumerate() {
            for chunk in 0..count {
                for name in 0..5 {
                    cells.file(
                        number,
                        chunk,
                        format!("a/long/way/to/a/file/that/lies/in/chunk/{chunk}/{name}").as_bytes(),
                    );
                }
            }
            let pack = PackMap {
                digest: Digest::of(b""),
                bytes: 0,
                device: maps.devices[number].id,
                device_bytes: 0,
                used_bytes: 0,
                source_diff_id: None,
                foreign: None,
                on_node: false,
                node: ChunkSum::default(),
                parts: StoredParts::default(),
                slices: 0,
                bundles: 0,
                dead: ChunkSum::default(),
                shared_with: Vec::new(),
                chunks: rows(count as usize),
            };
            strip(number, &pack, &with, &cells, &mut out).unwrap();
        }
        let boxes = out.matches("<g>").count() as u64;
        assert!(boxes <= MAX_CELLS && boxes > MAX_CELLS / 2, "{boxes}");
        assert!(out.len() < 1_500_000, "{}", out.len());
    }

    #[test]
    fn a_long_name_keeps_its_end_and_no_half_character() {
        let name = format!("{}ä{}", "x".repeat(50), "y".repeat(63));
        assert_eq!(short(name.as_bytes()), format!("…{}", "y".repeat(63)));
        assert_eq!(short(b"<b>"), "&lt;b&gt;");
    }
}
