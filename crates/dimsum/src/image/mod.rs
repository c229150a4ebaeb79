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
use std::path::PathBuf;
use std::sync::Arc;

use dimsum_erofs::{Bounds, ImageKind, OutOfRange, Summary};
use dimsum_format::limits::MAX_CONFIG_BYTES;
use dimsum_format::manifest::{Config, DimsumManifest, Manifest};
use dimsum_format::meta::MetaMaps;
use dimsum_format::{Digest, FormatError};
use dimsum_node::Origin;
use dimsum_source::{ImageName, Place, Prefer, Reference, Source, SourceError, Target, resolve as resolve_in};
use dimsum_store::{Image, Options, Store};

use crate::context::Context;
use crate::error::Error;

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
    pub origins: Vec<Origin>,
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
        origins: Vec<Origin>,
        image: &Image,
    ) -> Result<Self, Error> {
        let config = Config::parse(image.config());
        let config =
            config.map_err(|source| Error::Format { object: reference.to_string(), source: Box::new(source) })?;
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
pub fn parse(text: &str) -> Result<Reference, Error> {
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|source| Error::io("find", path, source));
    let parsed = Reference::parse(text);
    let parsed = parsed.map_err(|source| Error::Name { object: text.to_owned(), source: Box::new(source) })?;
    Ok(match parsed {
        Reference::OciLayout { dir, name } => Reference::OciLayout { dir: absolute(&dir)?, name },
        Reference::OciArchive { file, name } => Reference::OciArchive { file: absolute(&file)?, name },
        Reference::DockerArchive { file, name } => Reference::DockerArchive { file: absolute(&file)?, name },
        Reference::Directory { .. } => {
            return Err(Error::Usage {
                object: text.to_owned(),
                reason: "this is a file tree, not an image".to_owned(),
                hint: "`dimsum convert dir:PATH oci:DIR:TAG` makes an image of it",
            });
        }
        other => other,
    })
}

/// Opens the place that a reference names.
///
/// # Errors
/// If it is not there, or only a digest is allowed and this is a tag.
pub fn open_place(context: &Context, reference: &Reference) -> Result<Arc<dyn Place>, Error> {
    if context.require_digest && !reference.is_pinned() {
        return Err(Error::Usage {
            object: reference.to_string(),
            reason: "it is named by a tag, and --require-digest allows only digests".to_owned(),
            hint: "name it by @sha256:… as `dimsum inspect` or `skopeo inspect` shows it",
        });
    }
    let place = context.network()?.open(reference);
    place.map_err(|source| Error::Source { object: reference.to_string(), source: Box::new(source) })
}

/// Opens a target; what can be made is made. That nothing can be written there is found before anything is read.
///
/// # Errors
/// If it cannot be written.
pub fn create_target(context: &Context, text: &str) -> Result<Box<dyn Target>, Error> {
    let target = context.network()?.create(&parse(text)?);
    let target = target.and_then(|target| target.check_writable().map(|()| target));
    target.map_err(|source| Error::Target { object: text.to_owned(), source: Box::new(source) })
}

/// Refuses to put another form of an image where the image lies: in a layout or an archive the name would be all that was left of it.
///
/// # Errors
/// If both texts name the same.
pub fn refuse_same(source: &str, target: &str, hint: &'static str) -> Result<(), Error> {
    let (from, to) = (parse(source)?, parse(target)?);
    let local = !matches!(to, Reference::Registry { .. });
    if local && from == to {
        let reason = "the source and the target are the same, which would replace the image".to_owned();
        return Err(Error::Usage { object: target.to_owned(), reason, hint });
    }
    Ok(())
}

/// Finds an image: of an index the one for the wanted platform, and of twins the one that `prefer` says.
///
/// # Errors
/// If there is none, or its manifest does not have the digest.
pub fn resolve(context: &Context, reference: &Reference, prefer: Prefer) -> Result<Resolved, Error> {
    let failed = |source| Error::Source { object: reference.to_string(), source: Box::new(source) };
    let place = open_place(context, reference)?;
    let document = resolve_in(&*place, &context.platform()?, prefer).map_err(failed)?;
    let malformed = |source: FormatError| Error::Format { object: reference.to_string(), source: Box::new(source) };
    let manifest = Manifest::parse(&document.bytes).map_err(malformed)?;
    Ok(Resolved { reference: reference.clone(), place, digest: document.descriptor.digest, manifest })
}

