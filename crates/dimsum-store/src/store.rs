//! A store: its threads, its caches, and the ways into it.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use dimsum_format::meta::MetaMaps;
use dimsum_format::{Blake3, DeviceId, Digest};
use dimsum_source::{Runtime, Source};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::device::Device;
use crate::error::StoreError;
use crate::image::Image;
use crate::images::{self, Images};
use crate::layout::{self, DEVICES, IMAGES, Layout, PACKS, RECORDS, VERSION};
use crate::limits::{MAX_DECODE_THREADS, REQUEST_DEADLINE, WHOLE_META};
use crate::load;
use crate::local::LocalPacks;
use crate::pool::Pool;
use crate::siblings::{Patience, Siblings};
use crate::stats::EventSink;
use crate::target::StoreTarget;

/// Bytes of the file `version` that are looked at; ours has some twenty.
const MAX_VERSION_TEXT: u64 = 256;

/// When unwanted bytes between two frames are fetched to save a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Joining {
    /// Never.
    Off,
    /// While they arrive faster than an answer to a second request would, by what was measured of the source.
    #[default]
    ByCost,
    /// While they are at most so many, and at most [`crate::limits::MAX_BRIDGE`]: for measuring.
    Within(u64),
}

/// How a store works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that decode and verify; `None` takes one per CPU, at most [`crate::limits::MAX_DECODE_THREADS`].
    pub decode_threads: Option<usize>,
    /// How long one request to a source may take, and how long a reader's request is repeated while no source can be reached.
    pub request_deadline: Duration,
    /// When a network is asked for frames with others between them by one request. Frames next to each other always are.
    pub joining: Joining,
    /// Length of a compressed meta up to which a network is asked for all of it at once.
    pub whole_meta: u64,
    /// Where requests wait; `None` starts a runtime of the store's own. One per process is enough.
    pub runtime: Option<Runtime>,
    /// Who hears of damage, repairs and failing sources.
    pub events: Option<Arc<dyn EventSink>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            decode_threads: None,
            request_deadline: REQUEST_DEADLINE,
            joining: Joining::ByCost,
            whole_meta: WHOLE_META,
            runtime: None,
            events: None,
        }
    }
}

/// A store on disk. Cheap to clone; all clones share threads and caches.
///
/// Several processes may have the same store open: files are named by their content and appear by rename, and what is filled in
/// place is proven at each read.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// Opens the store in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// If the directory cannot be made or read, or holds a store of another version.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let layout = Layout::new(dir.as_ref());
        check_version(&layout)?;
        for name in [PACKS, DEVICES, IMAGES, RECORDS] {
            let path = layout.directory(name);
            layout::make_directory(&path).map_err(|error| StoreError::io(&path, error))?;
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = options.decode_threads.unwrap_or(cpus).clamp(1, MAX_DECODE_THREADS);
        let failed = |error| StoreError::io(layout.root(), error);
        let pool = Arc::new(Pool::new(threads).map_err(failed)?);
        let runtime = options.runtime.map_or_else(Runtime::start, Ok).map_err(failed)?;
        let packs = Arc::new(LocalPacks::new(&layout, &pool));
        let siblings = Arc::new(Siblings::new(&layout));
        let inner = Inner {
            packs,
            siblings,
            layout,
            pool,
            runtime,
            deadline: options.request_deadline,
            joining: options.joining,
            whole_meta: options.whole_meta,
            events: options.events,
            devices: Mutex::default(),
            images: Images::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens an image for reading, blocking.
    ///
    /// Manifest, config and meta are taken from the store, else from the store's packs, else from `origins` in order, and proven
    /// from `manifest`; damaged ones are written again. The meta is fetched whole the first time; data is fetched when it is read.
    /// From a registry that takes two round trips: the manifest, then config and meta together. Each source has the deadline of
    /// a request.
    ///
    /// An image that is open already, or is being opened, is not opened once more: all who open it share it, with its counters, and it
    /// asks the sources of all of them, at most [`crate::limits::MAX_ORIGINS`].
    ///
    /// # Errors
    /// If no right copy of a part is found, or the parts are no image.
    pub fn image(&self, manifest: Digest, origins: Vec<Arc<dyn Source>>) -> Result<Arc<Image>, StoreError> {
        images::open(&self.inner, manifest, origins)
    }

    /// Returns the manifest of an image if the store has it with the right digest, from its copy or from the store's packs.
    /// Nothing is asked for and nothing is mended.
    #[must_use]
    pub fn find_manifest(&self, manifest: Digest) -> Option<Vec<u8>> {
        load::find_manifest(&self.inner, manifest)
    }

    /// Keeps the manifest of an image that was read elsewhere, so that [`image`](Self::image) does not ask for it again.
    /// That the store cannot keep it is no error: it is asked for then. Returns the digest.
    pub fn keep_manifest(&self, manifest: &[u8]) -> Digest {
        load::keep_manifest(&self.inner, manifest)
    }

    /// Returns the target through which a conversion puts an image into this store.
    #[must_use]
    pub fn target(&self) -> StoreTarget {
        StoreTarget::new(&self.inner)
    }

    /// Says of each digest of a chunk whether the chunk lies on this node: in a device or a pack of an image that was opened in this
    /// store, by whatever process. Blocking; not for threads of the store.
    ///
    /// What lies there was not proven for this, and may be gone a moment later.
    #[must_use]
    pub fn has_chunks(&self, digests: &[Blake3]) -> Vec<bool> {
        let siblings = &self.inner.siblings;
        siblings.expect_more();
        let (give, take) = mpsc::channel();
        siblings.when_known(&self.inner, Patience::Whole, Box::new(move || give.send(()).unwrap_or(())));
        // Silence is a runtime that has ended: then only what was read before is known.
        let _ = take.recv();
        let is_here = |digest: &Blake3| siblings.of(*digest, None).iter().any(|each| each.is_here(siblings.layout()));
        digests.iter().map(is_here).collect()
    }

    /// Returns the store's own packs as a source, for copying from the store.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.inner.packs) as Arc<dyn Source>
    }
}

