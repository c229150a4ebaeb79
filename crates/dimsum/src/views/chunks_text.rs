//! The picture of an image's chunks, for a terminal.

use std::io::{self, Write};

use super::chunks::{ChunkMap, PackMap, Parts};
use super::count::Count;
use super::sharing::Sum;
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
        let Parts { own, shared, beside, dead, layer_metas, meta } = self.parts;
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
            self.write_matrix(out)?;
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
    writeln!(out, "           {}", pack.in_words())?;
    if !pack.on_node && pack.node.chunks > 0 {
        let (count, stored) = (Count(pack.node.chunks, "chunk"), Size(pack.node.stored));
        writeln!(out, "           on this node: {count}, stored {stored}")?;
    }
    for (other, Sum { chunks, bytes, stored }) in pack.shared_with.iter().enumerate() {
        if *chunks > 0 {
            let (bytes, stored) = (Size(*bytes), Size(*stored));
            let count = Count(*chunks, "chunk");
            writeln!(out, "           in image {} too: {count}, {bytes}, stored {stored}", other + 1)?;
        }
    }
    Ok(())
}

impl ChunkMap {
    /// Stored bytes that each two images have in common.
    fn write_matrix(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "shared    ")?;
        for number in 0..self.matrix.len() {
            write!(out, " {:>10}", if number == 0 { "this".to_owned() } else { format!("image {number}") })?;
        }
        for (number, row) in self.matrix.iter().enumerate() {
            let name = if number == 0 { "this".to_owned() } else { format!("image {number}") };
            write!(out, "\n  {name:<8}")?;
            for sum in row {
                write!(out, " {:>10}", Size(sum.stored).to_string())?;
            }
        }
        writeln!(out)
    }
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
