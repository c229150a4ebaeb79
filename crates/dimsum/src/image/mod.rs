//! From what the user wrote to an image whose every byte is proven.
//!
//! The chain of trust starts here: a reference with a digest is pinned by the user, one with a tag by what the layout's
//! index says *now*. Everything behind that digest is proven.
//!
//! ```text
//! text ─→ resolve (layout) ─┬─ Dimsum image ──────────────────────────┬─→ Located ─→ server (mount, run)
//!                           └─ ordinary image ─→ convert_in (store) ──┘        └───→ Opened: read here (ls, cat, inspect)
//! ```

pub mod convert_in;
pub mod fs;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use dimsum_erofs::{Bounds, ImageKind, OutOfRange, Summary};
use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Config, DimsumManifest, Manifest};
use dimsum_format::meta::MetaMaps;
use dimsum_format::{Digest, FormatError};
use dimsum_registry::{
    ImageName, OciLayout, Prefer, Reference, Source, SourceError, host_platform, resolve as resolve_in,
};
use dimsum_store::{Image, Options, Store};

use crate::context::Context;
use crate::error::Error;

/// A manifest that was found in a layout and proven from its digest.
#[derive(Debug)]
pub struct Resolved {
    /// As the user wrote it, with an absolute directory.
    pub reference: Reference,
    /// Where it is.
    pub layout: Arc<OciLayout>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
}

/// A Dimsum image whose manifest and config are proven.
#[derive(Debug)]
pub struct Located {
    /// As the user wrote it, with an absolute directory.
    pub reference: Reference,
    /// Digest of the Dimsum manifest: the root of trust from here on.
    pub digest: Digest,
    /// Where its data comes from besides the store.
    pub origin: Option<Arc<OciLayout>>,
    /// The ordinary image that it was converted from on the way in.
    pub converted_from: Option<Digest>,
    /// The manifest as a document; none if it is only in the store.
    pub document: Option<Manifest>,
    /// What the manifest says.
    pub manifest: DimsumManifest,
    /// The config.
    pub config: Config,
}

/// An image that can be read in this process.
#[derive(Debug)]
pub struct Opened {
    /// The image.
    pub located: Located,
    /// The gate.
    pub image: Arc<Image>,
}

impl Located {
    /// Returns the name of the image in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.reference.to_string()
    }

    /// Returns the references of the places where its data comes from besides the store.
    #[must_use]
    pub fn origins(&self) -> Vec<String> {
        self.origin.iter().map(|origin| origin.name().to_owned()).collect()
    }

    fn from_store(reference: Reference, converted_from: Digest, image: &Image) -> Result<Self, Error> {
        let config = Config::parse(image.config());
        let config =
            config.map_err(|source| Error::Format { object: reference.to_string(), source: Box::new(source) })?;
        Ok(Self {
            reference,
            digest: image.digest(),
            origin: None,
            converted_from: Some(converted_from),
            document: None,
            manifest: image.manifest().clone(),
            config,
        })
    }
}

/// Parses what the user wrote as an image in a layout; the directory becomes absolute.
///
/// # Errors
/// If it is no reference, or that of a file tree.
pub fn parse(text: &str) -> Result<(PathBuf, Option<ImageName>), Error> {
    match Reference::parse(text)
        .map_err(|source| Error::Source { object: text.to_owned(), source: Box::new(source) })?
    {
        Reference::OciLayout { dir, name } => {
            let absolute = std::path::absolute(&dir).map_err(|source| Error::io("find", &dir, source))?;
            Ok((absolute, name))
        }
        _ => Err(Error::Usage {
            object: text.to_owned(),
            reason: "this is a file tree, not an image".to_owned(),
            hint: "`dimsum convert dir:PATH oci:DIR:TAG` makes an image of it",
        }),
    }
}

/// Finds an image in its layout.
///
/// # Errors
/// If there is none, or its manifest does not have the digest.
pub fn resolve(dir: PathBuf, name: Option<ImageName>) -> Result<Resolved, Error> {
    let reference = Reference::OciLayout { dir: dir.clone(), name: name.clone() };
    let failed = |source| Error::Source { object: reference.to_string(), source: Box::new(source) };
    let layout = OciLayout::open(dir, name).map_err(failed)?;
    let document = resolve_in(&layout, &host_platform(), Prefer::Dimsum).map_err(failed)?;
    let (digest, bytes) = (document.descriptor.digest, document.bytes);
    let malformed = |source: FormatError| Error::Format { object: reference.to_string(), source: Box::new(source) };
    let manifest = Manifest::parse(&bytes).map_err(malformed)?;
    Ok(Resolved { reference, layout: Arc::new(layout), digest, manifest })
}

