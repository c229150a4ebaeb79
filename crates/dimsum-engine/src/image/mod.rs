//! From what the user wrote to an image whose every byte is proven.
//!
//! The chain of trust starts here: the user pins a reference with a digest. A reference with a tag is pinned by the
//! digest that its registry or layout gives *now*. Everything behind that digest is proven.
//!
//! `open` has the way; `known` what this node remembers; `convert_in` brings ordinary images into the store.

pub mod convert_in;
mod files;
pub mod fs;
mod incoming;
mod known;
mod open;

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use dimsum_erofs::{Bounds, ImageKind, OutOfRange, ValidationSummary};
use dimsum_format::manifest::{DimsumManifest, ImageConfig, Manifest};
use dimsum_format::meta::MetaMaps;
use dimsum_format::{Digest, FormatError};
use dimsum_source::{Place, Prefer, Reference, Target, resolve as resolve_in};
use dimsum_store::{Image, Store};

pub use files::ListedFile;
pub use open::{find_in_store, open, open_resolved, reopen, try_open};

use crate::{Engine, EngineError, ImageOrigin};

/// A manifest that was found and proven from its digest.
#[derive(Debug)]
pub struct Resolved {
    /// As the user wrote it, with absolute paths.
    pub reference: Reference,
    /// Where it is.
    pub place: Arc<dyn Place>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The bytes of the manifest, which have the digest.
    pub bytes: Vec<u8>,
}

/// An image that this node's store has.
#[derive(Debug)]
pub struct Held {
    /// As the user wrote it, with absolute paths.
    pub reference: Reference,
    /// Digest of the Dimsum manifest.
    pub digest: Digest,
    /// The store.
    pub store: Store,
}

/// A Dimsum image whose manifest and config are proven.
#[derive(Debug)]
pub struct Located {
    /// As the user wrote it, with absolute paths.
    pub reference: Reference,
    /// Digest of the Dimsum manifest: the root of trust from here on.
    pub digest: Digest,
    /// Where its data comes from besides the store.
    pub origins: Vec<ImageOrigin>,
    /// The ordinary image that it was converted from on the way in.
    pub converted_from: Option<Digest>,
    /// The manifest as a document; none if the store could not keep it.
    pub document: Option<Manifest>,
    /// What the manifest says.
    pub manifest: DimsumManifest,
    /// The config.
    pub config: ImageConfig,
}

/// An image that can be read in this process.
#[derive(Debug)]
pub struct Opened {
    /// The image.
    pub located: Located,
    /// The gate.
    pub image: Arc<Image>,
}

/// What [`try_open`] found.
#[derive(Debug)]
pub enum TryOpened {
    /// An image that can be read now.
    Opened(Box<Opened>),
    /// An ordinary image that this node has not converted yet.
    Ordinary(Box<Resolved>),
}

impl TryOpened {
    fn opened(opened: Opened) -> Self {
        Self::Opened(Box::new(opened))
    }
}

impl Located {
    /// Returns the name of the image in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.reference.to_string()
    }
}

/// Parses what the user wrote as an image; paths become absolute.
///
/// # Errors
/// If it is no reference, or that of a file tree.
pub fn parse(engine: &Engine, text: &str) -> Result<Reference, EngineError> {
    let parsed = engine.schemes().parse(text);
    let parsed = parsed.map_err(|source| EngineError::Name { object: text.to_owned(), source: Box::new(source) })?;
    if parsed.tree().is_some() {
        return Err(EngineError::FileTree { object: text.to_owned() });
    }
    let Some(path) = parsed.path() else { return Ok(parsed) };
    let path = std::path::absolute(path).map_err(|source| EngineError::io("find", path, source))?;
    Ok(parsed.with_path(path))
}

/// Parses what the user wrote as an image to open.
///
/// # Errors
/// As [`parse`], or if only a digest is allowed and this is a tag.
pub fn parse_named(engine: &Engine, text: &str) -> Result<Reference, EngineError> {
    let reference = parse(engine, text)?;
    check_named(engine, &reference)?;
    Ok(reference)
}

