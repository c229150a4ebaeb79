//! An ordinary image on its way in: converted into the node's store once, found again by its records.
//!
//! What a source was converted into cannot be proven without the source, and the point is to start without it. So two
//! records are kept, both authenticated with the node key (which lies outside the store) by the store's record keeper:
//!
//! 1. *conversion*: source manifest digest + options → our manifest digest;
//! 2. *name*: a reference as text → the source manifest digest that it stood for when it was last there.
//!
//! A name is always asked of the source first, since a tag may have moved; its record counts only if the layout is gone.
//! A record that does not verify is none: the image is converted again, or the error says that the source is not there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use dimsum_convert::{Input, OverlayEntries};
use dimsum_format::Digest;
use dimsum_registry::Reference;
use dimsum_store::{NodeKey, Record, Store};

use super::{Located, Resolved};
use crate::context::Context;
use crate::error::Error;
use crate::output::Size;
use crate::progress::{Phase, Progress};
use crate::signals::Interrupts;

/// In the place of a conversion's options in a record of a name. No conversion has these options.
const NAME: &str = "name";

/// Opens an ordinary image from the store, converting it first if that has not been done.
///
/// # Errors
/// If it cannot be converted, or the store cannot keep it.
pub fn convert(context: &Context, store: &Store, resolved: Resolved) -> Result<Located, Error> {
    let name = resolved.reference.to_string();
    let failed = |source| Error::Store { object: name.clone(), source: Box::new(source) };
    let key = node_key(context)?;
    let options = options(context);
    let text = record_options(&options);
    if let Some(result) = store.find_record(&key, resolved.digest, &text).map_err(failed)? {
        match store.image(result, Vec::new()) {
            Ok(image) => {
                put_name(store, &key, &resolved.reference, resolved.digest)?;
                context.explain(&format!("{name}: converted before, taken from the store as {result}"));
                return Located::from_store(resolved.reference, resolved.digest, &image);
            }
            // The record is right but what it names is not there any more: as if it had never been converted.
            Err(error) => context.explain(&format!("{name}: converted before, but the store lost it ({error})")),
        }
    }
    let input = Input::Image { source: &*resolved.layout, manifest: resolved.digest };
    let shown = ConvertProgress::new(context, &name);
    let converted = dimsum_convert::convert(input, &store.target(), &options, &shown);
    let converted = converted.map_err(|error| shown.error(error))?;
    drop(shown);
    let record = Record { source: resolved.digest, options: text, result: converted.manifest };
    store.put_record(&key, &record).map_err(failed)?;
    put_name(store, &key, &resolved.reference, resolved.digest)?;
    let image = store.image(converted.manifest, Vec::new()).map_err(failed)?;
    Located::from_store(resolved.reference, resolved.digest, &image)
}

/// Opens an image whose source is gone, if the records tell what it became. `gone` is what to say if they do not.
///
/// # Errors
/// `gone`, or what keeps the store from opening the image.
pub fn from_record(context: &Context, store: &Store, reference: Reference, gone: Error) -> Result<Located, Error> {
    let failed = |source| Error::Store { object: reference.to_string(), source: Box::new(source) };
    let key = node_key(context)?;
    let source = match &reference {
        // Pinned by the user: nothing to look up.
        Reference::OciLayout { name: Some(dimsum_registry::ImageName::Digest(digest)), .. } => Some(*digest),
        _ => store.find_record(&key, name_digest(&reference), NAME).map_err(failed)?,
    };
    let Some(source) = source else { return Err(gone) };
    let text = record_options(&options(context));
    let Some(result) = store.find_record(&key, source, &text).map_err(failed)? else { return Err(gone) };
    let image = store.image(result, Vec::new()).map_err(failed)?;
    context.explain(&format!("{reference}: the source is gone, taken from the store as {result}"));
    Located::from_store(reference, source, &image)
}

