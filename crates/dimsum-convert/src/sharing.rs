//! The images that a conversion may take data from, and the report of the data that it took.

use std::collections::HashSet;

use dimsum_format::manifest::{Blob, Manifest, Platform};
use dimsum_format::{Digest, codec, media};
use dimsum_source::{ErrorKind, Place, Prefer, Source, Target, host_platform, resolve};

use crate::error::ConvertError;
use crate::options::ConvertOptions;

/// A Dimsum image that is there already.
#[derive(Debug, Clone, Copy)]
pub struct KnownImage<'a> {
    /// Where its manifest and blobs are.
    pub source: &'a dyn Source,
    /// Its manifest.
    pub manifest: Digest,
}

/// Whether packs that exist for the same layers are taken instead of making them again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PackReuse {
    /// A pack is taken if its layer gives the same device and the same layer meta; for that the layer is read, but not
    /// compressed. Small files of other images are referred to only at proven positions.
    #[default]
    Verify,
    /// Unseen, as their tag or annotation claims: the layer is not even read. Wrong packs give a wrong image. No cache
    /// tags are written where a pack was taken so.
    Trust,
    /// Never, and no cache tags are written.
    Never,
}

/// The data that a conversion may take from other images.
#[derive(Debug, Clone, Default)]
pub struct Sharing<'a> {
    /// Images to whose packs may be referred, in the order of preference. The image depends on it: the same images in
    /// the same order give the same bytes.
    pub with: Vec<KnownImage<'a>>,
    /// The image that the target's name stood for before, if it was asked for: recorded in the manifest.
    pub parent: Option<Digest>,
    /// Whether packs are re-used. Changes no bytes.
    pub reuse: PackReuse,
    /// Images whose packs may be re-used, besides those that the target has cache tags for. The target gets
    /// tags for those that were and that are proven, so that the next conversion finds them there.
    pub reuse_from: Vec<KnownImage<'a>>,
    /// Images that were named and have nothing for this platform.
    pub refused: Vec<RefusedPack>,
}

/// The data that a conversion took from other images.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SharedContent {
    /// Images that were looked at for packs to refer to, in the order of preference.
    pub with: Vec<Digest>,
    /// The image that is followed: the one that the target's name stood for, if it was asked for and is there.
    pub parent: Option<Digest>,
    /// Packs of other images that the image lists.
    pub foreign: Vec<ForeignPack>,
    /// Packs of its own that it did not have to make.
    pub reused: Vec<ReusedPack>,
    /// Bytes of packs that were mounted into the target from another repository of its registry.
    pub mounted_bytes: u64,
    /// Bytes of packs that were copied into the target.
    pub copied_bytes: u64,
    /// Bytes of file content that lie in packs of other images.
    pub content_bytes: u64,
    /// The packs that were not taken, and why.
    pub refused: Vec<RefusedPack>,
}

/// A pack of another image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForeignPack {
    /// The pack.
    pub blob: Blob,
    /// The manifest it was found in.
    pub image: Digest,
}

/// A pack that exists for the same layers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReusedPack {
    /// The pack.
    pub blob: Blob,
    /// Where it was found: a cache tag, or the pack of an image that was named.
    pub what: String,
}

/// Something that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedPack {
    /// An image, a pack, or a cache tag.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// The packs that a conversion refuses, over all of its attempts: these are never offered again.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) list: Vec<RefusedPack>,
    names: HashSet<String>,
    everything: bool,
}

impl Refusals {
    /// Starts with the packs refused before.
    pub(crate) fn of(refused: &[RefusedPack]) -> Self {
        let mut refusals = Self::default();
        refused.iter().for_each(|refused| refusals.add(refused.clone()));
        refusals
    }

    /// Adds something, once.
    pub(crate) fn add(&mut self, refused: RefusedPack) {
        if self.names.insert(refused.what.clone()) {
            self.list.push(refused);
        }
    }

    /// Adds all that may be offered from now on.
    pub(crate) fn add_everything(&mut self, reason: String) {
        self.everything = true;
        self.add(RefusedPack { what: "everything else".to_owned(), reason });
    }

    /// Says whether something was refused.
    pub(crate) fn hold(&self, what: &str) -> bool {
        self.everything || self.names.contains(what)
    }
}

/// Names of images to share with. Where they stand for several platforms each image of the source takes the one
/// of its own.
#[derive(Debug, Clone, Default)]
pub struct SharingFrom<'a> {
    /// Images to whose packs may be referred.
    pub with: Vec<&'a dyn Place>,
    /// Whether the image that the target's name stands for now comes first, and the one that it followed.
    pub auto: bool,
    /// Whether packs are re-used.
    pub reuse: PackReuse,
    /// Images whose packs may be re-used.
    pub reuse_from: Vec<&'a dyn Place>,
}

