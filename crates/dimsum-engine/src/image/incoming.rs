//! Layers of a remote image on their way in: fetched ahead of the conversion, kept until it is done.
//!
//! ```text
//!   threads "incoming": source.open_at(what is there already) ─→ <store>/incoming/<digest> ─→ Tail: the conversion reads behind
//! ```
//!
//! A conversion that is interrupted leaves the bytes that it has fetched, and the next one goes on from there. None of
//! them is trusted, since the conversion hashes every layer from its first byte. A part that was wrong is thrown away
//! and the layer fetched once more from its start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{
    BoxFuture, PartialBlob, PartialFailure, Place, Source, SourceError, remove_unwritten, with_causes,
};

use crate::{CancelToken, Engine, EngineError};

/// Name in the store.
const DIRECTORY: &str = "incoming";
/// Layers fetched at the same time: one that is being read and one ahead of it; the link is shared, not multiplied.
const THREADS: usize = 2;
/// How often a waiting reader looks whether the conversion was cancelled.
const LOOK: Duration = Duration::from_millis(100);
/// What nobody has gone on with for so long is thrown away.
const STALE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A source whose layers come through files of the store.
#[derive(Debug)]
pub(super) struct Incoming {
    source: Arc<dyn Place>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    layers: Vec<Layer>,
    /// The next layer that a thread takes.
    next: AtomicUsize,
    stop: AtomicBool,
    cancel: CancelToken,
    state: Mutex<HashMap<Digest, State>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Layer {
    blob: Blob,
    /// Without a name if another process writes the file of this name.
    partial: PartialBlob,
}

#[derive(Debug, Clone, Default)]
struct State {
    length: u64,
    failed: Option<Arc<str>>,
}

impl Incoming {
    /// Starts to fetch layers, in their order.
    ///
    /// # Errors
    /// If the store's directory cannot be written.
    pub(super) fn start(engine: &Engine, source: Arc<dyn Place>, layers: &[Blob]) -> Result<Self, EngineError> {
        let directory = engine.config().store.join(DIRECTORY);
        let failed = |error| EngineError::io("keep layers in", &directory, error);
        fs::create_dir_all(&directory).map_err(failed)?;
        throw_away_stale(&directory);
        let mut opened: Vec<Layer> = Vec::new();
        for blob in layers {
            if !opened.iter().any(|layer| layer.blob.digest == blob.digest) {
                opened.push(Layer::open(&directory, *blob).map_err(failed)?);
            }
        }
        let state = |layer: &Layer| (layer.blob.digest, State { length: layer.partial.found(), failed: None });
        let shared = Arc::new(Shared {
            state: Mutex::new(opened.iter().map(state).collect()),
            layers: opened,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            cancel: engine.cancel().clone(),
            changed: Condvar::new(),
        });
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let (shared, source, span) = (Arc::clone(&shared), Arc::clone(&source), tracing::Span::current());
            let fetch = move || span.in_scope(|| shared.fetch_all(&*source));
            let thread = std::thread::Builder::new().name("incoming".to_owned()).spawn(fetch);
            threads.push(thread.map_err(failed)?);
        }
        Ok(Self { source, shared, threads })
    }

    /// Says whether a part of a layer was left by an earlier attempt; if so it is thrown away.
    pub(super) fn distrust(&self, digest: Digest) -> bool {
        let layer = self.shared.layers.iter().find(|layer| layer.blob.digest == digest && layer.partial.found() > 0);
        if let Some(layer) = layer {
            layer.remove();
        }
        layer.is_some()
    }

    /// Throws away what was fetched: it is in the store in another form now.
    pub(super) fn done(self) {
        self.shared.layers.iter().for_each(Layer::remove);
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.shared.cancel.is_cancelled() {
            // This process is about to end, and a registry that hangs would hold it up until a deadline.
            return;
        }
        for thread in self.threads.drain(..) {
            // It ends at its next piece of bytes. If it panicked, its readers were told.
            drop(thread.join());
        }
    }
}

impl Layer {
    fn open(directory: &Path, blob: Blob) -> io::Result<Self> {
        let partial = match PartialBlob::open(&directory.join(blob.digest.hex()), blob.size)? {
            Some(partial) => partial,
            // Another command converts it, too; it may take the file away when it is done.
            None => PartialBlob::unnamed(anonymous(directory)?),
        };
        Ok(Self { blob, partial })
    }

    fn remove(&self) {
        // What stays is thrown away when it is stale.
        let _ignored: io::Result<()> = self.partial.remove();
    }
}

fn anonymous(directory: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = i32::try_from(OFlags::TMPFILE.bits()).unwrap_or_default();
    File::options().read(true).write(true).custom_flags(flags).open(directory)
}

fn throw_away_stale(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            remove_unwritten(&entry.path());
        }
    }
}

impl Shared {
    fn fetch_all(&self, source: &dyn Place) {
        while let Some(layer) = self.layers.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.stopped() {
                return;
            }
            if let Err(error) = self.fetch(source, layer) {
                self.update(layer.blob.digest, |state| state.failed = Some(with_causes(&error).into()));
            }
        }
    }

    fn fetch(&self, source: &dyn Place, layer: &Layer) -> io::Result<()> {
        let mut at = layer.partial.found();
        let fetched = layer.partial.fetch(layer.blob, source, &mut |bytes| {
            at = at.saturating_add(bytes.len() as u64);
            self.update(layer.blob.digest, |state| state.length = at);
            if self.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match fetched {
            Ok(end) if end < layer.blob.size => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(PartialFailure::Source(error)) => Err(io::Error::other(error)),
            Err(PartialFailure::Read(error) | PartialFailure::File(error)) => Err(error),
            Err(PartialFailure::Stopped) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    fn update(&self, digest: Digest, change: impl FnOnce(&mut State)) {
        change(self.lock().entry(digest).or_default());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, State>> {
        // A reader or writer that panicked left lengths that are true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there are bytes behind `at`; returns the end of what there is, `at` at the end of the layer.
    fn wait(&self, blob: Blob, at: u64) -> io::Result<u64> {
        let mut state = self.lock();
        loop {
            let now = state.get(&blob.digest).cloned().unwrap_or_default();
            if now.length > at || at >= blob.size {
                return Ok(now.length.max(at));
            }
            if let Some(failed) = now.failed {
                return Err(io::Error::other(failed.to_string()));
            }
            if self.stopped() {
                return Err(io::Error::other("interrupted"));
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Reads a layer while it is written.
struct Tail {
    shared: Arc<Shared>,
    layer: usize,
    at: u64,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(layer) = self.shared.layers.get(self.layer) else { return Ok(0) };
        let end = self.shared.wait(layer.blob, self.at)?;
        let length = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = layer.partial.file().read_at(buffer.get_mut(..length).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Source for Incoming {
    fn name(&self) -> &str {
        self.source.name()
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<bytes::Bytes, SourceError>> {
        self.source.read_range(blob, range)
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        let Some(layer) = self.shared.layers.iter().position(|layer| layer.blob.digest == blob) else {
            return self.source.open(blob);
        };
        Ok(Box::new(Tail { shared: Arc::clone(&self.shared), layer, at: 0 }))
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        self.source.size(blob)
    }

    fn read_small(&self, object: &'static str, blob: Digest, limit: u64) -> Result<Vec<u8>, SourceError> {
        self.source.read_small(object, blob, limit)
    }

    fn read_manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.source.read_manifest(digest)
    }
}
