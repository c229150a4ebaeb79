//! A store: its threads, its caches, and the ways into it.

use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use dimsum_format::{Blake3, Digest};
use dimsum_source::{Runtime, Source};

use crate::budget::{StoreBudget, StoreUse};
use crate::disk::layout::{self, DEVICES, IMAGES, Layout, PACKS, RECORDS, VERSION};
use crate::error::StoreError;
use crate::fetch::progress::FillPolicy;
use crate::image::Image;
use crate::images::{self, Images};
use crate::limits::{MAX_DECODE_THREADS, REQUEST_DEADLINE, WHOLE_META};
use crate::load;
use crate::pool::DecodePool;
use crate::role::StoreRole;
use crate::services::{Joining, Services, Settings};
use crate::siblings::Hold;
use crate::stats::EventSink;
use crate::target::StoreTarget;

/// Bytes of the file `version` that are looked at; ours has some twenty.
const MAX_VERSION_TEXT: u64 = 256;

/// How a store works.
#[derive(Debug, Clone)]
pub struct StoreOptions {
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
    /// What all images of the store may hold together.
    pub budget: StoreBudget,
    /// When fills try again.
    pub fill: FillPolicy,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            decode_threads: None,
            request_deadline: REQUEST_DEADLINE,
            joining: Joining::ByCost,
            whole_meta: WHOLE_META,
            runtime: None,
            events: None,
            budget: StoreBudget::default(),
            fill: FillPolicy::default(),
        }
    }
}

/// A store on disk. Cheap to clone; all clones share threads and caches.
///
/// Several processes may have the same store open. Whole files are named by their content and appear by rename, so any process may add
/// them. What is filled in place has one writer, the [`StoreRole::Owner`]; it is proven at each read.
#[derive(Debug, Clone)]
pub struct Store {
    services: Arc<Services>,
    images: Arc<Images>,
}

impl Store {
    /// Opens the store in `dir`, making it if it is not there.
    ///
    /// # Errors
    /// If the directory cannot be made or read, or holds a store of another version.
    pub fn open(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Layout::new(dir.as_ref());
        check_version(&layout)?;
        for name in [PACKS, DEVICES, IMAGES, RECORDS] {
            let path = layout.directory(name);
            layout::make_directory(&path).map_err(|error| StoreError::io(&path, error))?;
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = options.decode_threads.unwrap_or(cpus).clamp(1, MAX_DECODE_THREADS);
        let failed = |error| StoreError::io(layout.root(), error);
        let pool = DecodePool::new(threads).map_err(failed)?;
        let runtime = options.runtime.map_or_else(Runtime::start, Ok).map_err(failed)?;
        let settings = Settings {
            deadline: options.request_deadline,
            joining: options.joining,
            whole_meta: options.whole_meta,
            events: options.events,
            budget: options.budget,
            fill: options.fill,
        };
        let services = Arc::new(Services::new(layout, pool, runtime, settings));
        Ok(Self { services, images: Arc::default() })
    }

    pub(crate) const fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Opens an image for reading, blocking.
    ///
    /// Manifest, config and meta are taken from the store, else from the store's packs, else from `origins` in order.
    /// They are proven from `manifest`, and damaged ones are written again. The meta is fetched whole the first time;
    /// data is fetched when it is read. From a registry that takes two round trips: the manifest, then config and meta
    /// together. Each source has the deadline of a request.
    ///
    /// An image that is open already, or is being opened, is not opened once more. All who open it share it, with its
    /// counters. It asks the sources of all of them, at most [`crate::limits::MAX_ORIGINS`].
    ///
    /// # Errors
    /// If no right copy of a part is found, or the parts are no image.
    pub fn image(&self, manifest: Digest, origins: Vec<Arc<dyn Source>>) -> Result<Arc<Image>, StoreError> {
        images::open(&self.services, &self.images, manifest, origins)
    }

    /// Returns what this process may do with the files of the store. It is the owner while it has an image open, unless
    /// another process was first. A guest becomes the owner when the owner has closed its images. Without an open
    /// image, says whether it would be the owner.
    #[must_use]
    pub fn role(&self) -> StoreRole {
        let _claim = self.services.claim();
        if self.services.role().is_owner() { StoreRole::Owner } else { StoreRole::Guest }
    }

    /// Returns what all images hold together now; the limits are those of [`StoreOptions::budget`].
    #[must_use]
    pub fn usage(&self) -> StoreUse {
        let (flights, requests) = self.services.traffic().view(|core| (core.flights(), core.requests()));
        StoreUse { flights, requests, ..self.services.budgets().usage() }
    }

    /// Returns the manifest of an image if the store has it with the right digest, from its copy or from the store's packs.
    /// Nothing is asked for and nothing is mended.
    #[must_use]
    pub fn find_manifest(&self, manifest: Digest) -> Option<Vec<u8>> {
        load::find_manifest(&self.services, manifest)
    }

    /// Keeps the manifest of an image that was read elsewhere, so that [`image`](Self::image) does not ask for it again.
    /// That the store cannot keep it is no error: it is asked for then. Returns the digest.
    pub fn keep_manifest(&self, manifest: &[u8]) -> Digest {
        load::keep_manifest(&self.services, manifest)
    }

    /// Returns the target through which a conversion puts an image into this store.
    #[must_use]
    pub fn target(&self) -> StoreTarget {
        StoreTarget::new(&self.services)
    }

    /// Says of each digest of a chunk whether the chunk lies on this node. It may lie in a device or a pack of any
    /// image that a process opened in this store. Blocking; not for threads of the store.
    ///
    /// What lies there was not proven for this, and may be gone a moment later.
    #[must_use]
    pub fn has_chunks(&self, digests: &[Blake3]) -> Vec<bool> {
        let siblings = self.services.siblings();
        siblings.expect_more();
        let (give, take) = mpsc::channel();
        siblings.when_known(self.services.runtime(), Hold::Long, Box::new(move || give.send(()).unwrap_or(())));
        // Silence is a runtime that has ended: then only what was read before is known.
        let _ = take.recv();
        let is_here = |digest: &Blake3| siblings.of(*digest, None).iter().any(|each| each.is_here(siblings.layout()));
        digests.iter().map(is_here).collect()
    }

    /// Returns the store's own packs as a source, for copying from the store.
    #[must_use]
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::clone(self.services.packs()) as Arc<dyn Source>
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
