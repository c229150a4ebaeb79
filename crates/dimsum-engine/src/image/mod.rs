//! From what the user wrote to an image whose every byte is proven.
//!
//! The chain of trust starts here: a reference with a digest is pinned by the user, one with a tag by what its registry
//! or layout says *now*. Everything behind that digest is proven.
//!
//! ```text
//! text ─→ resolve (place) ─┬─ Dimsum image ──────────────────────────┬─→ Located ─→ server (mount, run)
//!    │                     └─ ordinary image ─→ convert_in (store) ──┤        └───→ Opened: read here (ls, cat, inspect)
//!    └─ the place is gone ─→ known: the records of this node ────────┘
//! ```

pub mod convert_in;
pub mod fs;
mod incoming;
mod known;

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use dimsum_erofs::{Bounds, ImageKind, OutOfRange, Summary};
use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Config, DimsumManifest, Manifest};
use dimsum_format::meta::MetaMaps;
use dimsum_format::{Digest, FormatError};
use dimsum_source::{ImageName, Place, Prefer, Reference, Source, SourceError, Target, resolve as resolve_in};
use dimsum_store::{Image, Store};

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

    fn from_store(
        reference: Reference,
        converted_from: Option<Digest>,
        origins: Vec<ImageOrigin>,
        image: &Image,
    ) -> Result<Self, EngineError> {
        let config = Config::parse(image.config());
        let config =
            config.map_err(|source| EngineError::Format { object: reference.to_string(), source: Box::new(source) })?;
        Ok(Self {
            reference,
            digest: image.digest(),
            origins,
            converted_from,
            document: None,
            manifest: image.manifest().clone(),
            config,
        })
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

/// Opens the place that a reference names.
///
/// # Errors
/// If it is not there, or only a digest is allowed and this is a tag.
pub fn open_place(engine: &Engine, reference: &Reference) -> Result<Arc<dyn Place>, EngineError> {
    if engine.config().require_digest && !reference.is_pinned() {
        return Err(EngineError::Tag { object: reference.to_string() });
    }
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

/// Refuses to put another form of an image where the image lies: in a layout or an archive the name would be all that was left of it.
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
    Ok(Resolved { reference: reference.clone(), place, digest: document.descriptor.digest, manifest })
}

/// Finds an image; an ordinary one is converted into the store first, unless that has been done.
///
/// # Errors
/// If it is not there, cannot be converted, or does not prove.
pub fn locate(engine: &Engine, text: &str) -> Result<Located, EngineError> {
    let reference = parse(engine, text)?;
    let resolved = match resolve(engine, &reference, Prefer::Dimsum) {
        Ok(resolved) => resolved,
        Err(error) if is_gone(&reference, &error) => {
            return known::from_record(engine, engine.store()?, reference, error);
        }
        Err(error) => return Err(error),
    };
    if !resolved.manifest.is_dimsum() {
        return convert_in::convert(engine, engine.store()?, resolved);
    }
    located(engine, resolved)
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

/// Finds what the store has of an image. Nothing is put there, and nothing is opened, which would mend it.
///
/// # Errors
/// If the image is not there, or the store does not have it.
pub fn find_in_store(engine: &Engine, text: &str) -> Result<Held, EngineError> {
    let reference = parse(engine, text)?;
    let missing = || EngineError::NotInStore { object: reference.to_string(), store: engine.config().store.clone() };
    // Asking must not make a store where there is none.
    if !engine.config().store.join("version").exists() {
        return Err(missing());
    }
    let store = engine.store()?.clone();
    let source = match resolve(engine, &reference, Prefer::Dimsum) {
        Ok(resolved) => resolved.digest,
        Err(error) if is_gone(&reference, &error) => known::find_name(engine, &store, &reference)?.ok_or(error)?,
        Err(error) => return Err(error),
    };
    let converted = known::find_conversion(engine, &store, &reference, source)?;
    let mut names = converted.into_iter().chain([source]);
    let digest =
        names.find(|digest| engine.config().store.join("images").join(digest.hex()).exists()).ok_or_else(missing)?;
    Ok(Held { reference, digest, store })
}

/// Opens a Dimsum image that was found where it lies, for reading in this process.
///
/// # Errors
/// If its meta does not prove.
pub fn open_resolved(engine: &Engine, resolved: Resolved) -> Result<Opened, EngineError> {
    open_located(engine, located(engine, resolved)?)
}

/// Reads what has to be known of a Dimsum image before it can be opened.
fn located(engine: &Engine, resolved: Resolved) -> Result<Located, EngineError> {
    let Resolved { reference, place, digest, manifest: document } = resolved;
    if place.is_remote() {
        // So that it starts again while its registry is away.
        known::remember(engine, engine.store()?, &reference, digest);
    }
    let malformed = |source| EngineError::Format { object: reference.to_string(), source: Box::new(source) };
    let manifest = DimsumManifest::new(&document).map_err(malformed)?;
    let config = place.read_small("config", manifest.config.digest, MAX_CONFIG_BYTES);
    let config =
        config.map_err(|source| EngineError::Source { object: reference.to_string(), source: Box::new(source) })?;
    let config = Config::parse(&config).map_err(malformed)?;
    let (origins, document) = (vec![origin(engine, &reference, digest)?], Some(document));
    Ok(Located { reference, digest, origins, converted_from: None, document, manifest, config })
}

/// Returns where the blobs of an image come from, pinned to it.
fn origin(engine: &Engine, reference: &Reference, digest: Digest) -> Result<ImageOrigin, EngineError> {
    let reference = match reference.repository() {
        Some(_) => reference.with_name(Some(ImageName::Digest(digest))),
        None => reference.clone(),
    };
    Ok(ImageOrigin { reference: reference.to_string(), access: engine.config().access.clone() })
}

/// Opens an image for reading in this process, through the node's store.
///
/// # Errors
/// As [`locate`], or if its meta does not prove.
pub fn open(engine: &Engine, text: &str) -> Result<Opened, EngineError> {
    open_located(engine, locate(engine, text)?)
}

fn open_located(engine: &Engine, located: Located) -> Result<Opened, EngineError> {
    let mut origins: Vec<Arc<dyn Source>> = Vec::new();
    for origin in &located.origins {
        let transports = engine.transports()?;
        let opened = transports.parse(&origin.reference).and_then(|reference| transports.open(&reference));
        origins.push(
            opened
                .map_err(|source| EngineError::Source { object: origin.reference.clone(), source: Box::new(source) })?,
        );
    }
    let image = engine.store()?.image(located.digest, origins);
    let image = image.map_err(|source| EngineError::Store { object: located.name(), source: Box::new(source) })?;
    Ok(Opened { located, image })
}

/// Makes the store's directory. Only its owner enters it: what lies there must be proven, but need not be shown around.
///
/// # Errors
/// If this user may not.
pub fn make_store_directory(engine: &Engine) -> Result<(), EngineError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&engine.config().store);
    made.map_err(|source| EngineError::io("make", &engine.config().store, source))
}

/// Whether an image's source is not there (any more), as opposed to there and wrong: a layout that was moved away, a registry
/// that does not answer. A registry that answers that it has no such image is believed.
fn is_gone(reference: &Reference, error: &EngineError) -> bool {
    let EngineError::Source { source, .. } = error else { return false };
    if reference.repository().is_some() {
        return source.is_transient() || matches!(source.innermost(), SourceError::UnknownHost { .. });
    }
    matches!(**source, SourceError::NotFound { .. } | SourceError::Name { .. })
}

/// Validates the whole file system of an opened image.
///
/// # Errors
/// The first thing that is not as the format says.
pub fn validate(opened: &Opened) -> Result<Summary, EngineError> {
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
pub fn validate_erofs(erofs: &[u8], maps: &MetaMaps) -> Result<Summary, dimsum_erofs::Error<OutOfRange>> {
    let devices = device_blocks(maps);
    dimsum_erofs::validate(&erofs, Bounds { meta_blocks: maps.meta_blocks, devices: &devices, kind: ImageKind::Image })
}

fn device_blocks(maps: &MetaMaps) -> Vec<u32> {
    maps.devices.iter().map(|device| device.map.blocks()).collect()
}