/// What all clones of a store share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) pool: Arc<Pool>,
    pub(crate) packs: Arc<LocalPacks>,
    pub(crate) siblings: Arc<Siblings>,
    pub(crate) deadline: Duration,
    pub(crate) joining: Joining,
    pub(crate) whole_meta: u64,
    pub(crate) events: Option<Arc<dyn EventSink>>,
    runtime: Runtime,
    /// Devices of open images, so that images that share one share its files and its proven chaining values.
    devices: Mutex<HashMap<DeviceId, Weak<Device>>>,
    pub(crate) images: Images,
}

impl Inner {
    /// Runs a future to its end in the background.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Starts a future in the background that can be ended.
    pub(crate) fn start(&self, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.handle().spawn(future).abort_handle()
    }

    /// Runs work that may block in the background.
    pub(crate) fn block(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.runtime.handle().spawn_blocking(work));
    }

    /// Runs a future in the background and waits for it, from any thread that may block. `None` if it was cancelled.
    pub(crate) fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.runtime.wait(future)
    }

    /// Returns device `index` of an image, the same one for all images of this process that have it.
    pub(crate) fn device(&self, maps: &Arc<MetaMaps>, index: usize, id: DeviceId) -> Arc<Device> {
        let mut devices = self.devices.lock();
        if let Some(device) = devices.get(&id).and_then(Weak::upgrade) {
            return device;
        }
        // Here, where it grows: entries of closed images go.
        devices.retain(|_, device| device.strong_count() > 0);
        let device = Arc::new(Device::new(id, Arc::clone(maps), index, self.layout.device(id)));
        devices.insert(id, Arc::downgrade(&device));
        device
    }
}

fn check_version(layout: &Layout) -> Result<(), StoreError> {
    let path = layout.directory("version");
    let io = |error| StoreError::io(&path, error);
    match layout::read_small(&path, MAX_VERSION_TEXT).map_err(io)? {
        Some(text) if text.trim_ascii_end() == VERSION.as_bytes() => Ok(()),
        Some(text) => {
            let found = String::from_utf8_lossy(text.trim_ascii_end()).into_owned();
            Err(StoreError::Version { path, found, known: VERSION })
        }
        None => {
            layout::make_directory(layout.root()).map_err(|error: io::Error| StoreError::io(layout.root(), error))?;
            layout::put_file(&path, format!("{VERSION}\n").as_bytes(), true).map_err(io)
        }
    }
}
