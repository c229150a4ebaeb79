//! The way back: from a Dimsum image to an ordinary image, a tar, or a directory.
//!
//! ```text
//!   packs ─▸ layer metas ─▸ layer trees ─▸ merged ─┐
//!                                                  ├─ difference ─▸ fix-up layer
//!   meta ──────────────────────────▸ image tree ───┘                     │
//!                                        │ whole tree                    ▼
//!   flat image, proven ─▸ content ───────┴──▸ tars ─▸ compressed ─▸ layers, config, manifest
//! ```
//!
//! A layer meta is proven by its pack's digest only, not by the meta root. So it decides nothing but how files
//! are spread over layers. Every byte of a file comes through the verified flat image. The merged layers are
//! compared with the image's own tree, and the difference becomes the last layer.
//!
//! Such a difference is normal: a layer without data of its own (a change of owner, a deletion) is not listed as a
//! pack. So the result always unpacks to the identical tree. Images with a common base get equal layers for it, as long
//! as they list the same devices. A layer leaves out files whose data no image tree uses any more.

mod compress;
mod contents;
mod devices;
mod document;
mod layer_meta;
mod open;
mod original;
mod pack_maps;
mod space;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use dimsum_format::manifest::{Blob, Descriptor};
use dimsum_format::{Digest, FormatError, media};
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_source::{Role, Target};
pub use dimsum_tree::{Omission, OmittedEntries, Owners};
use dimsum_tree::{TarForm, TarOptions, Tree, TreeBuilder, difference, merge, to_directory, to_tar};

pub use self::open::{ExportImage, ReadFailure};
pub use self::original::export_original;

use self::compress::{WrittenLayer, write_layer};
use self::contents::{ExportContents, failed_writing};
use self::document::{Documents, ManifestShape};
use crate::blob::{BlobOut, last_chance};
use crate::error::ConvertError;
use crate::progress::{ConversionPhase, ConversionProgress};

/// How files are spread over layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportMode {
    /// One layer for each pack that the image lists, and one for what these leave open, if they do.
    #[default]
    PerLayer,
    /// One layer with the whole tree.
    Flatten,
}

/// How layers are compressed. Always the same bytes for the same layer, level and version of this program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// gzip, in members of 1 MiB, so that all processors help: level 1 to 9.
    #[default]
    Gzip,
    /// zstd, in frames of 1 MiB: level 1 to 19.
    Zstd,
}

/// How to export an image.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// How files are spread over layers.
    pub mode: ExportMode,
    /// How layers are compressed.
    pub compression: LayerCompression,
    /// The level of it; the usual one if none.
    pub level: Option<u32>,
    /// The role of the manifest in the target.
    pub role: Role,
    /// From how many bytes of holes on a file is written as a sparse one, see [`TarOptions::sparse_from`].
    pub sparse_from: Option<u64>,
    /// Threads that compress, beside the one that reads.
    pub jobs: NonZeroUsize,
    /// Where temporary files go: the layer metas, uncompressed. They have no names there.
    pub temp_dir: PathBuf,
}

impl Default for ExportOptions {
    /// Per layer, gzip, as the root, sparse from 1 GiB on, as many threads and the same directory as a conversion.
    fn default() -> Self {
        let crate::ConvertOptions { jobs, temp_dir, .. } = crate::ConvertOptions::default();
        Self {
            mode: ExportMode::default(),
            compression: LayerCompression::default(),
            level: None,
            role: Role::Root,
            sparse_from: TarOptions::default().sparse_from,
            jobs,
            temp_dir,
        }
    }
}

/// The outcome of an export.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exported {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// The config blob.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<ExportedLayer>,
    /// Entries of the image that a tar cannot hold.
    pub left_out: OmittedEntries,
    /// The manifest is the one that was converted, byte for byte.
    pub original: bool,
}

/// The part of the source's layer that an export gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reached {
    /// Nothing: it is made of the image's tree.
    Rebuilt,
    /// The tar, compressed otherwise.
    Tar,
    /// The blob, bit by bit.
    Blob,
}

