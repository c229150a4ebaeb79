//! An ordinary image on its way in: converted into the node's store once, found again by what [`super::known`] remembers.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use dimsum_convert::{Converted, Input};
use dimsum_format::manifest::Blob;
use dimsum_source::Source;
use dimsum_store::Store;

use super::incoming::Incoming;
use super::{Opened, Resolved, known};
use crate::text::Size;
use crate::{CancelToken, Engine, EngineError, Progress, ProgressPhase};

/// Opens what an ordinary image became when it was converted into this store; nothing if it was not, or the store lost it.
///
/// # Errors
/// If the record of the conversion cannot be read, or the image's config makes no sense.
pub fn find_converted(engine: &Engine, store: &Store, resolved: &Resolved) -> Result<Option<Opened>, EngineError> {
    let Some(result) = known::find_conversion(engine, store, &resolved.reference, resolved.digest)? else {
        return Ok(None);
    };
    let name = resolved.reference.to_string();
    match store.image(result, Vec::new()) {
        Ok(image) => {
            known::remember(engine, store, &resolved.reference, resolved.digest);
            engine.progress().explain(&format!("{name}: converted before, taken from the store as {result}"));
            Opened::new(store, resolved.reference.clone(), Some(resolved.digest), Vec::new(), image).map(Some)
        }
        // The record is right but what it names is not there any more: as if it had never been converted.
        Err(error) => {
            engine.progress().explain(&format!("{name}: converted before, but the store lost it ({error})"));
            Ok(None)
        }
    }
}

/// Converts an ordinary image into the store and opens what it became.
///
/// # Errors
/// If it cannot be converted, or the store cannot keep it.
pub fn convert(engine: &Engine, store: &Store, resolved: Resolved) -> Result<Opened, EngineError> {
    let name = resolved.reference.to_string();
    let failed = |source| EngineError::Store { action: "open", object: name.clone(), source: Box::new(source) };
    let shown = ConvertProgress::new(engine, &name);
    let converted = if resolved.place.is_remote() {
        convert_remote(engine, store, &resolved, &shown)?
    } else {
        convert_from(engine, store, &*resolved.place, &resolved, &shown).map_err(|error| shown.error(error))?
    };
    drop(shown);
    known::put_conversion(engine, store, &resolved.reference, resolved.digest, converted.manifest)?;
    known::remember(engine, store, &resolved.reference, resolved.digest);
    let image = store.image(converted.manifest, Vec::new()).map_err(failed)?;
    Opened::new(store, resolved.reference, Some(resolved.digest), Vec::new(), image)
}

/// Converts while layers come in, and goes on with what an interrupted attempt left.
fn convert_remote(
    engine: &Engine,
    store: &Store,
    resolved: &Resolved,
    shown: &ConvertProgress,
) -> Result<Converted, EngineError> {
    let layers = resolved.manifest.layers.iter();
    let layers: Vec<Blob> = layers.map(|layer| Blob { digest: layer.digest, size: layer.size }).collect();
    let start = || Incoming::start(engine, Arc::clone(&resolved.place), &layers);
    let mut incoming = start()?;
    loop {
        match convert_from(engine, store, &incoming, resolved, shown) {
            Ok(converted) => {
                incoming.done();
                return Ok(converted);
            }
            // Written by an earlier attempt and not whole (the power failed): fetched again, once, since then there
            // is no earlier part any more.
            Err(dimsum_convert::ConvertError::LayerDigest { must, .. }) if incoming.distrust(must) => {
                drop(incoming);
                incoming = start()?;
            }
            Err(error) => return Err(shown.error(error)),
        }
    }
}

fn convert_from(
    engine: &Engine,
    store: &Store,
    source: &dyn Source,
    resolved: &Resolved,
    shown: &ConvertProgress,
) -> Result<Converted, dimsum_convert::ConvertError> {
    let input = Input::Image { source, manifest: resolved.digest };
    dimsum_convert::convert(input, &store.target(), &known::options(engine), shown)
}

/// Shows a conversion, and stops it when it is cancelled.
#[derive(Debug)]
pub struct ConvertProgress {
    progress: Arc<dyn Progress>,
    cancel: CancelToken,
    /// What is done: `convert` or `export`.
    action: &'static str,
    name: String,
    current: Mutex<Option<Box<dyn ProgressPhase>>>,
    done: AtomicU64,
    written: AtomicU64,
}

impl ConvertProgress {
    /// Shows the conversion of `name`.
    #[must_use]
    pub fn new(engine: &Engine, name: &str) -> Self {
        Self::of(engine, "convert", name)
    }

    /// Shows what is done to `name`: `convert` or `export`.
    #[must_use]
    pub fn of(engine: &Engine, action: &'static str, name: &str) -> Self {
        Self {
            action,
            progress: engine.shared_progress(),
            cancel: engine.cancel().clone(),
            name: name.to_owned(),
            current: Mutex::new(None),
            done: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// Bytes that went into the target.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Says why the conversion ended.
    #[must_use]
    pub fn error(&self, source: dimsum_convert::ConvertError) -> EngineError {
        // What is cancelled may end anywhere: in the middle of a layer that comes in, too.
        match self.cancel.reason() {
            Some(reason) => EngineError::Cancelled { reason },
            None => EngineError::Convert { action: self.action, object: self.name.clone(), source: Box::new(source) },
        }
    }
}

impl dimsum_convert::ConversionProgress for ConvertProgress {
    fn phase(&self, phase: dimsum_convert::ConversionPhase) {
        use dimsum_convert::ConversionPhase as P;
        let doing = format!("{}ing {}", self.action, self.name);
        let (what, total) = match phase {
            P::Image { index, count, digest } => (format!("{doing}: image {} of {count}, {digest}", index + 1), None),
            P::Original { size } => (format!("copying the original of {}, {}", self.name, Size(size)), Some(size)),
            P::Layer { index, count, size, .. } => {
                let bytes = size.map(|size| format!(", {}", Size(size))).unwrap_or_default();
                (format!("{doing}: layer {} of {count}{bytes}", index + 1), size)
            }
            P::Pack { index, count } => (format!("{doing}: pack {} of {count}", index + 1), None),
            P::Meta => (format!("{doing}: meta"), None),
            P::Publish => (format!("{doing}: publishing"), None),
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
        self.cancel.is_cancelled()
    }
}
