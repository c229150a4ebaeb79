//! What a conversion may take from images that are there already, and what it took.

use dimsum_format::manifest::{Blob, Manifest, Platform};
use dimsum_format::{Digest, media};
use dimsum_registry::{Place, Prefer, Source, SourceError, Target, host_platform, resolve};

use crate::error::Error;

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
pub enum Reuse {
    /// If the layer, which is read for that but not compressed, gives the same device and the same layer meta; and small
    /// files of other images are referred to only where they are proven to be.
    #[default]
    Verify,
    /// Unseen, as somebody says they are: the layer is not even read. Wrong packs give a wrong image. No cache tags are written
    /// where a pack was taken so.
    Trust,
    /// Never, and no cache tags are written.
    Never,
}

/// What a conversion may take from other images.
#[derive(Debug, Clone, Default)]
pub struct Sharing<'a> {
    /// Images to whose packs may be referred, in the order of preference. Part of what the image is made of: the same images
    /// in the same order give the same bytes.
    pub with: Vec<KnownImage<'a>>,
    /// The image that the target's name stood for before, if it was asked for: recorded in the manifest.
    pub parent: Option<Digest>,
    /// Whether packs are re-used. Changes no bytes.
    pub reuse: Reuse,
    /// Images whose packs may be re-used, besides those that the target has cache tags for. The target gets tags for those that
    /// were and that are proven, so that the next conversion finds them there.
    pub reuse_from: Vec<KnownImage<'a>>,
}

/// What a conversion took from other images.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Shared {
    /// Packs of other images that the image lists.
    pub foreign: Vec<ForeignPack>,
    /// Packs of its own that it did not have to make.
    pub reused: Vec<Blob>,
    /// Bytes of packs that were mounted into the target from another repository of its registry.
    pub mounted_bytes: u64,
    /// Bytes of packs that were copied into the target.
    pub copied_bytes: u64,
    /// Bytes of file content that lie in packs of other images.
    pub content_bytes: u64,
    /// What was not taken, and why.
    pub refused: Vec<Refused>,
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

/// Something that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// An image, a pack, or a cache tag.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// Names of images to share with. Where they stand for several platforms each image of the source takes the one of its own.
#[derive(Debug, Clone, Default)]
pub struct SharingFrom<'a> {
    /// Images to whose packs may be referred.
    pub with: Vec<&'a dyn Place>,
    /// Whether the image that the target's name stands for now comes first, and the one that it followed.
    pub auto: bool,
    /// Whether packs are re-used.
    pub reuse: Reuse,
    /// Images whose packs may be re-used.
    pub reuse_from: Vec<&'a dyn Place>,
}

impl<'a> SharingFrom<'a> {
    /// Finds the images for a platform; this machine's if none is given.
    ///
    /// # Errors
    /// If an image that was named is not there or is not a Dimsum image, or the target cannot be asked.
    pub fn resolve(&self, target: &'a dyn Target, platform: Option<&Platform>) -> Result<Sharing<'a>, Error> {
        let platform = platform.cloned().unwrap_or_else(host_platform);
        let mut sharing = Sharing { reuse: self.reuse, ..Sharing::default() };
        if self.auto {
            self.follow(target, &platform, &mut sharing)?;
        }
        for &place in &self.with {
            let known = named(place, &platform)?;
            if !sharing.with.iter().any(|other| other.manifest == known.manifest) {
                sharing.with.push(known);
            }
        }
        for &place in &self.reuse_from {
            sharing.reuse_from.push(named(place, &platform)?);
        }
        Ok(sharing)
    }

    /// Takes the image that the target's name stands for, and its parent.
    fn follow(&self, target: &'a dyn Target, platform: &Platform, sharing: &mut Sharing<'a>) -> Result<(), Error> {
        let Some(place) = target.place() else { return Ok(()) };
        let document = match resolve(place, platform, Prefer::Dimsum) {
            Ok(document) => document,
            // The first image of its name, or the first for this platform.
            Err(SourceError::Name { .. } | SourceError::NotFound { .. }) => return Ok(()),
            Err(SourceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(manifest) = Manifest::parse(&document.bytes).ok().filter(Manifest::is_dimsum) else { return Ok(()) };
        let digest = document.descriptor.digest;
        sharing.parent = Some(digest);
        sharing.with.push(KnownImage { source: place, manifest: digest });
        let parent = manifest.annotations.get(media::ANNOTATION_PARENT).and_then(|parent| parent.parse().ok());
        if let Some(parent) = parent {
            match place.read_manifest(parent) {
                Ok(_) => sharing.with.push(KnownImage { source: place, manifest: parent }),
                // Deleted since.
                Err(SourceError::NotFound { .. }) => {}
                Err(SourceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Finds an image that was named to be shared with, which must be one of ours.
fn named<'a>(place: &'a dyn Place, platform: &Platform) -> Result<KnownImage<'a>, Error> {
    let document = resolve(place, platform, Prefer::Dimsum)?;
    let digest = document.descriptor.digest;
    let failed = |source| Error::Document { object: "manifest", digest, source: Box::new(source) };
    if !Manifest::parse(&document.bytes).map_err(failed)?.is_dimsum() {
        return Err(Error::NotDimsum { name: place.name().to_owned(), digest });
    }
    Ok(KnownImage { source: place, manifest: digest })
}