/// Refuses a tag where only digests are allowed.
fn check_named(engine: &Engine, reference: &Reference) -> Result<(), EngineError> {
    if engine.config().require_digest && !reference.is_pinned() {
        return Err(EngineError::Tag { object: reference.to_string() });
    }
    Ok(())
}

/// Opens the place that a reference names.
///
/// # Errors
/// If it is not there, or only a digest is allowed and this is a tag.
pub fn open_place(engine: &Engine, reference: &Reference) -> Result<Arc<dyn Place>, EngineError> {
    check_named(engine, reference)?;
    let place = engine.transports()?.open(reference);
    place.map_err(|source| EngineError::Source { object: reference.to_string(), source: Box::new(source) })
}

/// Opens a target; what can be made is made. That nothing can be written there is found before anything is read.
///
/// # Errors
/// If it cannot be written.
pub fn create_target(engine: &Engine, text: &str) -> Result<Box<dyn Target>, EngineError> {
    let target = engine.transports()?.create(&parse(engine, text)?);
    let target = target.and_then(|target| target.check_writable().map(|()| target));
    target.map_err(|source| EngineError::Target { object: text.to_owned(), source: Box::new(source) })
}

/// Refuses to put another form of an image where the image lies. In a layout or an archive, the name would be all that
/// was left of it.
///
/// # Errors
/// If both texts name the same.
pub fn refuse_same(engine: &Engine, source: &str, target: &str) -> Result<(), EngineError> {
    let (from, to) = (parse(engine, source)?, parse(engine, target)?);
    let local = to.repository().is_none();
    if local && from == to {
        return Err(EngineError::SamePlace { object: target.to_owned() });
    }
    Ok(())
}

/// Finds an image: of an index the one for the wanted platform, and of twins the one that `prefer` says.
///
/// # Errors
/// If there is none, or its manifest does not have the digest.
pub fn resolve(engine: &Engine, reference: &Reference, prefer: Prefer) -> Result<Resolved, EngineError> {
    let failed = |source| EngineError::Source { object: reference.to_string(), source: Box::new(source) };
    let place = open_place(engine, reference)?;
    let document = resolve_in(&*place, &engine.platform()?, prefer).map_err(failed)?;
    let malformed =
        |source: FormatError| EngineError::Format { object: reference.to_string(), source: Box::new(source) };
    let manifest = Manifest::parse(&document.bytes).map_err(malformed)?;
    let digest = document.descriptor.digest;
    Ok(Resolved { reference: reference.clone(), place, digest, manifest, bytes: document.bytes })
}

/// Makes the store's directory. Only its owner enters it: what lies there must be proven, but need not be shown around.
///
/// # Errors
/// If this user may not.
pub fn make_store_directory(engine: &Engine) -> Result<(), EngineError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&engine.config().store);
    made.map_err(|source| EngineError::io("make", &engine.config().store, source))
}

/// Validates the whole file system of an opened image.
///
/// # Errors
/// The first thing that is not as the format says.
pub fn validate(opened: &Opened) -> Result<ValidationSummary, EngineError> {
    let devices = device_blocks(opened.image.maps());
    let meta_blocks = opened.image.maps().meta_blocks;
    let bounds = Bounds { meta_blocks, devices: &devices, kind: ImageKind::Image };
    let valid = dimsum_erofs::validate(&fs::BlockingMeta::new(&opened.image), bounds);
    valid.map_err(|source| EngineError::Erofs { object: opened.located.name(), source: Box::new(source) })
}

/// Validates an EROFS image in memory.
///
/// # Errors
/// The first thing that is not as the format says.
pub fn validate_erofs(
    erofs: &[u8],
    maps: &MetaMaps,
) -> Result<ValidationSummary, dimsum_erofs::ErofsError<OutOfRange>> {
    let devices = device_blocks(maps);
    dimsum_erofs::validate(&erofs, Bounds { meta_blocks: maps.meta_blocks, devices: &devices, kind: ImageKind::Image })
}

fn device_blocks(maps: &MetaMaps) -> Vec<u32> {
    maps.devices.iter().map(|device| device.map.blocks()).collect()
}
