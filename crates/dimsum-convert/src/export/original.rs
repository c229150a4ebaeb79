//! Makes the original image from its recipes: layers with the diff_ids of the source, and the original blobs
//! where they can be made.
//!
//! ```text
//!   manifest of the image, pinned ─▸ digest of the source's manifest ─▸ config ─▸ diff_ids
//!                                                                   └─▸ layers ─▸ digests of blobs
//!   recipe, devices ─▸ tar ─ its diff_id? ─▸ blob ─ its digest? ─▸ target
//! ```
//!
//! Every byte is proven from the digest that the caller pinned, so recipes need no trust. A false recipe gives
//! an error, and the target shows nothing of the image then.

use dimsum_format::limits::{MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES};
use dimsum_format::manifest::{Blob, Descriptor, ImageConfig, Manifest};
use dimsum_format::{Digest, media};
use dimsum_recipe::limits::MAX_RECIPE_BYTES;
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_recipe::{BlobForm, Recipe, RecipeDevices, RecipeError, restore_tar};
use dimsum_source::{Source, Target};
use dimsum_tree::OmittedEntries;
use sha2::{Digest as _, Sha256};

use super::compress::{check_level, compress};
use super::devices::{Shelf, fetch};
use super::open::ExportImage;
use super::{ExportOptions, Exported, ExportedLayer, Reached, check_limits};
use crate::blob::{BlobOut, WholeBlob, last_chance};
use crate::error::ConvertError;
use crate::original::{OriginalArtifact, RecipeEntry};
use crate::progress::{ConversionPhase, ConversionProgress};

/// Gives back the image that was converted, with the recipes that `referrer`, a manifest in `source`, keeps.
///
/// If every layer's blob can be made, the manifest is the source's, byte for byte. Else only the config is, and the
/// other layers are compressed as the options say. A layer is never rebuilt here.
///
/// # Errors
/// [`ConvertError::Original`] if a recipe lacks something or gives something else; as [`export`](super::export) otherwise. Nothing is visible
/// in the target then.
pub fn export_original(
    image: &dyn ExportImage,
    source: &dyn Source,
    referrer: Digest,
    target: &dyn Target,
    options: &ExportOptions,
    progress: &dyn ConversionProgress,
) -> Result<Exported, ConvertError> {
    check_level(options)?;
    let original = OriginalImage::read(image, source, referrer)
        .map_err(|source| ConvertError::Original { layer: None, source })?;
    let temporaries = TemporaryFiles::new(options.temp_dir.clone());
    let mut shelf = Shelf::new(image, source, original.artifact.packs.clone(), &temporaries);
    let mut layers = Vec::new();
    for (index, (layer, piece)) in original.manifest.layers.iter().zip(&original.artifact.layers).enumerate() {
        let wrong = |error: ConvertError| error.in_layer(layer.digest);
        let recipe = open_recipe(source, layer, piece, &temporaries).map_err(|error| wrong(error.into()))?;
        let (digest, size) = (Some(layer.digest), Some(recipe.tar_bytes()));
        progress.phase(ConversionPhase::Layer { index, count: original.manifest.layers.len(), digest, size });
        let mut work = RestoringLayer { recipe: &recipe, shelf: &mut shelf, target, options, progress };
        layers.push(work.write(layer, piece.diff_id).map_err(wrong)?);
    }
    original.publish(layers, target, options, progress)
}

/// The fields of the referrer, proven from the image's manifest.
struct OriginalImage {
    artifact: OriginalArtifact,
    bytes: Vec<u8>,
    media_type: String,
    manifest: Manifest,
    config: Vec<u8>,
}

