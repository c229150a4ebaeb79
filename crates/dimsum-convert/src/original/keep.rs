//! Collects the recipes of a conversion while layers are read, and stores them at its end.

use std::collections::HashSet;
use std::io::Read;
use std::num::NonZeroUsize;

use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Blob, Descriptor, Manifest};
use dimsum_format::{DeviceId, Digest, media};
use dimsum_recipe::limits::MAX_RECIPE_BYTES;
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_recipe::{BlobForm, RecipeError, RecipeParts, Recorded, Section, UnkeptReason, note};
use dimsum_source::{Source, SourceFault, Target};

use super::artifact::{EMPTY, OriginalArtifact, RecipeEntry};
use super::recipe_builder::{RecipeContext, TarRecipe, build_recipe};
use super::unkept;
use crate::blob::{BlobOut, WholeBlob};
use crate::content::ContentTable;
use crate::error::{ConvertError, limit};
use crate::hashing::HashingReader;
use crate::input::Input;
use crate::layer::Expected;
use crate::options::ConvertOptions;
use crate::ordered_tasks::with_workers;
use crate::progress::ConversionProgress;

/// Layers whose compression is looked at at the same time: each takes up to some 100 MiB of memory.
const MAX_JOBS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

/// The result of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// The blob, bit by bit.
    Blob,
    /// Its tar, and so the `diff_id`; why not the blob.
    Tar(&'static str),
}

impl Gives {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Tar(_) => "tar",
        }
    }
}

/// The recipe of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLayer {
    /// Digest of the source's blob.
    pub source: Digest,
    /// The recipe.
    pub recipe: Blob,
    /// Its result.
    pub gives: Gives,
}

/// The recipes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptOriginal {
    /// The referrer's manifest.
    pub manifest: Digest,
    /// Its layers, lowest first.
    pub layers: Vec<KeptLayer>,
    /// Packs that only recipes need.
    pub packs: Vec<Blob>,
}

/// The records made while layers are read.
pub(crate) struct Keeping<'a> {
    source: &'a dyn Source,
    manifest: Digest,
    layers: Vec<RecordedLayer>,
}

struct RecordedLayer {
    expected: Expected,
    tar_bytes: u64,
    recorded: Recorded,
}

/// All recipes, when the places of contents are known.
pub(crate) struct Kept<'a> {
    source: &'a dyn Source,
    manifest: Digest,
    layers: Vec<LayerRecipe>,
}

/// The parts of a recipe.
struct LayerRecipe {
    expected: Expected,
    tar_bytes: u64,
    recipe: TarRecipe,
    compression: NotedCompression,
}

impl<'a> Keeping<'a> {
    /// Starts, if the original is to be kept and can be.
    pub(crate) fn start(
        input: Input<'a>,
        target: &dyn Target,
        options: &ConvertOptions,
    ) -> Result<Option<Self>, ConvertError> {
        if !options.keep_original {
            return Ok(None);
        }
        let Input::Image { source, manifest } = input else {
            let reason = "is for images: a directory has no layers";
            return Err(ConvertError::Option { option: "keep original", reason });
        };
        match target.refuses_referrers() {
            Some(reason) => Err(SourceFault::Target { reason }.at(target.name()).into()),
            None => Ok(Some(Self { source, manifest, layers: Vec::new() })),
        }
    }

    /// Adds a layer that has been read.
    pub(crate) fn layer(&mut self, expected: &Expected, tar_bytes: u64, recorded: Recorded) {
        let &Expected { digest, size, diff_id } = expected;
        self.layers.push(RecordedLayer { expected: Expected { digest, size, diff_id }, tar_bytes, recorded });
    }

    /// Makes the recipes, once all layers are read. `devices` are those of places, by their numbers.
    pub(crate) fn make_recipes(
        self,
        contents: &ContentTable,
        devices: &[Option<(DeviceId, u32)>],
        options: &ConvertOptions,
        temporaries: &TemporaryFiles,
        progress: &dyn ConversionProgress,
    ) -> Result<Kept<'a>, ConvertError> {
        let Self { source, manifest, layers } = self;
        let work = |(): &mut (),
                    RecordedLayer { expected, tar_bytes, recorded }: RecordedLayer|
         -> Result<LayerRecipe, ConvertError> {
            let open = || -> Result<Box<dyn Read + Send>, ConvertError> { Ok(source.open(expected.digest)?) };
            let recipe = build_recipe(recorded, &RecipeContext { contents, devices, temporaries, open: &open })?;
            let compression = if expected.digest == expected.diff_id {
                Ok(None)
            } else {
                note_compression(open()?, &expected, temporaries, progress)?.map(Some)
            };
            Ok(LayerRecipe { expected, tar_bytes, recipe, compression })
        };
        let layers = with_workers(
            options.jobs.min(MAX_JOBS),
            || (),
            work,
            |ordered| {
                let mut done = Vec::new();
                for layer in layers {
                    if let Some(ready) = ordered.submit(layer) {
                        done.push(ready?);
                    }
                }
                while let Some(ready) = ordered.take() {
                    done.push(ready?);
                }
                Ok::<_, ConvertError>(done)
            },
        );
        Ok(Kept { source, manifest, layers: layers? })
    }
}

