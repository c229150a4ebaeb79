//! The figures of a conversion, for people.

use std::io::{self, Write};

use dimsum_engine::conversion::{
    ConversionOutcome, ConversionSummary, IndexSummary, IndexedConversion, KeptRecipe, LeftOutImage, OriginalSummary,
};

use crate::commands::sharing_text::write_sharing;
use crate::output::{Name, Report, Size, Tame};

impl Report for ConversionOutcome {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Image(image) => write_image(image, out),
            Self::Index(index) => write_index(index, out),
        }
    }
}

fn write_image(image: &ConversionSummary, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "manifest   {}", image.manifest)?;
    writeln!(out, "root       {}", image.root)?;
    let listed = image.layers.iter().filter(|layer| layer.pack.is_some()).count();
    writeln!(out, "layers     {} ({listed} packs), {} inodes", image.layers.len(), image.inodes)?;
    writeln!(out, "read       {}, contents {}", Size(image.bytes_in), Size(image.content_bytes))?;
    writeln!(out, "shared     {}, zeros {}", Size(image.shared_bytes), Size(image.null_bytes))?;
    let (meta, uncompressed) = (Size(image.meta_stored_bytes), Size(image.meta_bytes));
    writeln!(out, "stored     {}, of this meta {meta} ({uncompressed} uncompressed)", Size(image.stored_bytes))?;
    let there = Size(image.stored_bytes.saturating_sub(image.new_bytes));
    writeln!(out, "new        {}; in packs that were there already {there}", Size(image.new_bytes))?;
    write_notes(image, out)?;
    writeln!(out, "temporary  {}", Size(image.temp_bytes))?;
    writeln!(out, "time       {:.2} s", image.seconds)
}

/// Writes the lines that must be seen of an image of an index too: packs of other images, recipes, refusals, omissions.
fn write_notes(image: &ConversionSummary, out: &mut dyn Write) -> io::Result<()> {
    write_sharing(&image.sharing, out)?;
    if let Some(original) = &image.original {
        write_original(original, out)?;
    }
    if image.dropped_xattrs + image.dropped_overlay > 0 {
        let (xattrs, overlay) = (image.dropped_xattrs, image.dropped_overlay);
        writeln!(out, "left out   {xattrs} extended attributes, {overlay} entries of overlayfs")?;
        for dropped in &image.dropped {
            // Paths come escaped.
            writeln!(out, "           {}", Tame(dropped))?;
        }
    }
    Ok(())
}

fn write_original(original: &OriginalSummary, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "original   {}, packs beside it {}", original.manifest, Size(original.pack_bytes))?;
    for KeptRecipe { layer, bytes, gives, reason } in &original.recipes {
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        writeln!(out, "  recipe   {layer} {}, gives the {gives}{reason}", Size(*bytes))?;
    }
    Ok(())
}

fn write_index(index: &IndexSummary, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "index      {}", index.index)?;
    for IndexedConversion { platform, original, summary } in &index.images {
        let platform = shown(platform.as_deref());
        let (manifest, stored, new) = (summary.manifest, Size(summary.stored_bytes), Size(summary.new_bytes));
        writeln!(out, "{platform:<10} {manifest} of {original}, stored {stored}, of this new {new}")?;
        write_notes(summary, out)?;
    }
    for LeftOutImage { digest, platform, reason } in &index.left_out {
        writeln!(out, "left out   {digest} {}: {reason}", shown(platform.as_deref()))?;
    }
    writeln!(out, "time       {:.2} s", index.seconds)
}

/// A platform as an index says it, which may say anything.
fn shown(platform: Option<&str>) -> String {
    Name(platform.unwrap_or("-").as_bytes()).to_string()
}
