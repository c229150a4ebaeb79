//! Converts a manifest to a manifest, and an index to an index.
//!
//! ```text
//!   root ─→ entries: images for the platforms wanted; other entries are left out and reported
//!        └─ one after the other: [original copied as it is] ─→ converted ─→ descriptors
//!   index of the descriptors, in the source's order, last
//! ```
//!
//! One image is converted at a time, so memory and temporary space are those of the largest image, not of all.

use std::collections::HashMap;

use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Annotations, Blob, Descriptor, ImageConfig, Index, Manifest, Platform};
use dimsum_format::{Digest, FormatError, media};
use dimsum_source::{
    Copied, CopyProgress, Document, ErrorKind, Place, Role, Shape, SourceFault, Target, copy_manifest, fits, is_twin,
};

use crate::convert::convert_as;
use crate::error::{ConvertError, limit};
use crate::input::Input;
use crate::options::ConvertOptions;
use crate::outcome::Converted;
use crate::progress::{ConversionPhase, ConversionProgress};
use crate::sharing::SharingFrom;

/// Indexes inside of indexes that are followed: the specification allows any number, tools write one.
const MAX_NESTING: usize = 4;
/// Images of an index that are converted: an index of many more is a mistake or an attack, and each takes its time.
const MAX_IMAGES: usize = 128;

/// The images of an index that are converted, and the images beside them.
#[derive(Debug, Clone, Default)]
pub struct Choice<'a> {
    /// Only for these platforms; for all if there are none. A manifest is converted whatever it is for.
    pub platforms: Vec<Platform>,
    /// Put each original before its Dimsum image. A manifest then becomes an index of both.
    pub with_original: bool,
    /// The existing images that may be shared with.
    pub sharing: SharingFrom<'a>,
}

/// The outcome of converting all images of a name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertedRoot {
    /// The manifest or index that the target's name stands for now.
    pub root: Descriptor,
    /// The images, in the order of the source.
    pub images: Vec<ConvertedImage>,
    /// Entries of the source's index that are not in the target.
    pub left_out: Vec<SkippedImage>,
}

/// One image of several.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConvertedImage {
    /// Its platform; not known of a single manifest that is converted alone.
    pub platform: Option<Platform>,
    /// The manifest that was converted.
    pub source: Digest,
    /// Its outcome.
    pub converted: Converted,
    /// The cost of copying the original, if that was asked for.
    pub original: Option<Copied>,
}

/// An entry of an index that was not converted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedImage {
    /// The entry.
    pub digest: Digest,
    /// Its platform.
    pub platform: Option<Platform>,
    /// Why it is not there.
    pub reason: SkipReason,
}

/// Why an entry of an index is not converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// It is for a platform that was not asked for.
    Platform,
    /// It is an attestation, signature or another thing that is no image.
    NoImage,
    /// It is a Dimsum image already: the originals are converted.
    Dimsum,
    /// It is for Windows, where no Dimsum image can be mounted.
    Windows,
}

/// An image to convert.
struct WantedImage {
    /// As the source lists it; of a single manifest, without a platform.
    entry: Descriptor,
}

/// Converts what the name of `place` stands for and makes the result the root of `target`.
///
/// # Errors
/// As [`convert`](crate::convert); also if there is no image that can be converted. Blobs of finished images stay in
/// the target; its name keeps its former meaning.
pub fn convert_all(
    place: &dyn Place,
    target: &dyn Target,
    choice: &Choice<'_>,
    options: &ConvertOptions,
    progress: &dyn ConversionProgress,
) -> Result<ConvertedRoot, ConvertError> {
    options.check()?;
    let root = place.root()?;
    let single = !root.is_index() && !choice.with_original;
    refuse_shape(target, if single { Shape::Dimsum } else { Shape::Index })?;
    if single {
        let source = root.descriptor.digest;
        let sharing = choice.sharing.resolve(target, Some(source), None, options)?;
        let input = Input::Image { source: place, manifest: source };
        let converted = convert_as(input, target, Role::Root, options, &sharing, progress)?;
        let root = described(&converted);
        let image = ConvertedImage { platform: None, source, converted, original: None };
        return Ok(ConvertedRoot { root, images: vec![image], left_out: Vec::new() });
    }
    let mut survey = Survey { place, choice, wanted: Vec::new(), left_out: Vec::new() };
    let annotations = survey.root(&root)?;
    let Survey { wanted, left_out, .. } = survey;
    let mut index = Vec::new();
    let mut images: Vec<ConvertedImage> = Vec::new();
    let mut done: HashMap<Digest, usize> = HashMap::new();
    let count = wanted.len();
    for (number, WantedImage { entry }) in wanted.into_iter().enumerate() {
        let source = entry.digest;
        let image = match done.get(&source).and_then(|&number| images.get(number)) {
            // Two platforms may share an image.
            Some(known) => ConvertedImage { platform: entry.platform.clone(), ..known.clone() },
            None => {
                progress.phase(ConversionPhase::Image { index: number, count, digest: source });
                one(place, target, &entry, choice, options, progress)?
            }
        };
        list(&mut index, entry, &image);
        done.insert(source, images.len());
        images.push(image);
    }
    let index = Index { schema_version: 2, media_type: Some(media::INDEX.to_owned()), manifests: index, annotations };
    let bytes = index.to_bytes();
    // A document that cannot be read again is not written.
    Index::parse(&bytes).map_err(|source| ConvertError::format("index", source))?;
    let digest = target.put_manifest(media::INDEX, &bytes, Role::Root)?;
    Ok(ConvertedRoot {
        root: Descriptor::new(media::INDEX, Blob { digest, size: bytes.len() as u64 }),
        images,
        left_out,
    })
}

