//! The whole of a conversion: layers one after the other, each read while the bundles of the one before are compressed; packs and
//! meta when all have been read, several at once.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use dimsum_format::manifest::{Blob, Config};
use dimsum_format::{DeviceId, Digest, FormatError, MetaRoot, media};
use dimsum_registry::{Role, Source, Target};
use dimsum_tree::{Report, Tree, TreeBuilder, merge};

use crate::assemble::Assembled;
use crate::blob::BlobOut;
use crate::content::{Contents, SmallRows};
use crate::error::Error;
use crate::layer::{Bundling, Device, Expected, ReadLayer, Reader, Taken, bundle, read_directory, read_image_layer};
use crate::manifest::{MetaLayer, SourceLayer};
use crate::options::Options;
use crate::pool::Pool;
use crate::progress::{Phase, Progress};
use crate::temporary::Temporaries;
use crate::{manifest, source};

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

/// Converts an image or a directory and makes the result the root of `target`.
///
/// # Errors
/// If the source cannot be read, is damaged or is refused, or the target cannot be written.
pub fn convert(
    input: Input<'_>,
    target: &dyn Target,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    convert_as(input, target, Role::Root, options, progress)
}

/// Converts an image or a directory and stores the result in `target`, as the whole or as a part of an index that follows.
///
/// # Errors
/// As [`convert`].
pub fn convert_as(
    input: Input<'_>,
    target: &dyn Target,
    role: Role,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Converted, Error> {
    options.check()?;
    let temporaries = Temporaries::new(options.temp_dir.clone());
    let contents = Contents::new(&temporaries, options.slice_size)?;
    let frames = temporaries.create()?;
    thread::scope(|scope| {
        let mut conversion = Conversion {
            target,
            role,
            options,
            progress,
            temporaries,
            pool: Pool::start(scope, options.jobs, options.level, frames),
            contents,
            tree: None,
            laid: Vec::new(),
            layers: Vec::new(),
            summaries: Vec::new(),
        };
        match input {
            Input::Directory { path } => {
                conversion.directory(path)?;
                conversion.finish(manifest::new_config(), None)
            }
            Input::Image { source, manifest } => {
                let image = source::read(source, manifest)?;
                let count = image.layers.len();
                for (index, layer) in image.layers.iter().enumerate() {
                    conversion.layer(source, layer, index, count)?;
                }
                conversion.finish(image.config, Some(manifest))
            }
        }
    })
}

/// A conversion under way.
pub(crate) struct Conversion<'a> {
    pub(crate) target: &'a dyn Target,
    role: Role,
    pub(crate) options: &'a Options,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) temporaries: Temporaries,
    pub(crate) pool: Pool,
    pub(crate) contents: Contents,
    /// The layers so far, merged.
    tree: Option<Arc<Tree>>,
    /// The layers so far, each if it has data of its own.
    pub(crate) laid: Vec<Option<LaidOut>>,
    layers: Vec<SourceLayer>,
    pub(crate) summaries: Vec<LayerSummary>,
}

/// A layer whose content has its places; its bundles are with the pool.
pub(crate) struct LaidOut {
    pub(crate) device: Arc<Device>,
    pub(crate) tree: Arc<Tree>,
    pub(crate) rows: SmallRows,
    pub(crate) bundling: Bundling,
    pub(crate) origin: String,
}