impl OriginalImage {
    fn read(image: &dyn ExportImage, source: &dyn Source, referrer: Digest) -> Result<Self, Box<RecipeError>> {
        let wrong = |reason| Box::new(RecipeError::Document { reason });
        let absent = |blob| move |source| Box::new(RecipeError::Fetch { blob, source });
        let own = Manifest::parse(image.manifest()).map_err(|_| wrong("the image has no manifest"))?;
        let must = own.annotations.get(media::ANNOTATION_SOURCE_MANIFEST).and_then(|text| text.parse::<Digest>().ok());
        let must = must.ok_or_else(|| wrong("the image does not say of which manifest it was made"))?;
        let bytes = source.read_manifest(referrer).map_err(|error| absent(referrer)(error.into()))?;
        let artifact = OriginalArtifact::parse(&bytes, Digest::of(image.manifest()))?;
        let (document, said) = &artifact.manifest;
        if document.digest != must {
            return Err(wrong("the referrer has the manifest of another image"));
        }
        let bytes = source.read_small("original manifest", must, MAX_MANIFEST_BYTES);
        let bytes = bytes.map_err(|error| absent(must)(error.into()))?;
        let manifest = Manifest::parse(&bytes).map_err(|_| wrong("the original manifest is none"))?;
        let media_type = manifest.media_type.clone().unwrap_or_else(|| said.clone());
        if !matches!(&*media_type, media::MANIFEST | media::DOCKER_MANIFEST) {
            return Err(wrong("the original manifest has another media type"));
        }
        let must = manifest.config.digest;
        let config = source.read_small("original config", must, MAX_CONFIG_BYTES);
        let config = config.map_err(|error| absent(must)(error.into()))?;
        let diff_ids = ImageConfig::parse(&config).and_then(|config| config.diff_ids());
        let diff_ids = diff_ids.map_err(|_| wrong("the original config has no diff_ids"))?;
        let pieces = || artifact.layers.iter().map(|piece| (piece.layer, piece.diff_id));
        let layers = || manifest.layers.iter().map(|layer| layer.digest).zip(diff_ids.iter().copied());
        if diff_ids.len() != manifest.layers.len() || artifact.layers.len() != diff_ids.len() || !pieces().eq(layers())
        {
            return Err(wrong("the recipes are not those of the original layers"));
        }
        Ok(Self { artifact, bytes, media_type, manifest, config })
    }

    /// Makes everything visible.
    fn publish(
        self,
        layers: Vec<RestoredLayer<'_>>,
        target: &dyn Target,
        options: &ExportOptions,
        progress: &dyn ConversionProgress,
    ) -> Result<Exported, ConvertError> {
        let mut out = BlobOut::new(target, progress)?;
        out.put(&self.config)?;
        let config_out = out.finish();
        let config = config_out.blob;
        let original = layers.iter().all(|layer| layer.reached == Reached::Blob);
        let exported = layers.iter().map(RestoredLayer::describe).collect();
        let (media_type, bytes) = if original {
            (self.media_type, self.bytes)
        } else {
            let described =
                layers.iter().zip(&self.manifest.layers).map(|(made, layer)| made.descriptor(layer, options));
            let manifest = Manifest {
                media_type: Some(media::MANIFEST.to_owned()),
                config: Descriptor { media_type: media::CONFIG.to_owned(), ..self.manifest.config.clone() },
                layers: described.collect(),
                ..self.manifest
            };
            (media::MANIFEST.to_owned(), manifest.to_bytes())
        };
        check_limits(config.size, bytes.len() as u64)?;
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        progress.phase(ConversionPhase::Publish);
        for layer in layers {
            layer.blob.commit()?;
        }
        config_out.commit()?;
        last_chance(target, progress)?;
        let manifest = target.put_manifest(&media_type, &bytes, options.role)?;
        Ok(Exported { manifest, config, layers: exported, left_out: OmittedEntries::default(), original })
    }
}

/// Fetches the recipe of a layer.
fn open_recipe(
    source: &dyn Source,
    layer: &Descriptor,
    piece: &RecipeEntry,
    temporaries: &TemporaryFiles,
) -> Result<Recipe, RecipeError> {
    if piece.recipe.size > MAX_RECIPE_BYTES {
        let (value, limit) = (piece.recipe.size, MAX_RECIPE_BYTES);
        return Err(RecipeError::Limit { part: "bytes of the recipe", value, limit });
    }
    let recipe = Recipe::open(fetch(source, piece.recipe, temporaries)?)?;
    check_head(&recipe, layer, piece)?;
    Ok(recipe)
}

/// A recipe that says something else than the manifest is that of another layer.
fn check_head(recipe: &Recipe, layer: &Descriptor, piece: &RecipeEntry) -> Result<(), RecipeError> {
    let (blob, size, diff_id) = recipe.of();
    for (part, is, must) in [("blob of the recipe", blob, layer.digest), ("tar of the recipe", diff_id, piece.diff_id)]
    {
        if is != must {
            return Err(RecipeError::Digest { part, is, must });
        }
    }
    if size != layer.size {
        return Err(RecipeError::Mismatch { part: "bytes of the blob", said: size, is: layer.size });
    }
    Ok(())
}

