//! The whole of a conversion.

use std::path::Path;

use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use dimsum_format::manifest::{Blob, Config};
use dimsum_format::{BLOCK_U64, DeviceId, Digest, FormatError, MetaRoot, media};
use dimsum_registry::{Role, Source, Target};
use dimsum_tree::{Report, Tree, TreeBuilder, merge};

use crate::blob::BlobOut;
use crate::content::{Contents, Spools};
use crate::error::Error;
use crate::layer::{Device, Expected, Packed, Parts, ReadLayer, Reader, read_directory, read_image_layer, write_pack};
use crate::manifest::{MetaLayer, SourceLayer};
use crate::options::Options;
use crate::progress::{Phase, Progress};
use crate::temporary::Temporaries;
use crate::{image, manifest, source};

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
    let mut conversion = Conversion {
        target,
        role,
        options,
        progress,
        temporaries,
        contents,
        tree: None,
        packs: Vec::new(),
        lower: Vec::new(),
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
}

/// A conversion under way.
struct Conversion<'a> {
    target: &'a dyn Target,
    role: Role,
    options: &'a Options,
    progress: &'a dyn Progress,
    temporaries: Temporaries,
    contents: Contents,
    /// The layers so far, merged.
    tree: Option<Tree>,
    /// Of each layer so far, if it has data of its own.
    packs: Vec<Option<Packed<'a>>>,
    /// Device id and blocks of these.
    lower: Vec<Option<(DeviceId, u32)>>,
    layers: Vec<SourceLayer>,
    summaries: Vec<LayerSummary>,
}

impl Conversion<'_> {
    fn directory(&mut self, path: &Path) -> Result<(), Error> {
        self.progress.phase(Phase::Layer { index: 0, count: 1, digest: None, size: None });
        let origin = path.display().to_string();
        let mut spools = Spools::new(&self.temporaries)?;
        let read = read_directory(self.reader(&mut spools, &origin), path)?;
        self.contents.small.end_lookups();
        self.layers.push(SourceLayer::default());
        let summary = LayerSummary { tar_bytes: read.counts.bytes, ..LayerSummary::default() };
        self.pack(read, spools, summary, 1, &origin)
    }

    fn layer(&mut self, source: &dyn Source, layer: &Expected, index: usize, count: usize) -> Result<(), Error> {
        let (digest, size) = (Some(layer.digest), Some(layer.size));
        self.progress.phase(Phase::Layer { index, count, digest, size });
        let origin = format!("layer {}", layer.digest);
        let mut spools = Spools::new(&self.temporaries)?;
        let blob = source.open(layer.digest)?;
        let lower = self.tree.take();
        let read = read_image_layer(self.reader(&mut spools, &origin), blob, layer, lower.as_ref())?;
        self.tree = lower;
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
        self.pack(read, spools, summary, count, &origin)
    }

    fn reader<'r>(&'r mut self, spools: &'r mut Spools, origin: &'r str) -> Reader<'r> {
        Reader { contents: &mut self.contents, spools, options: self.options, progress: self.progress, origin }
    }

    /// Packs a layer that has been read, and merges its tree.
    fn pack(
        &mut self,
        read: ReadLayer,
        spools: Spools,
        mut summary: LayerSummary,
        count: usize,
        origin: &str,
    ) -> Result<(), Error> {
        let index = self.packs.len();
        self.progress.phase(Phase::Pack { index, count });
        let ReadLayer { layer, counts, .. } = read;
        let number = u16::try_from(index).expect("a source has at most 512 layers");
        let half = self.options.bundle_half();
        let device = Device::lay_out(&layer.tree, &mut self.contents, number, half, origin)?;
        summary.content_bytes = counts.bytes;
        summary.null_bytes = counts.null;
        summary.shared_bytes = counts.shared;
        summary.report = layer.report;
        let packed = if device.is_empty() {
            None
        } else {
            let parts = Parts {
                tree: &layer.tree,
                contents: &self.contents,
                spools: &spools,
                device: &device,
                number,
                lower: &self.lower,
                options: self.options,
                temporaries: &self.temporaries,
                origin,
            };
            Some(write_pack(&parts, BlobOut::new(self.target, self.progress)?)?)
        };
        if let Some(packed) = &packed {
            summary.device = Some(packed.id);
            summary.device_bytes = u64::from(packed.map.blocks()) * BLOCK_U64;
            summary.chunks = packed.map.chunks();
            summary.layer_meta_bytes = packed.layer_meta_bytes;
        }
        self.lower.push(packed.as_ref().map(|packed| (packed.id, packed.map.blocks())));
        self.packs.push(packed);
        self.summaries.push(summary);
        self.contents.forget_unplaced();
        drop((spools, device));
        let merged = match self.tree.take() {
            None => layer.tree.into_base(),
            Some(lower) => merge(lower, &layer.tree),
        };
        self.tree = Some(merged.map_err(|source| Error::Tree { origin: origin.to_owned(), source })?);
        Ok(())
    }

    /// Writes what belongs to the image as a whole and makes everything visible.
    fn finish(mut self, mut config: Config, source: Option<Digest>) -> Result<Converted, Error> {
        self.progress.phase(Phase::Meta);
        let tree = match self.tree.take() {
            Some(tree) => tree,
            // An image may have no layers at all.
            None => TreeBuilder::new().finish().map_err(|source| Error::Tree { origin: "image".to_owned(), source })?,
        };
        image::keep_live(&tree, &self.contents, &mut self.packs)?;
        let out = BlobOut::new(self.target, self.progress)?;
        let meta = image::write_meta(&tree, &self.contents, &mut self.packs, self.options, out)?;
        let meta_layer = MetaLayer { blob: meta.blob.blob, diff_id: meta.diff_id, root: meta.root };
        for ((layer, summary), pack) in self.layers.iter_mut().zip(&mut self.summaries).zip(&self.packs) {
            layer.pack = pack.as_ref().map(|pack| (pack.blob.blob, pack.diff_id));
            summary.pack = pack.as_ref().map(|pack| pack.blob.blob);
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
        for pack in self.packs.into_iter().flatten() {
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