/// Finds an image; an ordinary one is converted into the store first, unless that has been done.
///
/// # Errors
/// If it is not there, cannot be converted, or does not prove.
pub fn locate(context: &Context, text: &str) -> Result<Located, Error> {
    let reference = parse(text)?;
    let resolved = match resolve(context, &reference, Prefer::Dimsum) {
        Ok(resolved) => resolved,
        Err(error) if is_gone(&reference, &error) => {
            return known::from_record(context, &open_store(context)?, reference, error);
        }
        Err(error) => return Err(error),
    };
    if !resolved.manifest.is_dimsum() {
        return convert_in::convert(context, &open_store(context)?, resolved);
    }
    located(context, resolved)
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
pub fn find_in_store(context: &Context, text: &str) -> Result<Held, Error> {
    let reference = parse(text)?;
    let missing = || Error::NotInStore { object: reference.to_string(), store: context.store.clone() };
    // Asking must not make a store where there is none.
    if !context.store.join("version").exists() {
        return Err(missing());
    }
    let store = open_store(context)?;
    let source = match resolve(context, &reference, Prefer::Dimsum) {
        Ok(resolved) => resolved.digest,
        Err(error) if is_gone(&reference, &error) => known::find_name(context, &store, &reference)?.ok_or(error)?,
        Err(error) => return Err(error),
    };
    let converted = known::find_conversion(context, &store, &reference, source)?;
    let mut names = converted.into_iter().chain([source]);
    let digest = names.find(|digest| context.store.join("images").join(digest.hex()).exists()).ok_or_else(missing)?;
    Ok(Held { reference, digest, store })
}

/// Opens a Dimsum image that was found where it lies, for reading in this process.
///
/// # Errors
/// If its meta does not prove.
pub fn open_resolved(context: &Context, resolved: Resolved) -> Result<Opened, Error> {
    open_located(context, located(context, resolved)?)
}

/// Reads what has to be known of a Dimsum image before it can be opened.
fn located(context: &Context, resolved: Resolved) -> Result<Located, Error> {
    let Resolved { reference, place, digest, manifest: document } = resolved;
    if place.is_remote() {
        // So that it starts again while its registry is away.
        known::remember(context, &open_store(context)?, &reference, digest);
    }
    let malformed = |source| Error::Format { object: reference.to_string(), source: Box::new(source) };
    let manifest = DimsumManifest::new(&document).map_err(malformed)?;
    let config = place.read_small("config", manifest.config.digest, MAX_CONFIG_BYTES);
    let config = config.map_err(|source| Error::Source { object: reference.to_string(), source: Box::new(source) })?;
    let config = Config::parse(&config).map_err(malformed)?;
    let (origins, document) = (vec![origin(context, &reference, digest)?], Some(document));
    Ok(Located { reference, digest, origins, converted_from: None, document, manifest, config })
}

/// Returns where the blobs of an image come from, pinned to it.
fn origin(context: &Context, reference: &Reference, digest: Digest) -> Result<Origin, Error> {
    let reference = match reference {
        Reference::Registry { repository, .. } => {
            Reference::Registry { repository: repository.clone(), name: ImageName::Digest(digest) }
        }
        other => other.clone(),
    };
    Ok(Origin { reference: reference.to_string(), access: context.network()?.access().clone() })
}

/// Opens an image for reading in this process, through the node's store.
///
/// # Errors
/// As [`locate`], or if its meta does not prove.
pub fn open(context: &Context, text: &str) -> Result<Opened, Error> {
    open_located(context, locate(context, text)?)
}

fn open_located(context: &Context, located: Located) -> Result<Opened, Error> {
    let mut origins: Vec<Arc<dyn Source>> = Vec::new();
    for origin in &located.origins {
        let network = context.network()?;
        let opened = Reference::parse(&origin.reference).and_then(|reference| network.open(&reference));
        origins.push(
            opened.map_err(|source| Error::Source { object: origin.reference.clone(), source: Box::new(source) })?,
        );
    }
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
    let runtime = Some(context.network()?.runtime().clone());
    let store = Store::open(&context.store, Options { runtime, ..Options::default() });
    store.map_err(|source| Error::Store { object: context.store.display().to_string(), source: Box::new(source) })
}

/// Makes the store's directory. Only its owner enters it: what lies there must be proven, but need not be shown around.
///
/// # Errors
/// If this user may not.
pub fn make_store_directory(context: &Context) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&context.store);
    made.map_err(|source| Error::io("make", &context.store, source))
}

/// Whether an image's source is not there (any more), as opposed to there and wrong: a layout that was moved away, a registry
/// that does not answer. A registry that answers that it has no such image is believed.
fn is_gone(reference: &Reference, error: &Error) -> bool {
    let Error::Source { source, .. } = error else { return false };
    match reference {
        Reference::Registry { .. } => {
            source.is_transient() || matches!(source.innermost(), SourceError::UnknownHost { .. })
        }
        _ => matches!(**source, SourceError::NotFound { .. } | SourceError::Name { .. }),
    }
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