/// Copies and converts one image of several.
fn one(
    place: &dyn Place,
    target: &dyn Target,
    entry: &Descriptor,
    choice: &Choice<'_>,
    options: &ConvertOptions,
    progress: &dyn ConversionProgress,
) -> Result<ConvertedImage, ConvertError> {
    let original = if choice.with_original {
        let copied = copy_manifest(place, target, entry.digest, Role::Part, &OriginalCopying(progress));
        Some(copied.map_err(|error| match error {
            error if error.kind() == ErrorKind::Cancelled && progress.cancelled() => ConvertError::Cancelled,
            error => error.into(),
        })?)
    } else {
        None
    };
    let input = Input::Image { source: place, manifest: entry.digest };
    let sharing = choice.sharing.resolve(target, Some(entry.digest), entry.platform.as_ref(), options)?;
    let converted = convert_as(input, target, Role::Part, options, &sharing, progress)?;
    Ok(ConvertedImage { platform: entry.platform.clone(), source: entry.digest, converted, original })
}

/// Lists an image: the original first, since readers take the first that fits them.
fn list(index: &mut Vec<Descriptor>, entry: Descriptor, image: &ConvertedImage) {
    let mut twin = described(&image.converted);
    twin.platform.clone_from(&entry.platform);
    twin.annotations.insert(media::ANNOTATION_SOURCE_MANIFEST.to_owned(), entry.digest.to_string());
    if image.original.is_some() {
        twin.artifact_type = Some(media::ARTIFACT_TYPE.to_owned());
        index.push(entry);
    }
    index.push(twin);
}

/// Finds the images of a source.
struct Survey<'a> {
    place: &'a dyn Place,
    choice: &'a Choice<'a>,
    wanted: Vec<WantedImage>,
    left_out: Vec<SkippedImage>,
}