impl Conversion<'_> {
    fn directory(&mut self, path: &Path) -> Result<(), Error> {
        self.progress.phase(Phase::Layer { index: 0, count: 1, digest: None, size: None });
        let origin = path.display().to_string();
        let read = read_directory(self.reader(&origin), path)?;
        self.contents.small.end_lookups();
        self.layers.push(SourceLayer::default());
        let summary = LayerSummary { tar_bytes: read.taken.counts.bytes, ..LayerSummary::default() };
        self.lay_out(read, summary, origin)
    }

    fn layer(&mut self, source: &dyn Source, layer: &Expected, index: usize, count: usize) -> Result<(), Error> {
        let (digest, size) = (Some(layer.digest), Some(layer.size));
        self.progress.phase(Phase::Layer { index, count, digest, size });
        let origin = format!("layer {}", layer.digest);
        let blob = source.open(layer.digest)?;
        let lower = self.tree.clone();
        let read = read_image_layer(self.reader(&origin), blob, layer, lower.as_deref())?;
        drop(lower);
        if index + 1 == count {
            self.contents.small.end_lookups();
        }
        let below = self.layers.last().and_then(|below| below.source).map(|(_, chain_id)| chain_id);
        let chain_id = manifest::chain_id(below, layer.diff_id);
        self.layers.push(SourceLayer { source: Some((layer.diff_id, chain_id)), pack: None });
        let summary = LayerSummary {
            source: digest,
            diff_id: Some(layer.diff_id),
            blob_bytes: layer.size,
            tar_bytes: read.tar_bytes,
            ..LayerSummary::default()
        };
        self.lay_out(read, summary, origin)
    }

    fn reader<'r>(&'r mut self, origin: &'r str) -> Reader<'r> {
        Reader {
            contents: &mut self.contents,
            pool: &self.pool,
            temporaries: &self.temporaries,
            options: self.options,
            progress: self.progress,
            origin,
        }
    }

    /// Gives the content of a layer that has been read its places, hands its bundles to the pool, and merges its tree.
    fn lay_out(&mut self, read: ReadLayer, mut summary: LayerSummary, origin: String) -> Result<(), Error> {
        let ReadLayer { layer, taken: Taken { counts, arrived, small }, .. } = read;
        let number = u16::try_from(self.laid.len()).expect("a source has at most 512 layers");
        let device = Device::lay_out(&layer.tree, &mut self.contents, number, self.options.bundle_half(), &origin)?;
        self.contents.forget_unplaced();
        summary.content_bytes = counts.bytes;
        summary.null_bytes = counts.null;
        summary.shared_bytes = counts.shared;
        summary.report = layer.report;
        self.summaries.push(summary);
        let tree = Arc::new(layer.tree);
        self.tree = Some(self.merge(&tree, &origin)?);
        if device.is_empty() {
            self.laid.push(None);
            return Ok(());
        }
        // At most two layers have their small files in temporary files: this one, and that which is read meanwhile.
        self.pool.wait_for_batches()?;
        let (device, rows) = (Arc::new(device), self.contents.small.rows()?);
        let bundling = bundle(&self.pool, &device, &self.contents.slices, arrived, rows.clone(), small);
        self.laid.push(Some(LaidOut { device, tree, rows, bundling, origin }));
        Ok(())
    }

    /// Merges a layer over those below. The tree of a lowest layer that hides nothing is the merged one too, and not copied.
    fn merge(&mut self, layer: &Arc<Tree>, origin: &str) -> Result<Arc<Tree>, Error> {
        let merged = match self.tree.take() {
            None if layer.ids().all(|id| !layer.inode(id).is_whiteout() && !layer.inode(id).is_opaque()) => {
                return Ok(Arc::clone(layer));
            }
            None => Tree::clone(layer).into_base(),
            Some(lower) => merge(Arc::unwrap_or_clone(lower), layer),
        };
        merged.map(Arc::new).map_err(|source| Error::Tree { origin: origin.to_owned(), source })
    }

    /// Writes the packs and what belongs to the image as a whole, and makes everything visible.
    fn finish(mut self, mut config: Config, source: Option<Digest>) -> Result<Converted, Error> {
        self.pool.wait_for_batches()?;
        let tree = match self.tree.take() {
            Some(tree) => tree,
            // An image may have no layers at all.
            None => Arc::new(
                TreeBuilder::new().finish().map_err(|source| Error::Tree { origin: "image".to_owned(), source })?,
            ),
        };
        let Assembled { packs, meta } = self.assemble(&tree)?;
        let meta_layer = MetaLayer { blob: meta.blob.blob, diff_id: meta.diff_id, root: meta.root };
        for (number, pack) in &packs {
            let number = usize::from(*number);
            if let (Some(layer), Some(summary)) = (self.layers.get_mut(number), self.summaries.get_mut(number)) {
                layer.pack = Some((pack.blob.blob, pack.diff_id));
                summary.pack = Some(pack.blob.blob);
                summary.layer_meta_bytes = pack.layer_meta_bytes;
            }
        }
        manifest::adapt_config(&mut config, &self.layers, &meta_layer);
        let mut config_out = BlobOut::new(self.target, self.progress)?;
        config_out.put(&config.to_bytes())?;
        let config_out = config_out.finish();
        let config = config_out.blob;
        let manifest = manifest::new_manifest(config, &self.layers, &meta_layer, source, self.options).to_bytes();
        limit("config", config.size, MAX_CONFIG_BYTES)?;
        limit("manifest", manifest.len() as u64, MAX_MANIFEST_BYTES)?;
        if self.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        self.progress.phase(Phase::Publish);
        for (_, pack) in packs {
            pack.blob.commit()?;
        }
        meta.blob.commit()?;
        config_out.commit()?;
        let manifest_bytes = manifest.len() as u64;
        let manifest = self.target.put_manifest(media::MANIFEST, &manifest, self.role)?;
        Ok(Converted {
            manifest,
            manifest_bytes,
            config,
            meta: meta_layer.blob,
            root: meta.root,
            meta_bytes: meta.length,
            inodes: tree.len() as u64,
            flat_blocks: meta.flat_blocks,
            layers: self.summaries,
            temp_bytes: self.temporaries.peak(),
        })
    }
}

pub(crate) fn limit(part: &'static str, value: u64, limit: u64) -> Result<(), Error> {
    if value > limit {
        let source = FormatError::Limit { part, value, limit };
        return Err(Error::format("image", source));
    }
    Ok(())
}
