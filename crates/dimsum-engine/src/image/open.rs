//! From a name to an opened image: the store first, the place only for what the store cannot say.
//!
//! ```text
//! pinned ─→ in the store? ── yes ────────────────────────────────────────────────┬─→ Store::image ─→ Opened
//!   │            └ no ──→ ask the place ─┬─ Dimsum image: manifest into the store ┤
//!   tag ────────────────→               ├─ ordinary image: convert_in ────────────┤
//!                                       └─ any failure: the record of the name ───┘
//! ```
//!
//! A tag may have moved, so its place is asked, within a deadline if the node has an image for it. Whatever goes
//! wrong there keeps nobody from an image that this node has: it is opened, and the user is told.
//! Manifest, config and meta come through [`Store::image`], never from the place.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use dimsum_format::Digest;
use dimsum_format::manifest::{ImageConfig, Manifest};
use dimsum_source::{ImageName, Prefer, Reference, Source, SourceFault, with_causes};
use dimsum_store::{Image, Store};

use super::{Held, Located, Opened, Resolved, TryOpened, convert_in, known, parse_named, resolve};
use crate::{Engine, EngineError, ImageOrigin};

/// How often a wait for a registry looks whether the work was cancelled.
const LOOK: Duration = Duration::from_millis(50);

/// Opens an image for reading in this process, through the node's store. An ordinary image is converted into the store
/// first, unless that has been done.
///
/// # Errors
/// If it is neither here nor there, cannot be converted, or does not prove.
pub fn open(engine: &Engine, text: &str) -> Result<Opened, EngineError> {
    match try_open(engine, text)? {
        TryOpened::Opened(opened) => Ok(*opened),
        TryOpened::Ordinary(resolved) => convert_in::convert(engine, engine.store()?, *resolved),
    }
}

/// Opens an image as [`open`] does, but converts nothing. An ordinary image that this node has not converted yet is
/// handed back as it was found.
///
/// # Errors
/// If it is neither here nor there, or does not prove.
pub fn try_open(engine: &Engine, text: &str) -> Result<TryOpened, EngineError> {
    let reference = parse_named(engine, text)?;
    let store = engine.store()?;
    let known = known::find(engine, store, &reference)?;
    if reference.is_pinned()
        && let Some(known) = known
        && known.is_here(store)
    {
        match open_known(engine, store, reference.clone(), known, true) {
            // The store lost what the record names: as if it had never been converted.
            Err(error) if known.converted.is_some() => engine.progress().explain(&format!("{reference}: {error}")),
            opened => return opened.map(TryOpened::opened),
        }
    }
    match resolve_in_time(engine, &reference, known.is_some()) {
        Ok(resolved) if resolved.manifest.is_dimsum() => open_resolved(engine, resolved).map(TryOpened::opened),
        Ok(resolved) => Ok(match convert_in::find_converted(engine, store, &resolved)? {
            Some(opened) => TryOpened::opened(opened),
            None => TryOpened::Ordinary(Box::new(resolved)),
        }),
        Err(failure) => instead(engine, store, reference, known, failure).map(TryOpened::opened),
    }
}

/// Opens the image of a digest again, from the store and from the places that its first opening found. Places that
/// cannot be opened are explained and left out: a place that moved away matters only if something is needed from it.
///
/// # Errors
/// If a part of the image cannot be had or does not prove.
pub fn reopen(engine: &Engine, digest: Digest, origins: &[ImageOrigin]) -> Result<Arc<Image>, EngineError> {
    let mut places: Vec<Arc<dyn Source>> = Vec::new();
    for origin in origins {
        let transports = engine.transports_with(&origin.access)?;
        match transports.parse(&origin.reference).and_then(|parsed| transports.open(&parsed)) {
            Ok(place) => places.push(place),
            Err(error) => {
                engine.progress().explain(&format!("origin of {digest} is not usable: {}", with_causes(&error)));
            }
        }
    }
    let image = engine.store()?.image(digest, places);
    image.map_err(|source| EngineError::Store { action: "open", object: digest.to_string(), source: Box::new(source) })
}

/// Opens a Dimsum image that was found where it lies, for reading in this process.
///
/// # Errors
/// If a part of it cannot be had or does not prove.
pub fn open_resolved(engine: &Engine, resolved: Resolved) -> Result<Opened, EngineError> {
    let store = engine.store()?;
    let Resolved { reference, place, digest, bytes, .. } = resolved;
    if place.is_remote() {
        // So that it starts again while its registry is away.
        known::remember(engine, store, &reference, digest);
    }
    store.keep_manifest(&bytes);
    let origin = origin(engine, &reference, digest);
    let image = open_image(store, &reference, digest, vec![place])?;
    Opened::new(store, reference, None, vec![origin], image)
}

/// Finds what the store has of an image. Nothing is put there, and nothing is opened, which would mend it.
///
/// # Errors
/// If the image is not there, or the store does not have it.
pub fn find_in_store(engine: &Engine, text: &str) -> Result<Held, EngineError> {
    let reference = parse_named(engine, text)?;
    let missing = || EngineError::NotInStore { object: reference.to_string(), store: engine.config().store.clone() };
    // Asking must not make a store where there is none.
    if !engine.config().store.join("version").exists() {
        return Err(missing());
    }
    let store = engine.store()?.clone();
    let known = known::find(engine, &store, &reference)?;
    let held = |known: known::Known| {
        let mut digests = known.converted.into_iter().chain([known.manifest]);
        let is_there = |digest: &Digest| engine.config().store.join("images").join(digest.hex()).exists();
        let digest = digests.find(is_there)?;
        Some(Held { reference: reference.clone(), digest, store: store.clone() })
    };
    if reference.is_pinned()
        && let Some(held) = known.and_then(held)
    {
        return Ok(held);
    }
    let known = match resolve_in_time(engine, &reference, known.is_some()) {
        Ok(resolved) => known::of(engine, &store, &reference, resolved.digest)?,
        Err(failure) => known.ok_or(failure)?,
    };
    held(known).ok_or_else(missing)
}

