//! What came out of converting one image.

use std::io::{self, Write};

use dimsum_convert::Converted;
use dimsum_format::{BLOCK_U64, Digest, MetaRoot};
use serde::Serialize;

use super::Convert;
use super::original::Original;
use crate::commands::sharing_summary::SharingSummary;
use crate::output::{Report, Size, Tame, total};

/// What came out.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    source: &'a str,
    target: &'a str,
    pub(super) manifest: Digest,
    root: MetaRoot,
    layers: Vec<Layer>,
    inodes: u64,
    /// Bytes of the source's blobs, or of a directory's files.
    bytes_in: u64,
    /// Bytes of file contents in all layers.
    content_bytes: u64,
    /// Of these, stored already in a lower layer or elsewhere in the same one.
    shared_bytes: u64,
    /// Of these, only zeros.
    null_bytes: u64,
    /// Bytes of all blobs of the image.
    pub(super) stored_bytes: u64,
    /// Of these, made by this conversion: the rest is in packs that were there already.
    pub(super) new_bytes: u64,
    /// Of the bytes of all blobs, the compressed meta.
    meta_stored_bytes: u64,
    /// Bytes of the uncompressed meta.
    meta_bytes: u64,
    /// Bytes of the flat image.
    flat_bytes: u64,
    /// Bytes that were made or copied; a registry is sent only what it does not have.
    written_bytes: u64,
    /// Peak of temporary files.
    temp_bytes: u64,
    #[serde(flatten)]
    sharing: SharingSummary,
    dropped_xattrs: u64,
    dropped_overlay: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Original>,
    /// The first things left out.
    dropped: Vec<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct Layer {
    source: Option<Digest>,
    diff_id: Option<Digest>,
    blob_bytes: u64,
    tar_bytes: u64,
    content_bytes: u64,
    shared_bytes: u64,
    null_bytes: u64,
    pack: Option<Digest>,
    pack_bytes: u64,
    layer_meta_bytes: u64,
    device_bytes: u64,
    chunks: u64,
}

impl<'a> Summary<'a> {
    pub(super) fn new(command: &'a Convert, converted: &Converted, written_bytes: u64, seconds: f64) -> Self {
        let layers: Vec<Layer> = converted.layers.iter().map(Layer::new).collect();
        let sum = |bytes: fn(&Layer) -> u64| total(layers.iter().map(bytes));
        let packs = sum(|layer| layer.pack_bytes);
        let sharing = SharingSummary::new(&converted.shared);
        let is_layers = |pack: Digest| layers.iter().any(|layer| layer.pack == Some(pack));
        let foreign = sharing.foreign_packs().filter(|(pack, _)| !is_layers(*pack));
        let foreign_bytes = total(foreign.map(|(_, bytes)| bytes));
        let stored_bytes = total([packs, foreign_bytes, converted.meta.size, converted.config.size]);
        let reports = || converted.layers.iter().map(|layer| &layer.report);
        let dropped = reports().flat_map(|report| &report.dropped).map(|dropped| match &dropped.what {
            dimsum_tree::What::Xattr { name } => format!("{}: {name}", dropped.path),
            _ => format!("{}: character device 0:0", dropped.path),
        });
        Summary {
            source: &command.source,
            target: &command.target,
            manifest: converted.manifest,
            root: converted.root,
            inodes: converted.inodes,
            bytes_in: sum(|layer| if layer.source.is_some() { layer.blob_bytes } else { layer.tar_bytes }),
            content_bytes: sum(|layer| layer.content_bytes),
            shared_bytes: sum(|layer| layer.shared_bytes),
            null_bytes: sum(|layer| layer.null_bytes),
            stored_bytes,
            new_bytes: stored_bytes.saturating_sub(sharing.taken_bytes()),
            meta_stored_bytes: converted.meta.size,
            meta_bytes: converted.meta_bytes,
            flat_bytes: u64::from(converted.flat_blocks) * BLOCK_U64,
            written_bytes,
            temp_bytes: converted.temp_bytes,
            sharing,
            dropped_xattrs: reports().map(|report| report.dropped_xattrs).sum(),
            dropped_overlay: reports().map(|report| report.dropped_overlay).sum(),
            original: converted.original.as_ref().map(Original::new),
            dropped: dropped.collect(),
            layers,
            seconds,
        }
    }
}

impl Layer {
    fn new(layer: &dimsum_convert::LayerSummary) -> Self {
        Self {
            source: layer.source,
            diff_id: layer.diff_id,
            blob_bytes: layer.blob_bytes,
            tar_bytes: layer.tar_bytes,
            content_bytes: layer.content_bytes,
            shared_bytes: layer.shared_bytes,
            null_bytes: layer.null_bytes,
            pack: layer.pack.map(|pack| pack.digest),
            pack_bytes: layer.pack.map_or(0, |pack| pack.size),
            layer_meta_bytes: layer.layer_meta_bytes,
            device_bytes: layer.device_bytes,
            chunks: layer.chunks,
        }
    }
}

impl Report for Summary<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "manifest   {}", self.manifest)?;
        writeln!(out, "root       {}", self.root)?;
        let listed = self.layers.iter().filter(|layer| layer.pack.is_some()).count();
        writeln!(out, "layers     {} ({listed} packs), {} inodes", self.layers.len(), self.inodes)?;
        writeln!(out, "read       {}, contents {}", Size(self.bytes_in), Size(self.content_bytes))?;
        writeln!(out, "shared     {}, zeros {}", Size(self.shared_bytes), Size(self.null_bytes))?;
        let (meta, uncompressed) = (Size(self.meta_stored_bytes), Size(self.meta_bytes));
        writeln!(out, "stored     {}, of this meta {meta} ({uncompressed} uncompressed)", Size(self.stored_bytes))?;
        let there = Size(self.stored_bytes.saturating_sub(self.new_bytes));
        writeln!(out, "new        {}; in packs that were there already {there}", Size(self.new_bytes))?;
        self.notes(out)?;
        writeln!(out, "temporary  {}", Size(self.temp_bytes))?;
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}

impl Summary<'_> {
    /// Writes what came from other images, what was kept, and what was refused or left out: what must be seen of an image of an index
    /// too.
    pub(super) fn notes(&self, out: &mut dyn Write) -> io::Result<()> {
        self.sharing.text(out)?;
        if let Some(original) = &self.original {
            original.text(out)?;
        }
        if self.dropped_xattrs + self.dropped_overlay > 0 {
            let (xattrs, overlay) = (self.dropped_xattrs, self.dropped_overlay);
            writeln!(out, "left out   {xattrs} extended attributes, {overlay} entries of overlayfs")?;
            for dropped in &self.dropped {
                // Paths come escaped.
                writeln!(out, "           {}", Tame(dropped))?;
            }
        }
        Ok(())
    }
}
