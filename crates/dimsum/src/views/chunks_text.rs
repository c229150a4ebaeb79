//! The picture of an image's chunks, for a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use dimsum_engine::analysis::chunks::{ChunkMap, PackMap, StoredParts};
use dimsum_engine::analysis::sharing::ChunkSum;

use super::count::Count;
use crate::output::{Name, Report, Size};

impl Report for ChunkMap {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "image      {}", self.image)?;
        writeln!(out, "manifest   {}", self.manifest)?;
        for (number, other) in self.with.iter().enumerate() {
            writeln!(out, "with {:<5} {} {}", number + 1, other.image, other.manifest)?;
        }
        let packs = Count(self.packs.len() as u64, "pack");
        let chunks = Count(self.packs.iter().map(|pack| pack.chunks.len() as u64).sum(), "chunk");
        let (stored, files) = (Size(self.stored_bytes), Count(self.files, "file"));
        writeln!(out, "stored     {stored} in {packs} and the meta: {chunks}, {files}")?;
        let StoredParts { own, shared, beside, dead, layer_metas, meta } = self.parts;
        let bar = |part: u64| Bar { part, whole: self.stored_bytes };
        for (part, what) in [
            (own, "used by the tree, in no other image named here"),
            (shared, "used by the tree, and in another image too"),
            (beside, "not used, in chunks that are: fetched along"),
            (dead, "chunks of which nothing is used: fetched by a fill only"),
            (layer_metas, "what packs say of themselves, for converters: fetched by a fill only"),
            (meta, "the meta: tree and maps"),
        ] {
            if part > 0 {
                writeln!(out, "           {} {:>10}  {what}", bar(part), Size(part).to_string())?;
            }
        }
        for (number, pack) in self.packs.iter().enumerate() {
            write_pack(number, pack, out)?;
        }
        if self.with.is_empty() {
            writeln!(out, "sharing    not looked for: --with REF compares with other images")?;
        } else {
            write_matrix(self, out)?;
        }
        if !self.directories.is_empty() {
            writeln!(out, "dearest directories, by the stored bytes of what is below them")?;
        }
        for bill in &self.directories {
            let stored = Size(bill.stored).to_string();
            writeln!(
                out,
                "{stored:>10} {} {:>10} uncompressed  /{}",
                bar(bill.stored),
                Size(bill.bytes).to_string(),
                Name(&bill.raw)
            )?;
        }
        Ok(())
    }
}

fn write_pack(number: usize, pack: &PackMap, out: &mut dyn Write) -> io::Result<()> {
    let PackMap { bytes, device_bytes, used_bytes, .. } = pack;
    let here = if pack.on_node { ", whole on this node" } else { "" };
    writeln!(
        out,
        "pack {number:<5} {} stored, {} uncompressed, of these {} used{here}",
        Size(*bytes),
        Size(*device_bytes),
        Size(*used_bytes)
    )?;
    writeln!(out, "           {}", pack.digest)?;
    if let Some(layer) = &pack.source_diff_id {
        writeln!(out, "           layer {}", Name(layer.as_bytes()))?;
    }
    if let Some(image) = &pack.foreign {
        writeln!(out, "           of another image, {}, which may use the rest", Name(image.as_bytes()))?;
    }
    writeln!(out, "           {}", in_words(pack))?;
    if !pack.on_node && pack.node.chunks > 0 {
        let (count, stored) = (Count(pack.node.chunks, "chunk"), Size(pack.node.stored));
        writeln!(out, "           on this node: {count}, stored {stored}")?;
    }
    for (other, ChunkSum { chunks, bytes, stored }) in pack.shared_with.iter().enumerate() {
        if *chunks > 0 {
            let (bytes, stored) = (Size(*bytes), Size(*stored));
            let count = Count(*chunks, "chunk");
            writeln!(out, "           in image {} too: {count}, {bytes}, stored {stored}", other + 1)?;
        }
    }
    Ok(())
}

/// Stored bytes that each two images have in common.
fn write_matrix(map: &ChunkMap, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "shared    ")?;
    for number in 0..map.matrix.len() {
        write!(out, " {:>10}", if number == 0 { "this".to_owned() } else { format!("image {number}") })?;
    }
    for (number, row) in map.matrix.iter().enumerate() {
        let name = if number == 0 { "this".to_owned() } else { format!("image {number}") };
        write!(out, "\n  {name:<8}")?;
        for sum in row {
            write!(out, " {:>10}", Size(sum.stored).to_string())?;
        }
    }
    writeln!(out)
}

/// A part of a whole in 20 columns.
struct Bar {
    part: u64,
    whole: u64,
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const COLUMNS: u64 = 20;
        let full = self.part.saturating_mul(COLUMNS).div_ceil(self.whole.max(1)).min(COLUMNS);
        (0..COLUMNS).try_for_each(|column| f.write_str(if column < full { "#" } else { "." }))
    }
}

/// Says in a line what the chunks of a pack are.
pub(super) fn in_words(pack: &PackMap) -> String {
    let all = pack.chunks.len() as u64;
    let (slices, bundles) = (Count(pack.slices, "slice"), Count(pack.bundles, "bundle"));
    let mut words = format!("{}: {slices}, {bundles}", Count(all, "chunk"));
    let unknown = all.saturating_sub(pack.slices).saturating_sub(pack.bundles);
    // Writing to a string cannot fail.
    if unknown > 0 {
        let _infallible = write!(words, ", {unknown} not told apart");
    }
    if pack.dead.chunks > 0 {
        let _infallible = write!(words, "; nothing used of {} ({} stored)", pack.dead.chunks, Size(pack.dead.stored));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_even_the_smallest_part_and_never_more_than_the_whole() {
        let show = |part, whole| Bar { part, whole }.to_string();
        assert_eq!(show(1, 1000), "#...................");
        assert_eq!(show(500, 1000), "##########..........");
        assert_eq!(show(2000, 1000), "#".repeat(20));
        assert_eq!(show(0, 0), ".".repeat(20));
    }
}