/// One layer of an exported image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedLayer {
    /// The blob.
    pub blob: Blob,
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// The pack it was made of; none for the whole tree, for what packs leave open, and for layers of the source.
    pub pack: Option<Digest>,
    /// What of the source it is.
    pub reached: Reached,
}

/// Turns a Dimsum image into an ordinary OCI image.
///
/// # Errors
/// If the image cannot be read, is damaged, or has a file that cannot be in a layer; or the target cannot be written.
/// Nothing is visible in the target then.
pub fn export(
    image: &dyn ExportImage,
    target: &dyn Target,
    options: &ExportOptions,
    progress: &dyn ConversionProgress,
) -> Result<Exported, ConvertError> {
    let documents = Documents::parse(image)?;
    compress::check_level(options)?;
    let mut contents = ExportContents::new(image, progress, options.mode == ExportMode::Flatten);
    let tree = contents.image_tree()?;
    let mut export = ExportTask {
        image,
        target,
        options,
        progress,
        contents,
        layers: Vec::new(),
        left_out: OmittedEntries::default(),
    };
    match options.mode {
        ExportMode::Flatten => {
            progress.phase(ConversionPhase::Layer { index: 0, count: 1, digest: None, size: None });
            export.layer(&tree, None)?;
        }
        ExportMode::PerLayer => export.per_layer(tree, &documents.own)?,
    }
    export.publish(documents)
}

/// Writes the whole tree as a tar and returns what a tar cannot hold. Holes and `form` are as in [`to_tar`]; a
/// file whose name is that of a whiteout is only refused in a layer.
///
/// # Errors
/// If the image cannot be read or is damaged, or `output` fails: it has a part of the archive then.
pub fn export_tar(
    image: &dyn ExportImage,
    output: &mut dyn Write,
    sparse_from: Option<u64>,
    progress: &dyn ConversionProgress,
) -> Result<OmittedEntries, ConvertError> {
    let mut contents = ExportContents::new(image, progress, true);
    let tree = contents.image_tree()?;
    progress.phase(ConversionPhase::Layer { index: 0, count: 1, digest: None, size: None });
    let options = TarOptions { form: TarForm::Archive, sparse_from };
    to_tar(&tree, &mut contents, output, options).map_err(|error| failed_writing(error, "the archive"))
}

/// Writes the whole tree into an empty directory and returns the entries that it cannot hold. See [`to_directory`].
///
/// # Errors
/// If the image cannot be read or is damaged, or the directory is not empty. Also if a file cannot be made or given to
/// its owner. Files made so far stay, and only the caller can enter the directory.
pub fn export_directory(
    image: &dyn ExportImage,
    path: &Path,
    owners: Owners,
    progress: &dyn ConversionProgress,
) -> Result<OmittedEntries, ConvertError> {
    let mut contents = ExportContents::new(image, progress, true);
    let tree = contents.image_tree()?;
    progress.phase(ConversionPhase::Layer { index: 0, count: 1, digest: None, size: None });
    let name = path.display().to_string();
    to_directory(&tree, &mut contents, path, owners).map_err(|error| failed_writing(error, &name))
}

/// An export under way.
struct ExportTask<'a> {
    image: &'a dyn ExportImage,
    target: &'a dyn Target,
    options: &'a ExportOptions,
    progress: &'a dyn ConversionProgress,
    contents: ExportContents<'a>,
    /// Written, not visible, with the packs they come from.
    layers: Vec<(WrittenLayer<'a>, Option<Digest>)>,
    left_out: OmittedEntries,
}