impl Survey<'_> {
    /// Looks at the root and returns the annotations that the new index gets from it.
    fn root(&mut self, root: &Document) -> Result<Annotations, ConvertError> {
        if !root.is_index() {
            if self.parse(root)?.is_dimsum() {
                return Err(ConvertError::AlreadyDimsum { digest: root.descriptor.digest });
            }
            let mut entry = Descriptor { annotations: Annotations::new(), ..root.descriptor.clone() };
            entry.platform = Some(self.platform(root)?);
            self.wanted.push(WantedImage { entry });
            return Ok(Annotations::new());
        }
        let annotations = self.index(root, 0)?;
        limit("images of the index", self.wanted.len() as u64, MAX_IMAGES as u64)?;
        if !self.wanted.is_empty() {
            return Ok(annotations);
        }
        let digest = root.descriptor.digest;
        let only_dimsum = self.left_out.iter().any(|each| each.reason == SkipReason::Dimsum);
        Err(if only_dimsum { ConvertError::AlreadyDimsum { digest } } else { self.nothing(digest) })
    }

    fn nothing(&self, digest: Digest) -> ConvertError {
        let text = |platform: &Platform| format!("{}/{}", platform.os, platform.architecture);
        let wanted = self.choice.platforms.iter().map(text).collect();
        let of_images = self.left_out.iter().filter(|each| each.reason == SkipReason::Platform);
        let offered = of_images.filter_map(|each| each.platform.as_ref()).map(text).collect();
        ConvertError::NoPlatform { digest, wanted, offered }
    }

    fn index(&mut self, document: &Document, depth: usize) -> Result<Annotations, ConvertError> {
        let digest = document.descriptor.digest;
        limit("depth of nested indexes", depth as u64, MAX_NESTING as u64)?;
        let failed = |source| ConvertError::Document { object: "index", digest, source: Box::new(source) };
        let index = Index::parse(&document.bytes).map_err(failed)?;
        for entry in index.manifests {
            self.entry(entry, depth)?;
        }
        Ok(index.annotations)
    }

    fn entry(&mut self, mut entry: Descriptor, depth: usize) -> Result<(), ConvertError> {
        if is_twin(&entry) {
            return self.leave_out(entry, SkipReason::Dimsum);
        }
        let unknown = entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
        let nested = matches!(&*entry.media_type, media::INDEX | media::DOCKER_INDEX);
        let manifest = matches!(&*entry.media_type, media::MANIFEST | media::DOCKER_MANIFEST);
        if unknown || entry.artifact_type.is_some() || !(nested || manifest) {
            return self.leave_out(entry, SkipReason::NoImage);
        }
        if entry.platform.as_ref().is_some_and(|platform| !self.chosen(platform)) {
            return self.leave_out(entry, SkipReason::Platform);
        }
        if entry.platform.as_ref().is_some_and(|platform| platform.os == "windows") {
            return self.leave_out(entry, SkipReason::Windows);
        }
        let bytes = self.place.read_manifest(entry.digest)?;
        let document = Document { descriptor: entry.clone(), bytes };
        if nested {
            return self.index(&document, depth + 1).map(drop);
        }
        let parsed = self.parse(&document)?;
        if parsed.is_dimsum() {
            return self.leave_out(entry, SkipReason::Dimsum);
        }
        if !crate::source::is_image(&parsed) {
            return self.leave_out(entry, SkipReason::NoImage);
        }
        if entry.platform.is_none() {
            let platform = self.platform(&document)?;
            if !self.chosen(&platform) {
                return self.leave_out(entry, SkipReason::Platform);
            }
            entry.platform = Some(platform);
        }
        self.wanted.push(WantedImage { entry });
        Ok(())
    }

    fn chosen(&self, platform: &Platform) -> bool {
        let platforms = &self.choice.platforms;
        platforms.is_empty() || platforms.iter().any(|wanted| fits(platform, wanted))
    }

    fn leave_out(&mut self, entry: Descriptor, reason: SkipReason) -> Result<(), ConvertError> {
        self.left_out.push(SkippedImage { digest: entry.digest, platform: entry.platform, reason });
        Ok(())
    }

    fn parse(&self, document: &Document) -> Result<Manifest, ConvertError> {
        let digest = document.descriptor.digest;
        let failed = |source| ConvertError::Document { object: "manifest", digest, source: Box::new(source) };
        Manifest::parse(&document.bytes).map_err(failed)
    }

    /// Returns what an image is for, as its config says.
    fn platform(&self, document: &Document) -> Result<Platform, ConvertError> {
        let digest = self.parse(document)?.config.digest;
        let bytes = self.place.read_small("config", digest, MAX_CONFIG_BYTES)?;
        let failed = |source| ConvertError::Document { object: "config", digest, source: Box::new(source) };
        let config = ImageConfig::parse(&bytes).map_err(failed)?;
        let text = |key: &str| config.object().get(key).and_then(|value| value.as_str()).map(str::to_owned);
        let missing = || failed(FormatError::NotDimsum { reason: "the config does not say what platform it is for" });
        Ok(Platform {
            architecture: text("architecture").ok_or_else(missing)?,
            os: text("os").ok_or_else(missing)?,
            variant: text("variant"),
            os_version: text("os.version"),
        })
    }
}

/// Tells the progress of a conversion what copying an original does.
struct OriginalCopying<'p>(&'p dyn ConversionProgress);

impl CopyProgress for OriginalCopying<'_> {
    fn planned(&self, _manifests: usize, _blobs: usize, bytes: u64) {
        self.0.phase(ConversionPhase::Original { size: bytes });
    }

    fn blob_moved(&self, _blob: Blob, count: u64) {
        self.0.bytes_in(count);
        self.0.bytes_out(count);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

fn refuse_shape(target: &dyn Target, shape: Shape) -> Result<(), ConvertError> {
    match target.refuses(shape) {
        Some(reason) => Err(SourceFault::Target { reason }.at(target.name()).into()),
        None => Ok(()),
    }
}

fn described(converted: &Converted) -> Descriptor {
    Descriptor::new(media::MANIFEST, Blob { digest: converted.manifest, size: converted.manifest_bytes })
}