/// Finds an image; an ordinary one is converted into the store first, unless that has been done.
///
/// # Errors
/// If it is not there, cannot be converted, or does not prove.
pub fn locate(context: &Context, text: &str) -> Result<Located, Error> {
    let (dir, name) = parse(text)?;
    let resolved = match resolve(dir.clone(), name.clone()) {
        Ok(resolved) => resolved,
        Err(error) if is_gone(&error) => {
            let store = open_store(context)?;
            return convert_in::from_record(context, &store, Reference::OciLayout { dir, name }, error);
        }
        Err(error) => return Err(error),
    };
    if !resolved.manifest.is_dimsum() {
        return convert_in::convert(context, &open_store(context)?, resolved);
    }
    let Resolved { reference, layout, digest, manifest: document } = resolved;
    let malformed = |source| Error::Format { object: reference.to_string(), source: Box::new(source) };
    let manifest = DimsumManifest::new(&document).map_err(malformed)?;
    let config = layout.read_small("config", manifest.config.digest, MAX_CONFIG_BYTES);
    let config = config.map_err(|source| Error::Source { object: reference.to_string(), source: Box::new(source) })?;
    let config = Config::parse(&config).map_err(malformed)?;
    let (origin, document) = (Some(layout), Some(document));
    Ok(Located { reference, digest, origin, converted_from: None, document, manifest, config })
}

/// Opens an image for reading in this process, through the node's store.
///
/// # Errors
/// As [`locate`], or if its meta does not prove.
pub fn open(context: &Context, text: &str) -> Result<Opened, Error> {
    let located = locate(context, text)?;
    let origins = located.origin.iter().map(|origin| Arc::clone(origin) as Arc<dyn Source>).collect();
    let image = open_store(context)?.image(located.digest, origins);
    let image = image.map_err(|source| Error::Store { object: located.name(), source: Box::new(source) })?;
    Ok(Opened { located, image })
}

/// Opens the node's store, making it at the first use.
///
/// # Errors
/// If this user may not, or it is of another version.
pub fn open_store(context: &Context) -> Result<Store, Error> {
    make_store_directory(context)?;
    let store = Store::open(&context.store, Options::default());
    store.map_err(|source| Error::Store { object: context.store.display().to_string(), source: Box::new(source) })
}

/// Makes the store's directory. Only its owner enters it: what lies there must be proven, but need not be shown around.
///
/// # Errors
/// If this user may not.
pub fn make_store_directory(context: &Context) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&context.store);
    made.map_err(|source| Error::io("make the store's directory", &context.store, source))
}

/// Whether a layout is not there (any more), as opposed to there and unreadable.
fn is_gone(error: &Error) -> bool {
    let Error::Source { source, .. } = error else { return false };
    matches!(**source, SourceError::NotFound { .. } | SourceError::Name { .. })
}

/// Validates the whole file system of an opened image.
///
/// # Errors
/// The first thing that is not as the format says.
pub fn validate(opened: &Opened) -> Result<Summary, Error> {
    let devices = device_blocks(opened.image.maps());
    let meta_blocks = opened.image.maps().meta_blocks;
    let bounds = Bounds { meta_blocks, devices: &devices, kind: ImageKind::Image };
    let valid = dimsum_erofs::validate(&fs::BlockingMeta::new(&opened.image), bounds);
    valid.map_err(|source| Error::Erofs { object: opened.located.name(), source: Box::new(source) })
}

/// Validates an EROFS image in memory.
///
/// # Errors
/// The first thing that is not as the format says.
pub fn validate_erofs(erofs: &[u8], maps: &MetaMaps) -> Result<Summary, dimsum_erofs::Error<OutOfRange>> {
    let devices = device_blocks(maps);
    dimsum_erofs::validate(&erofs, Bounds { meta_blocks: maps.meta_blocks, devices: &devices, kind: ImageKind::Image })
}

fn device_blocks(maps: &MetaMaps) -> Vec<u32> {
    maps.devices.iter().map(|device| device.map.blocks()).collect()
}