impl Kept<'_> {
    /// Returns the devices that recipes refer to: their packs are needed, whether the image lists them or not.
    pub(crate) fn devices(&self) -> HashSet<DeviceId> {
        self.layers.iter().flat_map(|layer| &layer.recipe.devices).map(|&(id, _)| id).collect()
    }

    /// Stores everything as a referrer of the image `subject`, whose packs and `packs` are there already.
    pub(crate) fn publish(
        self,
        target: &dyn Target,
        subject: Descriptor,
        packs: Vec<Blob>,
        progress: &dyn ConversionProgress,
    ) -> Result<KeptOriginal, ConvertError> {
        let Self { source, manifest, layers } = self;
        let (mut pieces, mut kept, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
        for layer in layers {
            let (source, diff_id) = (layer.expected.digest, layer.expected.diff_id);
            let (whole, gives) = layer.write(target, progress)?;
            let recipe = whole.blob;
            kept.push(KeptLayer { source, recipe, gives });
            pieces.push(RecipeEntry { layer: source, diff_id, recipe });
            blobs.push(whole);
        }
        let bytes = source.read_manifest(manifest)?;
        let failed = |source| ConvertError::Document { object: "manifest", digest: manifest, source: Box::new(source) };
        let parsed = Manifest::parse(&bytes).map_err(failed)?;
        let config = source.read_small("config", parsed.config.digest, MAX_CONFIG_BYTES)?;
        let mut whole = |bytes: &[u8]| {
            let mut out = BlobOut::new(target, progress)?;
            out.put(bytes)?;
            let out = out.finish();
            let blob = out.blob;
            blobs.push(out);
            Ok::<Blob, ConvertError>(blob)
        };
        let media_type = parsed.media_type.unwrap_or_else(|| media::MANIFEST.to_owned());
        let (document, config) = (whole(&bytes)?, whole(&config)?);
        whole(EMPTY)?;
        let artifact = OriginalArtifact { manifest: (document, media_type), config, layers: pieces, packs };
        let gives: Vec<Gives> = kept.iter().map(|layer| layer.gives).collect();
        let bytes = artifact.to_bytes(&gives, subject);
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        for blob in blobs {
            blob.commit()?;
        }
        let manifest = target.put_referrer(&bytes)?;
        Ok(KeptOriginal { manifest, layers: kept, packs: artifact.packs })
    }
}

/// How a blob comes from its tar: not at all, as it is, or by these notes.
type NotedCompression = Result<Option<Section>, UnkeptReason>;

impl LayerRecipe {
    /// Writes the recipe.
    fn write<'t>(
        self,
        target: &'t dyn Target,
        progress: &'t dyn ConversionProgress,
    ) -> Result<(WholeBlob<'t>, Gives), ConvertError> {
        let Self { expected, tar_bytes, recipe, compression } = self;
        let (form, gives) = match &compression {
            Ok(None) => (BlobForm::Plain, Gives::Blob),
            Ok(Some(_)) => (BlobForm::Gzip, Gives::Blob),
            Err(reason) => (BlobForm::Unknown, Gives::Tar(reason)),
        };
        let recipe = RecipeParts {
            form,
            tar_bytes,
            diff_id: expected.diff_id,
            blob: Blob { digest: expected.digest, size: expected.size },
            devices: recipe.devices,
            operations: recipe.operations,
            literals: recipe.literals,
            notes: compression.ok().flatten(),
        };
        let mut out = BlobOut::new(target, progress)?;
        recipe.write(&mut |bytes| out.put(bytes))?;
        limit("recipe of a layer", out.size(), MAX_RECIPE_BYTES)?;
        Ok((out.finish(), gives))
    }
}

/// Reads a layer's blob again and notes how it comes from its tar.
fn note_compression(
    blob: impl Read,
    expected: &Expected,
    temporaries: &TemporaryFiles,
    progress: &dyn ConversionProgress,
) -> Result<Result<Section, UnkeptReason>, ConvertError> {
    let quiet = CancelOnly(progress);
    let mut input = HashingReader::new(blob.take(expected.size.saturating_add(1)), &quiet);
    let section = match note(&mut input, expected.size, temporaries) {
        Ok(Ok(section)) => section,
        Ok(Err(reason)) => return Ok(Err(reason)),
        Err(_) if progress.cancelled() => return Err(ConvertError::Cancelled),
        Err(RecipeError::Read { source, .. }) => {
            return Err(ConvertError::Unreadable { object: "the layer".to_owned(), source: source.into() });
        }
        Err(error) => return Err(unkept(error)),
    };
    if input.finish() != (expected.digest, expected.size) {
        return Ok(Err("its bytes were others when they were read again"));
    }
    Ok(Ok(section))
}

/// The blob was counted when it was read for the first time.
struct CancelOnly<'p>(&'p dyn ConversionProgress);

impl ConversionProgress for CancelOnly<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
