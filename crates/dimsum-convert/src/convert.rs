//! The whole of a conversion.

use std::path::Path;

use dimsum_format::manifest::Blob;
use dimsum_format::{DeviceId, Digest, MetaRoot};
use dimsum_registry::{Source, Target};
use dimsum_tree::Report;

use crate::error::Error;
use crate::options::Options;
use crate::progress::Progress;

/// What is converted.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An ordinary container image, OCI or Docker.
    Image {
        /// Where its blobs are.
        source: &'a dyn Source,
        /// Digest of the manifest (of one platform).
        manifest: Digest,
    },
    /// A file tree on disk, which becomes an image of one layer.
    Directory {
        /// Its root.
        path: &'a Path,
    },
}

/// What came out of a conversion.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Converted {
    /// Digest of the manifest.
    pub manifest: Digest,
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
    /// The most that temporary files had together, in bytes.
    pub temp_bytes: u64,
}

/// What became of one layer.
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
    /// What was met in the source besides files.
    pub report: Report,
}

/// Converts an image or a directory and stores the result in `target`.
///
/// # Errors
/// If the source cannot be read, is damaged or is refused, or the target cannot be written.
pub fn convert(
    input: Input<'_>,
    target: &dyn Target,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    options.check()?;
    let _ = (input, target, progress);
    Err(Error::Cancelled)
}