/// A layer that is written but not visible yet.
struct RestoredLayer<'t> {
    blob: WholeBlob<'t>,
    diff_id: Digest,
    tar_bytes: u64,
    reached: Reached,
}

impl RestoredLayer<'_> {
    fn describe(&self) -> ExportedLayer {
        let &Self { diff_id, tar_bytes, reached, .. } = self;
        ExportedLayer { blob: self.blob.blob, diff_id, tar_bytes, pack: None, reached }
    }

    /// Describes the layer in an OCI manifest.
    fn descriptor(&self, layer: &Descriptor, options: &ExportOptions) -> Descriptor {
        let media_type = match (self.reached, &*layer.media_type) {
            (Reached::Blob, media::DOCKER_LAYER_GZIP) => media::LAYER_GZIP,
            (Reached::Blob, media::DOCKER_LAYER_TAR) => media::LAYER_TAR,
            (Reached::Blob, same) => same,
            _ => options.compression.media_type(),
        };
        let annotations = layer.annotations.clone();
        Descriptor { annotations, ..Descriptor::new(media_type, self.blob.blob) }
    }
}

/// The making of a layer.
struct RestoringLayer<'l, 't> {
    recipe: &'l Recipe,
    shelf: &'l mut dyn RecipeDevices<Error = ConvertError>,
    target: &'t dyn Target,
    options: &'l ExportOptions,
    progress: &'t dyn ConversionProgress,
}

impl<'t> RestoringLayer<'_, 't> {
    /// Writes the blob if it can be made, else the tar.
    fn write(&mut self, layer: &Descriptor, diff_id: Digest) -> Result<RestoredLayer<'t>, ConvertError> {
        let must = Blob { digest: layer.digest, size: layer.size };
        match self.recipe.form() {
            BlobForm::Unknown => self.tar(diff_id),
            BlobForm::Plain | BlobForm::Gzip => match self.blob(diff_id) {
                Ok(made) if made.blob.blob == must => Ok(made),
                // What its compressor chose was noted wrong; the tar may be right all the same.
                Ok(_) => self.tar(diff_id),
                Err(ConvertError::Original { source, .. }) if source.is_compression() => self.tar(diff_id),
                Err(error) => Err(error),
            },
        }
    }

    fn blob(&mut self, diff_id: Digest) -> Result<RestoredLayer<'t>, ConvertError> {
        let mut out = BlobOut::new(self.target, self.progress)?;
        let mut hasher = Sha256::new();
        let (recipe, progress) = (self.recipe, self.progress);
        let mut put = |bytes: &[u8]| out.put(bytes);
        let mut blob_maker = match recipe.form() {
            BlobForm::Gzip => Some(recipe.restore_blob()?),
            _ => None,
        };
        restore_tar(recipe, self.shelf, &mut |bytes| {
            hasher.update(bytes);
            progress.bytes_in(bytes.len() as u64);
            match &mut blob_maker {
                Some(blob_maker) => blob_maker.put(bytes, &mut put),
                None => put(bytes),
            }
        })?;
        if let Some(blob_maker) = blob_maker {
            blob_maker.finish(&mut put)?;
        }
        let is = Digest::new(hasher.finalize().into());
        if is != diff_id {
            return Err(RecipeError::Digest { part: "tar", is, must: diff_id }.into());
        }
        let blob = out.finish();
        Ok(RestoredLayer { blob, diff_id, tar_bytes: recipe.tar_bytes(), reached: Reached::Blob })
    }

    fn tar(&mut self, diff_id: Digest) -> Result<RestoredLayer<'t>, ConvertError> {
        let out = BlobOut::new(self.target, self.progress)?;
        let (recipe, progress) = (self.recipe, self.progress);
        let (layer, ()) = compress(self.options, out, |stream| {
            restore_tar(recipe, self.shelf, &mut |bytes| {
                progress.bytes_in(bytes.len() as u64);
                stream.put(bytes)
            })
        })?;
        if layer.diff_id != diff_id {
            return Err(RecipeError::Digest { part: "tar", is: layer.diff_id, must: diff_id }.into());
        }
        Ok(RestoredLayer { blob: layer.blob, diff_id, tar_bytes: recipe.tar_bytes(), reached: Reached::Tar })
    }
}
