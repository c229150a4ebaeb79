//! What this node remembers of images, so that they start again when their source is gone.
//!
//! What a source was converted into cannot be proven without the source, and the point is to start without it. So records
//! are kept, each authenticated with the node key (which lies outside the store) by the store's record keeper:
//!
//! 1. *conversion*: source manifest digest + options → our manifest digest;
//! 2. *name*: a reference as text → the manifest digest that it stood for when it was last there.
//!
//! A name is always asked of the source first, since a tag may have moved; its record counts only if the source is gone.
//! A record that does not verify is none.

use dimsum_convert::OverlayEntries;
use dimsum_format::Digest;
use dimsum_source::Reference;
use dimsum_store::{NodeKey, Record, Store};

use super::{Located, origin};
use crate::{Engine, EngineError};

/// In the place of a conversion's options in a record of a name. No conversion has these options.
const NAME: &str = "name";

/// Opens an image whose source is gone, if the records tell what it was. `gone` is what to say if they do not.
///
/// # Errors
/// `gone`, or what keeps the store from opening the image.
pub(super) fn from_record(
    engine: &Engine,
    store: &Store,
    reference: Reference,
    gone: EngineError,
) -> Result<Located, EngineError> {
    let failed = |source| EngineError::Store { object: reference.to_string(), source: Box::new(source) };
    let Some(source) = find_name(engine, store, &reference)? else { return Err(gone) };
    if let Some(result) = find_conversion(engine, store, &reference, source)? {
        let image = store.image(result, Vec::new()).map_err(failed)?;
        engine.progress().note(&format!("{reference}: its source is gone; taken from the store as {result}"));
        return Located::from_store(reference, Some(source), Vec::new(), &image);
    }
    // A Dimsum image of which the store has all but data that nobody has read yet: that comes when the source is back.
    let Ok(image) = store.image(source, Vec::new()) else { return Err(gone) };
    engine.progress().note(&format!(
        "{reference}: its source does not answer; what the store has of {source} is there, the rest is not"
    ));
    let origins = vec![origin(engine, &reference, source)?];
    Located::from_store(reference, None, origins, &image)
}

/// Returns the manifest that a reference stood for when its source was last there.
pub(super) fn find_name(engine: &Engine, store: &Store, reference: &Reference) -> Result<Option<Digest>, EngineError> {
    if let Some(digest) = reference.digest() {
        // Pinned by the user: nothing to look up.
        return Ok(Some(digest));
    }
    let found = store.find_record(&node_key(engine)?, name_digest(reference), NAME);
    found.map_err(|source| EngineError::Store { object: reference.to_string(), source: Box::new(source) })
}

/// Remembers what a name stands for. That this fails is no reason not to start the image.
pub(super) fn remember(engine: &Engine, store: &Store, reference: &Reference, digest: Digest) {
    let done = node_key(engine).and_then(|key| put_name(store, &key, reference, digest));
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
    found.map_err(|source| EngineError::Store { object: reference.to_string(), source: Box::new(source) })
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
    put.map_err(|source| EngineError::Store { object: reference.to_string(), source: Box::new(source) })
}

fn put_name(store: &Store, key: &NodeKey, reference: &Reference, source: Digest) -> Result<(), EngineError> {
    if reference.digest().is_some() {
        return Ok(());
    }
    let record = Record { source: name_digest(reference), options: NAME.to_owned(), result: source };
    if store.find_record(key, record.source, NAME).ok().flatten() == Some(source) {
        return Ok(());
    }
    store
        .put_record(key, &record)
        .map_err(|source| EngineError::Store { object: reference.to_string(), source: Box::new(source) })
}

fn name_digest(reference: &Reference) -> Digest {
    Digest::of(reference.to_string().as_bytes())
}

fn node_key(engine: &Engine) -> Result<NodeKey, EngineError> {
    if let Some(directory) = engine.config().node_key.parent() {
        std::fs::create_dir_all(directory).map_err(|source| EngineError::io("make", directory, source))?;
    }
    NodeKey::open(&engine.config().node_key).map_err(|source| EngineError::Store {
        object: engine.config().node_key.display().to_string(),
        source: Box::new(source),
    })
}

/// How images are converted on the way in.
pub(super) fn options(engine: &Engine) -> dimsum_convert::Options {
    let (temp_dir, level) = (engine.config().temp_dir.clone(), dimsum_format::codec::FAST_LEVEL);
    dimsum_convert::Options { temp_dir, level, ..dimsum_convert::Options::default() }
}

/// What changes the tree or the canonical bytes. The encoder is left out: an image made by an older one is as good.
fn record_options(options: &dimsum_convert::Options) -> String {
    let overlay = match options.overlay_entries {
        OverlayEntries::Refuse => "refuse",
        OverlayEntries::Drop => "drop",
    };
    format!("{},overlay={overlay}", options.canonical())
}
