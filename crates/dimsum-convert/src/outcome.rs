//! The outcome of a conversion: digests and sizes of the new image, and a summary per layer.

use dimsum_format::manifest::Blob;
use dimsum_format::{DeviceId, Digest, MetaRoot};
use dimsum_tree::LayerReport;

use crate::original::KeptOriginal;
use crate::sharing::SharedContent;

/// The outcome of a conversion.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Converted {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Bytes of the manifest.
    pub manifest_bytes: u64,
    /// The config blob.
    pub config: Blob,
    /// The meta blob.
    pub meta: Blob,
    /// The meta root.
    pub root: MetaRoot,
    /// Bytes of the uncompressed meta.
    pub meta_bytes: u64,
    /// Inodes of the image.
    pub inodes: u64,
    /// Blocks of the flat image.
    pub flat_blocks: u32,
    /// The layers of the source, lowest first.
    pub layers: Vec<LayerSummary>,
    /// The data taken from other images.
    pub shared: SharedContent,
    /// The most that temporary files had together, in bytes.
    pub temp_bytes: u64,
    /// The recipes that were kept, if that was asked for.
    pub original: Option<KeptOriginal>,
}

/// The outcome of one layer.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LayerSummary {
    /// Digest of the source's blob; none for a directory.
    pub source: Option<Digest>,
    /// Digest of the source's tar; none for a directory.
    pub diff_id: Option<Digest>,
    /// Bytes of the source's blob.
    pub blob_bytes: u64,
    /// Bytes of the source's tar; for a directory, of its files.
    pub tar_bytes: u64,
    /// The pack, if the image lists it.
    pub pack: Option<Blob>,
    /// Its device, if the layer has data of its own.
    pub device: Option<DeviceId>,
    /// Bytes of the device.
    pub device_bytes: u64,
    /// Chunks of the device.
    pub chunks: u64,
    /// Bytes of file content in the source.
    pub content_bytes: u64,
    /// Of these: only zeros, and not stored.
    pub null_bytes: u64,
    /// Of these: found in a lower layer or elsewhere in this one, and not stored again.
    pub shared_bytes: u64,
    /// Bytes of the compressed layer meta.
    pub layer_meta_bytes: u64,
    /// Findings in the source besides files.
    pub report: LayerReport,
}
