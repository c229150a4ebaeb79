//! The entry of a conversion: its input and its outcome.
//!
//! If a pack that was to be reused is not what it claims, everything is done again without it.

use std::path::Path;

use dimsum_format::manifest::Blob;
use dimsum_format::{DeviceId, Digest, FormatError, MetaRoot};
use dimsum_source::{Role, Source, Target};
use dimsum_tree::Report;

use crate::conversion::run;
use crate::error::Error;
use crate::options::Options;
use crate::original::{Keeping, KeptOriginal};
use crate::progress::Progress;
use crate::reuse::Candidates;
use crate::sharing::{Refusals, Refused, Reuse, Shared, Sharing};
use crate::task::Task;
use crate::{manifest, source};

/// Attempts that may fail because of what others have: then nothing of theirs is taken any more, or whoever can
/// write tags could make one conversion as many as there are layers.
const MAX_ATTEMPTS: u32 = 8;

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
    /// What was taken from other images.
    pub shared: Shared,
    /// The most that temporary files had together, in bytes.
    pub temp_bytes: u64,
    /// What was kept of the source, if that was asked for.
    pub original: Option<KeptOriginal>,
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

/// Converts an image or a directory by itself and makes the result the root of `target`.
///
/// # Errors
/// If the source cannot be read, is damaged or is refused, or the target cannot be written.
pub fn convert(
    input: Input<'_>,
    target: &dyn Target,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    let alone = Sharing { reuse: Reuse::Never, ..Sharing::default() };
    convert_as(input, target, Role::Root, options, &alone, progress)
}

/// Converts an image or a directory and stores the result in `target`, as the whole or as a part of an index
/// that follows.
///
/// # Errors
/// As [`convert`]; also if an image to share with cannot be read.
pub fn convert_as(
    input: Input<'_>,
    target: &dyn Target,
    role: Role,
    options: &Options,
    sharing: &Sharing<'_>,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    options.check()?;
    let mut refused = Refusals::of(&sharing.refused);
    let candidates = Candidates::new(target, options, sharing, &mut refused)?;
    let mut attempts = 0;
    loop {
        let task = Task { target, role, options, sharing, candidates: &candidates, progress };
        match once(input, task, &mut refused) {
            // What it was to stand for has not been compressed, so all is done again, without it.
            Err(Error::Reuse { what, reason }) => {
                refused.add(Refused { what, reason });
                attempts += 1;
                if attempts == MAX_ATTEMPTS {
                    refused.add_everything(format!("{MAX_ATTEMPTS} packs were not what they were said to be"));
                }
            }
            done => return done,
        }
    }
}

fn once<'a>(input: Input<'a>, task: Task<'a>, refused: &'a mut Refusals) -> Result<Converted, Error> {
    let keeping = Keeping::start(input, task.target, task.options)?;
    match input {
        Input::Directory { path } => run(task, 1, refused, keeping, |mut conversion| {
            conversion.directory(path)?;
            conversion.finish(manifest::new_config(), None)
        }),
        Input::Image { source, manifest } => {
            let image = source::read(source, manifest)?;
            run(task, image.layers.len(), refused, keeping, |mut conversion| {
                for (index, layer) in image.layers.iter().enumerate() {
                    conversion.layer(source, layer, index)?;
                }
                conversion.finish(image.config, Some(manifest))
            })
        }
    }
}

pub(crate) fn limit(part: &'static str, value: u64, limit: u64) -> Result<(), Error> {
    if value > limit {
        let source = FormatError::Limit { part, value, limit };
        return Err(Error::format("image", source));
    }
    Ok(())
}