fn put_name(store: &Store, key: &NodeKey, reference: &Reference, source: Digest) -> Result<(), Error> {
    let record = Record { source: name_digest(reference), options: NAME.to_owned(), result: source };
    if store.find_record(key, record.source, NAME).ok().flatten() == Some(source) {
        return Ok(());
    }
    store
        .put_record(key, &record)
        .map_err(|source| Error::Store { object: reference.to_string(), source: Box::new(source) })
}

fn name_digest(reference: &Reference) -> Digest {
    Digest::of(reference.to_string().as_bytes())
}

fn node_key(context: &Context) -> Result<NodeKey, Error> {
    if let Some(directory) = context.node_key.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|source| Error::io("make the directory of the node key", directory, source))?;
    }
    NodeKey::open(&context.node_key)
        .map_err(|source| Error::Store { object: context.node_key.display().to_string(), source: Box::new(source) })
}

fn options(context: &Context) -> dimsum_convert::Options {
    dimsum_convert::Options { temp_dir: context.temp_dir.clone(), ..dimsum_convert::Options::default() }
}

/// What changes the tree or the canonical bytes. The encoder is left out: an image made by an older one is as good.
fn record_options(options: &dimsum_convert::Options) -> String {
    let overlay = match options.overlay_entries {
        OverlayEntries::Refuse => "refuse",
        OverlayEntries::Drop => "drop",
    };
    format!("{},overlay={overlay}", options.canonical())
}

/// Shows a conversion, and stops it when a signal asks for it.
#[derive(Debug)]
pub struct ConvertProgress {
    progress: Progress,
    interrupts: Option<Interrupts>,
    name: String,
    current: Mutex<Option<Phase>>,
    done: AtomicU64,
    written: AtomicU64,
    /// The signal that came, 0 for none.
    signal: AtomicI32,
}

impl ConvertProgress {
    /// Shows the conversion of `name`.
    #[must_use]
    pub fn new(context: &Context, name: &str) -> Self {
        Self {
            progress: context.progress,
            interrupts: context.interrupts.clone(),
            name: name.to_owned(),
            current: Mutex::new(None),
            done: AtomicU64::new(0),
            written: AtomicU64::new(0),
            signal: AtomicI32::new(0),
        }
    }

    /// Bytes that went into the target.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Says why the conversion ended.
    #[must_use]
    pub fn error(&self, source: dimsum_convert::Error) -> Error {
        match (source, self.signal.load(Ordering::Relaxed)) {
            (dimsum_convert::Error::Cancelled, signal) if signal != 0 => Error::Interrupted { signal },
            (source, _) => Error::Convert { object: self.name.clone(), source: Box::new(source) },
        }
    }
}

impl dimsum_convert::Progress for ConvertProgress {
    fn phase(&self, phase: dimsum_convert::Phase) {
        use dimsum_convert::Phase as P;
        let (what, total) = match phase {
            P::Layer { index, count, size, .. } => {
                let bytes = size.map(|size| format!(", {}", Size(size))).unwrap_or_default();
                (format!("converting {}: layer {} of {count}{bytes}", self.name, index + 1), size)
            }
            P::Pack { index, count } => (format!("converting {}: pack {} of {count}", self.name, index + 1), None),
            P::Meta => (format!("converting {}: meta", self.name), None),
            P::Publish => (format!("converting {}: publishing", self.name), None),
            _ => return,
        };
        self.done.store(0, Ordering::Relaxed);
        if let Ok(mut current) = self.current.lock() {
            // The old bar goes before the new one comes.
            *current = None;
            *current = Some(self.progress.phase(&what, total));
        }
    }

    fn bytes_in(&self, count: u64) {
        let done = self.done.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        if let Ok(current) = self.current.lock()
            && let Some(phase) = current.as_ref()
        {
            phase.set(done);
        }
    }

    fn bytes_out(&self, count: u64) {
        self.written.fetch_add(count, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        if let Some(signal) = self.interrupts.as_ref().and_then(Interrupts::ending) {
            self.signal.store(signal.as_raw(), Ordering::Relaxed);
        }
        self.signal.load(Ordering::Relaxed) != 0
    }
}