/// Asks the place what the name stands for. The caller waits for it at most so long and only while it is not
/// cancelled; the request ends by deadlines of its own.
fn resolve_in_time(engine: &Engine, reference: &Reference, is_known: bool) -> Result<Resolved, EngineError> {
    if reference.repository().is_none() {
        return resolve(engine, reference, Prefer::Dimsum);
    }
    let longest = is_known.then_some(engine.config().known_deadline);
    let (give, take) = channel();
    let (asking, asked) = (engine.clone(), reference.clone());
    let span = tracing::Span::current();
    let ask = move || drop(give.send(span.in_scope(|| resolve(&asking, &asked, Prefer::Dimsum))));
    let spawned = std::thread::Builder::new().name("dimsum-resolve".to_owned()).spawn(ask);
    spawned.map_err(|source| EngineError::io("start a thread for", std::path::Path::new("the network"), source))?;
    let started = Instant::now();
    let failed = |source| EngineError::Source { object: reference.to_string(), source: Box::new(source) };
    loop {
        match take.recv_timeout(LOOK) {
            Ok(resolved) => return resolved,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(failed(SourceFault::Cancelled.at(reference.to_string())));
            }
            Err(RecvTimeoutError::Timeout) => engine.cancel().check()?,
        }
        if let Some(after) = longest.filter(|longest| started.elapsed() >= *longest) {
            let (host, what) = (host(reference), "manifest".to_owned());
            return Err(failed(SourceFault::Deadline { what, reason: "no answer came", after }.at(host)));
        }
    }
}

fn host(reference: &Reference) -> String {
    reference.repository().map_or_else(|| reference.to_string(), |repository| repository.host().to_owned())
}

/// Opens what the node remembers of a name whose place failed; else says how the place failed.
fn instead(
    engine: &Engine,
    store: &Store,
    reference: Reference,
    known: Option<known::Known>,
    failure: EngineError,
) -> Result<Opened, EngineError> {
    let EngineError::Source { source, .. } = &failure else { return Err(failure) };
    let Some(known) = known.filter(|known| known.is_here(store)) else { return Err(failure) };
    let Ok(opened) = open_known(engine, store, reference, known, false) else { return Err(failure) };
    let (name, digest) = (opened.located.name(), opened.located.digest);
    let failure = with_causes(source.innermost());
    engine.progress().note(&format!("{name}: using the image that this node has, {digest}: {failure}"));
    Ok(opened)
}

/// Opens an image of which the store has at least the manifest. Its place is asked for what is missing only if
/// `ask`; what is missing later, when data is read, is always asked for.
fn open_known(
    engine: &Engine,
    store: &Store,
    reference: Reference,
    known: known::Known,
    ask: bool,
) -> Result<Opened, EngineError> {
    if let Some(converted) = known.converted {
        match open_image(store, &reference, converted, Vec::new()) {
            Ok(image) => {
                let text = format!("{reference}: converted before, taken from the store as {converted}");
                engine.progress().explain(&text);
                return Opened::new(store, reference, Some(known.manifest), Vec::new(), image);
            }
            Err(error) if store.find_manifest(known.manifest).is_none() => return Err(error),
            Err(_) => {}
        }
    }
    if !ask {
        // With its place it would wait for an answer once more before it failed.
        drop(open_image(store, &reference, known.manifest, Vec::new())?);
    }
    let origin = origin(engine, &reference, known.manifest);
    let transports = engine.transports()?;
    let opened = transports.parse(&origin.reference).and_then(|parsed| transports.open(&parsed));
    let places = match opened {
        Ok(place) => vec![place as Arc<dyn Source>],
        Err(error) => {
            engine.progress().explain(&format!("{reference}: opened without its place: {error}"));
            Vec::new()
        }
    };
    let image = open_image(store, &reference, known.manifest, places)?;
    Opened::new(store, reference, None, vec![origin], image)
}

pub(super) fn open_image(
    store: &Store,
    reference: &Reference,
    digest: Digest,
    places: Vec<Arc<dyn Source>>,
) -> Result<Arc<Image>, EngineError> {
    let image = store.image(digest, places);
    image.map_err(|source| EngineError::Store {
        action: "open",
        object: reference.to_string(),
        source: Box::new(source),
    })
}

/// Returns where the blobs of an image come from, pinned to it.
fn origin(engine: &Engine, reference: &Reference, digest: Digest) -> ImageOrigin {
    let reference = match reference.repository() {
        Some(_) => reference.with_name(Some(ImageName::Digest(digest))),
        None => reference.clone(),
    };
    ImageOrigin { reference: reference.to_string(), access: engine.config().access.clone() }
}

impl Opened {
    /// Describes an opened image.
    pub(super) fn new(
        store: &Store,
        reference: Reference,
        converted_from: Option<Digest>,
        origins: Vec<ImageOrigin>,
        image: Arc<Image>,
    ) -> Result<Self, EngineError> {
        let malformed = |source| EngineError::Format { object: reference.to_string(), source: Box::new(source) };
        let config = ImageConfig::parse(image.config()).map_err(malformed)?;
        let document = store.find_manifest(image.digest()).and_then(|bytes| Manifest::parse(&bytes).ok());
        let located = Located {
            digest: image.digest(),
            origins,
            converted_from,
            document,
            manifest: image.manifest().clone(),
            config,
            reference,
        };
        Ok(Self { located, image })
    }
}