impl ExportTask<'_> {
    fn per_layer(&mut self, tree: Tree, packs: &[(usize, Blob)]) -> Result<(), ConvertError> {
        let temporaries = TemporaryFiles::new(self.options.temp_dir.clone());
        // Sockets cannot be in a layer, so they are no difference; they are reported once, by the layer that
        // would bring them.
        let mut merged: Option<Tree> = None;
        for (layer, (index, pack)) in packs.iter().enumerate() {
            let (digest, size) = (Some(pack.digest), Some(pack.size));
            self.progress.phase(ConversionPhase::Layer { index: layer, count: packs.len(), digest, size });
            let origin = format!("pack {}", pack.digest);
            let layer_meta = layer_meta::read(self.image, *index, *pack, &temporaries, self.progress)?;
            let layer = self.contents.layer_tree(layer_meta, *index, &origin)?;
            self.layer(&layer, Some(pack.digest))?;
            let over = match merged.take() {
                None => layer.into_base(),
                Some(lower) => merge(lower, &layer),
            };
            merged = Some(over.map_err(|source| ConvertError::Tree { origin, source })?);
        }
        self.fix_up(merged, &tree)
    }

    /// Adds what the layers leave open.
    fn fix_up(&mut self, merged: Option<Tree>, tree: &Tree) -> Result<(), ConvertError> {
        let origin = "what the layers leave open";
        let failed = |source| ConvertError::Tree { origin: origin.to_owned(), source };
        let no_layers = merged.is_none();
        let merged = match merged {
            Some(merged) => merged,
            None => TreeBuilder::new().finish().map_err(failed)?,
        };
        let contents = &mut self.contents;
        let between = |contents: &mut ExportContents<'_>, merged: &Tree| {
            let layer = difference(merged, tree, |a, b| contents.same(a, b));
            layer.map_err(|error| failed_writing(error, origin))
        };
        let layer = match between(contents, &merged)? {
            Some(layer) => layer,
            // Some tools do not take an image without layers.
            None if no_layers => merged.clone(),
            None => return Ok(()),
        };
        let whole = merge(merged, &layer).map_err(failed)?;
        if between(contents, &whole)?.is_some() {
            return Err(ConvertError::NotIdentical { image: self.image.name().to_owned() });
        }
        self.layer(&layer, None)
    }

    /// Writes one layer.
    fn layer(&mut self, tree: &Tree, pack: Option<Digest>) -> Result<(), ConvertError> {
        let out = BlobOut::new(self.target, self.progress)?;
        let (layer, left_out) = write_layer(tree, &mut self.contents, self.options, out)?;
        self.layers.push((layer, pack));
        self.left_out.extend(left_out);
        Ok(())
    }

    /// Makes everything visible.
    fn publish(self, documents: Documents) -> Result<Exported, ConvertError> {
        let layers: Vec<ExportedLayer> =
            self.layers.iter().map(|(layer, pack)| layer.describe(*pack, Reached::Rebuilt)).collect();
        let shape = match self.options.mode {
            ExportMode::Flatten => ManifestShape::Flat,
            ExportMode::PerLayer => ManifestShape::PerLayer { packs: documents.own.len(), layers: layers.len() },
        };
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let config = documents.config(shape, &diff_ids);
        let mut config_out = BlobOut::new(self.target, self.progress)?;
        config_out.put(&config)?;
        let config_out = config_out.finish();
        let config = config_out.blob;
        let media_type = self.options.compression.media_type();
        let descriptors: Vec<Descriptor> =
            layers.iter().map(|layer| documents.layer(layer.blob, layer.pack, media_type)).collect();
        let manifest = documents.manifest(config, descriptors);
        check_limits(config.size, manifest.len() as u64)?;
        if self.progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        self.progress.phase(ConversionPhase::Publish);
        for (layer, _) in self.layers {
            layer.blob.commit()?;
        }
        config_out.commit()?;
        last_chance(self.target, self.progress)?;
        let manifest = self.target.put_manifest(media::MANIFEST, &manifest, self.options.role)?;
        Ok(Exported { manifest, config, layers, left_out: self.left_out, original: false })
    }
}

impl LayerCompression {
    const fn media_type(self) -> &'static str {
        match self {
            Self::None => media::LAYER_TAR,
            Self::Gzip => media::LAYER_GZIP,
            Self::Zstd => media::LAYER_ZSTD,
        }
    }
}

fn check_limits(config: u64, manifest: u64) -> Result<(), ConvertError> {
    use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
    for (part, value, limit) in [("config", config, MAX_CONFIG_BYTES), ("manifest", manifest, MAX_MANIFEST_BYTES)] {
        if value > limit {
            return Err(ConvertError::format("image", FormatError::Limit { part, value, limit }));
        }
    }
    Ok(())
}