impl<'a> SharingFrom<'a> {
    /// Finds the images for an image of the source, whose manifest and place in an index these are.
    ///
    /// # Errors
    /// If an image that was named is not there or is not a Dimsum image, or the target cannot be asked.
    pub fn resolve(
        &self,
        target: &'a dyn Target,
        source: Option<Digest>,
        platform: Option<&Platform>,
        options: &ConvertOptions,
    ) -> Result<Sharing<'a>, ConvertError> {
        let own = platform.cloned().unwrap_or_else(host_platform);
        let mut sharing = Sharing { reuse: self.reuse, ..Sharing::default() };
        if self.auto {
            self.follow(target, &own, |before| is_same(before, source, options), &mut sharing)?;
        }
        let find = |place: &&'a dyn Place| match named(*place, &own) {
            // One image of an index; other images of it may have other images to share with.
            Err(ConvertError::Registry(error))
                if error.kind() == ErrorKind::NotFound && platform.is_some() && place.root().is_ok() =>
            {
                Ok(Err(RefusedPack { what: place.name().to_owned(), reason: error.to_string() }))
            }
            Err(source) => Err(ConvertError::Sharing { name: place.name().to_owned(), source: Box::new(source) }),
            Ok(found) => Ok(Ok(found)),
        };
        for place in &self.with {
            match find(place)? {
                Ok(known) if sharing.with.iter().any(|other| other.manifest == known.manifest) => {}
                Ok(known) => sharing.with.push(known),
                Err(refused) => sharing.refused.push(refused),
            }
        }
        for place in &self.reuse_from {
            match find(place)? {
                Ok(known) => sharing.reuse_from.push(known),
                Err(refused) => sharing.refused.push(refused),
            }
        }
        Ok(sharing)
    }

    /// Takes the image that the target's name stands for, and its parent. If that is what is being made (`is_same`), a
    /// conversion that is done again, then what it followed: the outcome is the same then.
    fn follow(
        &self,
        target: &'a dyn Target,
        platform: &Platform,
        is_same: impl Fn(&Manifest) -> bool,
        sharing: &mut Sharing<'a>,
    ) -> Result<(), ConvertError> {
        let Some(place) = target.place() else { return Ok(()) };
        let document = match resolve(place, platform, Prefer::Dimsum) {
            Ok(document) => document,
            // The first image of its name, or the first for this platform.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut before = ours(document.descriptor.digest, &document.bytes);
        if let Some((_, same)) = before.as_ref().filter(|(_, manifest)| is_same(manifest)) {
            before = parent(place, same)?;
        }
        let Some((digest, manifest)) = before else { return Ok(()) };
        sharing.parent = Some(digest);
        sharing.with.push(KnownImage { source: place, manifest: digest });
        if let Some((digest, _)) = parent(place, &manifest)? {
            sharing.with.push(KnownImage { source: place, manifest: digest });
        }
        Ok(())
    }
}

/// Says whether an image was made of the same source in the same way.
fn is_same(before: &Manifest, source: Option<Digest>, options: &ConvertOptions) -> bool {
    let says = |key: &str, value: &str| before.annotations.get(key).is_some_and(|own| own == value);
    source.is_some_and(|source| says(media::ANNOTATION_SOURCE_MANIFEST, &source.to_string()))
        && says(media::ANNOTATION_OPTIONS, &options.canonical())
        && says(media::ANNOTATION_ENCODER, &codec::encoder_id(options.level))
}

/// Reads the manifest of an image if it is one of ours.
fn ours(digest: Digest, bytes: &[u8]) -> Option<(Digest, Manifest)> {
    Manifest::parse(bytes).ok().filter(Manifest::is_dimsum).map(|manifest| (digest, manifest))
}

/// Reads the manifest of the image that another one followed; none if it is deleted.
fn parent(place: &dyn Place, image: &Manifest) -> Result<Option<(Digest, Manifest)>, ConvertError> {
    let parent = image.annotations.get(media::ANNOTATION_PARENT).and_then(|parent| parent.parse().ok());
    let Some(parent) = parent else { return Ok(None) };
    match place.read_manifest(parent) {
        Ok(bytes) => Ok(ours(parent, &bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Finds an image that was named to be shared with, which must be one of ours.
fn named<'a>(place: &'a dyn Place, platform: &Platform) -> Result<KnownImage<'a>, ConvertError> {
    let document = resolve(place, platform, Prefer::Dimsum)?;
    let digest = document.descriptor.digest;
    let failed = |source| ConvertError::Document { object: "manifest", digest, source: Box::new(source) };
    if !Manifest::parse(&document.bytes).map_err(failed)?.is_dimsum() {
        return Err(ConvertError::NotDimsum { name: place.name().to_owned(), digest });
    }
    Ok(KnownImage { source: place, manifest: digest })
}
