//! The figures of the conversion of one image.

use dimsum_convert::{Converted, Gives, KeptOriginal, LayerSummary};
use dimsum_format::{BLOCK_U64, Digest, MetaRoot};
use dimsum_tree::What;
use serde::Serialize;

use super::ConvertRequest;
use super::shared::SharingSummary;
use crate::text::total;

/// One converted image.
#[derive(Debug, Clone, Serialize)]
pub struct ConversionSummary {
    /// As the caller wrote it.
    pub source: String,
    /// As the caller wrote it.
    pub target: String,
    /// The manifest of the new image.
    pub manifest: Digest,
    /// Its meta root.
    pub root: MetaRoot,
    /// The layers of the source.
    pub layers: Vec<ConvertedLayer>,
    /// Inodes of the image.
    pub inodes: u64,
    /// Bytes of the source's blobs, or of a directory's files.
    pub bytes_in: u64,
    /// Bytes of file contents in all layers.
    pub content_bytes: u64,
    /// Of these, stored already in a lower layer or elsewhere in the same one.
    pub shared_bytes: u64,
    /// Of these, only zeros.
    pub null_bytes: u64,
    /// Bytes of all blobs of the image.
    pub stored_bytes: u64,
    /// Of these, made by this conversion: the rest is in packs that were there already.
    pub new_bytes: u64,
    /// Of the bytes of all blobs, the compressed meta.
    pub meta_stored_bytes: u64,
    /// Bytes of the uncompressed meta.
    pub meta_bytes: u64,
    /// Bytes of the flat image.
    pub flat_bytes: u64,
    /// Bytes that were made or copied; a registry is sent only what it does not have.
    pub written_bytes: u64,
    /// Peak of temporary files.
    pub temp_bytes: u64,
    /// Packs of other images.
    #[serde(flatten)]
    pub sharing: SharingSummary,
    /// Extended attributes that were left out.
    pub dropped_xattrs: u64,
    /// Entries of overlayfs that were left out.
    pub dropped_overlay: u64,
    /// The recipes for the source's layers, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<OriginalSummary>,
    /// The first things left out. Paths are escaped.
    pub dropped: Vec<String>,
    /// Time of the whole conversion.
    pub seconds: f64,
}

/// A layer of the source, and its pack.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertedLayer {
    /// Digest of the source's blob; none for a directory.
    pub source: Option<Digest>,
    /// Digest of the source's tar; none for a directory.
    pub diff_id: Option<Digest>,
    /// Bytes of the source's blob.
    pub blob_bytes: u64,
    /// Bytes of the source's tar; for a directory, of its files.
    pub tar_bytes: u64,
    /// Bytes of file contents.
    pub content_bytes: u64,
    /// Of these, stored already.
    pub shared_bytes: u64,
    /// Of these, only zeros.
    pub null_bytes: u64,
    /// The pack, if the image lists it.
    pub pack: Option<Digest>,
    /// Its length.
    pub pack_bytes: u64,
    /// Bytes of the layer meta in it.
    pub layer_meta_bytes: u64,
    /// Bytes of its device.
    pub device_bytes: u64,
    /// Chunks of its device.
    pub chunks: u64,
}

/// The recipes that were kept for the layers of the source.
#[derive(Debug, Clone, Serialize)]
pub struct OriginalSummary {
    /// The referrer's manifest.
    pub manifest: Digest,
    /// A recipe for each layer.
    pub recipes: Vec<KeptRecipe>,
    /// Bytes of packs that only recipes need.
    pub pack_bytes: u64,
}

/// The recipe for one layer.
#[derive(Debug, Clone, Serialize)]
pub struct KeptRecipe {
    /// The layer's blob.
    pub layer: Digest,
    /// Bytes of the recipe.
    pub bytes: u64,
    /// `blob` or `tar`.
    pub gives: &'static str,
    /// Why not the blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl ConversionSummary {
    pub(super) fn new(request: &ConvertRequest, converted: &Converted, written_bytes: u64, seconds: f64) -> Self {
        let layers: Vec<ConvertedLayer> = converted.layers.iter().map(ConvertedLayer::new).collect();
        let sum = |bytes: fn(&ConvertedLayer) -> u64| total(layers.iter().map(bytes));
        let packs = sum(|layer| layer.pack_bytes);
        let sharing = SharingSummary::new(&converted.shared);
        let is_layers = |pack: Digest| layers.iter().any(|layer| layer.pack == Some(pack));
        let foreign = sharing.foreign_packs.iter().filter(|foreign| !is_layers(foreign.pack));
        let foreign_bytes = total(foreign.map(|foreign| foreign.bytes));
        let stored_bytes = total([packs, foreign_bytes, converted.meta.size, converted.config.size]);
        let reports = || converted.layers.iter().map(|layer| &layer.report);
        let dropped = reports().flat_map(|report| &report.dropped).map(|dropped| match &dropped.what {
            What::Xattr { name } => format!("{}: {name}", dropped.path),
            _ => format!("{}: character device 0:0", dropped.path),
        });
        Self {
            source: request.source.clone(),
            target: request.target.clone(),
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
            original: converted.original.as_ref().map(OriginalSummary::new),
            dropped: dropped.collect(),
            layers,
            seconds,
        }
    }
}

impl ConvertedLayer {
    fn new(layer: &LayerSummary) -> Self {
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

impl OriginalSummary {
    fn new(kept: &KeptOriginal) -> Self {
        let recipes = kept.layers.iter().map(|layer| {
            let (gives, reason) = match layer.gives {
                Gives::Blob => ("blob", None),
                Gives::Tar(reason) => ("tar", Some(reason)),
            };
            KeptRecipe { layer: layer.source, bytes: layer.recipe.size, gives, reason }
        });
        let pack_bytes = total(kept.packs.iter().map(|pack| pack.size));
        Self { manifest: kept.manifest, recipes: recipes.collect(), pack_bytes }
    }
}
