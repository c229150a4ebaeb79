//! What all images of a store share: files, threads, flights, settings.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dimsum_format::DeviceId;
use dimsum_source::Runtime;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::budget::{Budgets, OpenMaps, StoreBudget};
use crate::disk::device::DeviceFiles;
use crate::disk::layout::Layout;
use crate::disk::packs::LocalPacks;
use crate::fetch::progress::FillPolicy;
use crate::fetch::traffic::Traffic;
use crate::pool::DecodePool;
use crate::role::{RoleFlag, WriterLock};
use crate::siblings::Siblings;
use crate::stats::EventSink;

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

/// How a store was told to work.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) deadline: Duration,
    pub(crate) joining: Joining,
    pub(crate) whole_meta: u64,
    pub(crate) events: Option<Arc<dyn EventSink>>,
    pub(crate) budget: StoreBudget,
    pub(crate) fill: FillPolicy,
}

/// What all clones of a store, and all its images, share.
#[derive(Debug)]
pub(crate) struct Services {
    layout: Layout,
    pool: Arc<DecodePool>,
    packs: Arc<LocalPacks>,
    siblings: Arc<Siblings>,
    traffic: Arc<Traffic>,
    settings: Settings,
    budgets: Budgets,
    runtime: Runtime,
    role: Arc<RoleFlag>,
    /// Held by open images.
    writer: Mutex<Weak<WriterLock>>,
    /// Devices of open images, so that images that share one share its files and its proven chaining values.
    devices: Arc<Devices>,
}

/// Devices of open images by their ids.
type Devices = Mutex<HashMap<DeviceId, Weak<DeviceFiles>>>;

impl Services {
    pub(crate) fn new(layout: Layout, pool: DecodePool, runtime: Runtime, settings: Settings) -> Self {
        let (pool, role) = (Arc::new(pool), Arc::new(RoleFlag::default()));
        Self {
            packs: Arc::new(LocalPacks::new(&layout, &pool, &role)),
            siblings: Arc::new(Siblings::new(&layout)),
            traffic: Arc::new(Traffic::new(settings.budget.requests)),
            budgets: Budgets::new(settings.budget, &pool),
            layout,
            pool,
            settings,
            runtime,
            role,
            writer: Mutex::new(Weak::new()),
            devices: Arc::default(),
        }
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn pool(&self) -> &DecodePool {
        &self.pool
    }

    pub(crate) const fn packs(&self) -> &Arc<LocalPacks> {
        &self.packs
    }

    pub(crate) const fn siblings(&self) -> &Arc<Siblings> {
        &self.siblings
    }

    pub(crate) const fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// What all images may hold together.
    pub(crate) const fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Whether this process writes the files.
    pub(crate) const fn role(&self) -> &Arc<RoleFlag> {
        &self.role
    }

    /// Becomes the process that writes the files, as long as the result is held; if another is, waits for that in the background.
    pub(crate) fn claim(&self) -> io::Result<Arc<WriterLock>> {
        let mut writer = self.writer.lock();
        if let Some(writer) = writer.upgrade() {
            return Ok(writer);
        }
        let known = Arc::clone(&self.devices);
        // What a guest remembers of files that another wrote may not be so any more.
        let forget = move || known.lock().values().filter_map(Weak::upgrade).for_each(|device| device.forget());
        let claim = Arc::new(WriterLock::take(self.layout.root(), &self.role, forget)?);
        *writer = Arc::downgrade(&claim);
        Ok(claim)
    }

    /// How long one request to a source may take.
    pub(crate) const fn deadline(&self) -> Duration {
        self.settings.deadline
    }

    pub(crate) const fn joining(&self) -> Joining {
        self.settings.joining
    }

    pub(crate) const fn whole_meta(&self) -> u64 {
        self.settings.whole_meta
    }

    /// When fills try again.
    pub(crate) const fn fill_policy(&self) -> FillPolicy {
        self.settings.fill
    }

    pub(crate) fn events(&self) -> Option<&dyn EventSink> {
        self.settings.events.as_deref()
    }

    /// Runs a future to its end in the background.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Starts a future in the background that can be ended.
    pub(crate) fn start(&self, future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.handle().spawn(future).abort_handle()
    }

    /// Runs a future in the background and waits for it, from any thread that may block. `None` if it was cancelled.
    pub(crate) fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.runtime.wait(future)
    }

    /// Returns device `index` of an image, the same one for all images of this process that have it.
    pub(crate) fn device(&self, maps: &Arc<OpenMaps>, index: usize, id: DeviceId) -> Arc<DeviceFiles> {
        let mut devices = self.devices.lock();
        if let Some(device) = devices.get(&id).and_then(Weak::upgrade) {
            return device;
        }
        // Here, where it grows: entries of closed images go.
        devices.retain(|_, device| device.strong_count() > 0);
        let (lane, directory) = (self.traffic.lane(), self.layout.device(id));
        let device =
            Arc::new(DeviceFiles::new(id, lane, (Arc::clone(maps), index), directory, (&self.budgets, &self.role)));
        devices.insert(id, Arc::downgrade(&device));
        device
    }
}
