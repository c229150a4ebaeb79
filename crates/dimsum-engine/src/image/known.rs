//! What this node remembers of images, so that they start again when their source is gone.
//!
//! What a source was converted into cannot be proven without the source, and the point is to start without it. So records
//! are kept, each authenticated with the node key (which lies outside the store) by the store's record keeper:
//!
//! 1. *conversion*: source manifest digest + options → our manifest digest;
//! 2. *name*: a reference as text → the manifest digest that it stood for when it was last there.
//!
//! A tag is always asked of its source first, since it may have moved; its record counts only if the source fails. A
//! digest needs no asking.
//! A record that does not verify is none.

use dimsum_convert::OverlayEntries;
use dimsum_format::Digest;
use dimsum_source::{Reference, host_platform, platform_text};
use dimsum_store::{NodeKey, Record, Store};

use crate::{Engine, EngineError};

/// Stands in [`Record::options`] of a name record, where a conversion has its options. No conversion has these.
const NAME: &str = "name";

/// What this node knows of a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The manifest that the name stands for: pinned by the user, or remembered.
    pub(super) manifest: Digest,
    /// The Dimsum image that it was converted into, if it is an ordinary one.
    pub(super) converted: Option<Digest>,
}

impl Known {
    /// Says whether the store has at least a manifest to open.
    pub(super) fn is_here(self, store: &Store) -> bool {
        self.converted.into_iter().chain([self.manifest]).any(|digest| store.find_manifest(digest).is_some())
    }
}

/// Returns what this node knows of a name; nothing if it is a tag that never was opened here.
pub(super) fn find(engine: &Engine, store: &Store, reference: &Reference) -> Result<Option<Known>, EngineError> {
    // A pinned index stands for another image on each platform, so it may have a record, too.
    let found = store.find_record(&node_key(engine)?, name_digest(reference), &name_options(engine));
    let found = found.map_err(|source| EngineError::Store {
        action: "read the record of",
        object: reference.to_string(),
        source: Box::new(source),
    })?;
    found.or_else(|| reference.digest()).map(|manifest| of(engine, store, reference, manifest)).transpose()
}

/// Returns what this node knows of a manifest.
pub(super) fn of(
    engine: &Engine,
    store: &Store,
    reference: &Reference,
    manifest: Digest,
) -> Result<Known, EngineError> {
    Ok(Known { manifest, converted: find_conversion(engine, store, reference, manifest)? })
}

/// Remembers what a name stands for. That this fails is no reason not to start the image.
pub(super) fn remember(engine: &Engine, store: &Store, reference: &Reference, digest: Digest) {
    let done = node_key(engine).and_then(|key| put_name(engine, store, &key, reference, digest));
    if let Err(error) = done {
        engine.progress().explain(&format!("{reference}: not remembered: {error}"));
    }
}

/// Returns what an ordinary image became when it was converted into this store.
pub(super) fn find_conversion(
    engine: &Engine,
    store: &Store,
    reference: &Reference,
    source: Digest,
) -> Result<Option<Digest>, EngineError> {
    let found = store.find_record(&node_key(engine)?, source, &record_options(&options(engine)));
    found.map_err(|source| EngineError::Store {
        action: "read the record of",
        object: reference.to_string(),
        source: Box::new(source),
    })
}

/// Remembers what an ordinary image became.
pub(super) fn put_conversion(
    engine: &Engine,
    store: &Store,
    reference: &Reference,
    source: Digest,
    result: Digest,
) -> Result<(), EngineError> {
    let record = Record { source, options: record_options(&options(engine)), result };
    let put = store.put_record(&node_key(engine)?, &record);
    put.map_err(|source| EngineError::Store {
        action: "write the record of",
        object: reference.to_string(),
        source: Box::new(source),
    })
}

fn put_name(
    engine: &Engine,
    store: &Store,
    key: &NodeKey,
    reference: &Reference,
    source: Digest,
) -> Result<(), EngineError> {
    if reference.digest() == Some(source) {
        return Ok(());
    }
    let record = Record { source: name_digest(reference), options: name_options(engine), result: source };
    if store.find_record(key, record.source, &record.options).ok().flatten() == Some(source) {
        return Ok(());
    }
    store.put_record(key, &record).map_err(|source| EngineError::Store {
        action: "write the record of",
        object: reference.to_string(),
        source: Box::new(source),
    })
}

/// A name stands for another image on another platform.
fn name_options(engine: &Engine) -> String {
    match &*engine.config().platforms {
        [wanted] if *wanted != host_platform() => format!("{NAME},platform={}", platform_text(wanted)),
        _ => NAME.to_owned(),
    }
}

fn name_digest(reference: &Reference) -> Digest {
    Digest::of(reference.to_string().as_bytes())
}

fn node_key(engine: &Engine) -> Result<NodeKey, EngineError> {
    if let Some(directory) = engine.config().node_key.parent() {
        std::fs::create_dir_all(directory).map_err(|source| EngineError::io("make", directory, source))?;
    }
    NodeKey::open(&engine.config().node_key).map_err(|source| EngineError::Store {
        action: "open node key",
        object: engine.config().node_key.display().to_string(),
        source: Box::new(source),
    })
}

/// How images are converted on the way in.
pub(super) fn options(engine: &Engine) -> dimsum_convert::ConvertOptions {
    let (temp_dir, level) = (engine.config().temp_dir.clone(), dimsum_format::codec::FAST_LEVEL);
    dimsum_convert::ConvertOptions { temp_dir, level, ..dimsum_convert::ConvertOptions::default() }
}

/// What changes the tree or the canonical bytes. The encoder is left out: an image made by an older one is as good.
fn record_options(options: &dimsum_convert::ConvertOptions) -> String {
    let overlay = match options.overlay_entries {
        OverlayEntries::Refuse => "refuse",
        OverlayEntries::Drop => "drop",
    };
    format!("{},overlay={overlay}", options.canonical())
}
