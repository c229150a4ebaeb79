//! The table of mounts, and how one is made.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dimsum_events::{EventKind, EventSink};
use dimsum_mount::ServedMount;
use dimsum_mount::keeper::{HeldDescriptor, OpenOptions, ROLE_FUSE};
use dimsum_store::Image;
use parking_lot::Mutex;

use super::Server;
use super::fill::{FillChange, MountFill};
use super::hub::MountReporter;
use crate::origin::open_all;
use crate::{Error, MountInfo, MountRequest, MountStats};

/// One mount.
pub(super) struct MountEntry {
    request: MountRequest,
    served: Arc<dyn ServedMount>,
    reporter: Arc<MountReporter>,
}

impl MountEntry {
    pub(super) fn new(request: MountRequest, served: Arc<dyn ServedMount>, reporter: Arc<MountReporter>) -> Self {
        Self { request, served, reporter }
    }

    pub(super) fn id(&self) -> u64 {
        self.reporter.id
    }

    pub(super) fn reporter(&self) -> &MountReporter {
        &self.reporter
    }

    fn info(&self) -> MountInfo {
        let stats = MountStats {
            session: self.served.session_stats(),
            driver: self.served.driver_stats(),
            image: self.served.image().map(|image| image.stats()).unwrap_or_default(),
        };
        MountInfo {
            id: self.id(),
            request: self.request.clone(),
            driver: self.request.driver,
            broken: self.served.broken(),
            fill: self.reporter.fill.status(),
            stats,
        }
    }
}

/// All mounts. As many as the keeper holds, which has a limit.
#[derive(Default)]
pub(super) struct MountTable {
    table: Mutex<BTreeMap<u64, MountEntry>>,
}

impl MountTable {
    pub(super) fn len(&self) -> usize {
        self.table.lock().len()
    }

    pub(super) fn all(&self) -> Vec<MountInfo> {
        self.table.lock().values().map(MountEntry::info).collect()
    }

    pub(super) fn one(&self, id: u64) -> Option<MountInfo> {
        self.table.lock().get(&id).map(MountEntry::info)
    }

    pub(super) fn insert(&self, mount: MountEntry) {
        self.table.lock().insert(mount.id(), mount);
    }

    pub(super) fn remove(&self, id: u64) -> Option<MountEntry> {
        self.table.lock().remove(&id)
    }

    /// Says whether a fill is under way, or is to be taken up again.
    pub(super) fn is_filling(&self) -> bool {
        self.table.lock().values().any(|mount| mount.reporter.fill.is_under_way())
    }

    /// Looks at the fills of all mounts.
    pub(super) fn check_fills(&self) {
        let reporters: Vec<_> = self.table.lock().values().map(|mount| Arc::clone(&mount.reporter)).collect();
        for reporter in reporters {
            let event = match reporter.fill.check(Instant::now()) {
                None => continue,
                Some(FillChange::Done) => reporter.event(EventKind::FillEnded),
                Some(FillChange::Stopped { reason }) => reporter.event(EventKind::FillFailed).reason(reason),
            };
            reporter.hub.log.event(event);
        }
    }
}

impl Server {
    /// Opens an image and mounts it. Returns the mount, which its client attaches. `is_wanted` is asked between the steps.
    pub(super) fn mount(&self, request: MountRequest, is_wanted: impl Fn() -> bool) -> Result<(u64, OwnedFd), Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closing);
        }
        let image = self.open_image(&request)?;
        if !is_wanted() {
            return Err(Error::ClientGone);
        }
        let record = serde_json::to_vec(&request).map_err(|source| Error::Message { source })?;
        let options = OpenOptions { source_name: request.source_name.clone(), suid: request.suid, dev: request.dev };
        let opened = self.hub.link.open(&options, &record)?;
        let session = HeldDescriptor { role: ROLE_FUSE.to_owned(), fd: opened.session };
        let served = self.serve(opened.id, session, &request, image);
        if let Err(error) = served {
            // The keeper lets go; the mount's only descriptor ends with this function.
            drop(self.hub.link.closed(opened.id));
            return Err(error);
        }
        Ok((opened.id, opened.mount))
    }

    /// Opens the image of a request, blocking.
    pub(super) fn open_image(&self, request: &MountRequest) -> Result<Arc<Image>, Error> {
        let (origins, skipped) = open_all(self.open_origin, &self.networks, &request.origins);
        for reason in &skipped {
            self.hub.log.line(format_args!("origin of {} is not usable: {reason}", request.image));
        }
        self.store.image(request.image, origins).map_err(|source| Error::Store { source: Box::new(source), skipped })
    }

    /// Returns what reports of a mount.
    pub(super) fn reporter(&self, id: u64, request: &MountRequest) -> Arc<MountReporter> {
        let fill = MountFill::new(request.fill, self.fill_pause);
        MountReporter::new(Arc::clone(&self.hub), id, request.image, request.target.as_str().into(), fill)
    }

    fn serve(&self, id: u64, session: HeldDescriptor, request: &MountRequest, image: Arc<Image>) -> Result<(), Error> {
        let reporter = self.reporter(id, request);
        let served =
            self.driver(request.driver)?.mount(vec![session], image, Arc::<MountReporter>::clone(&reporter))?;
        self.hub.log.event(reporter.event(EventKind::MountStarted));
        self.start_serving(MountEntry::new(request.clone(), served, reporter))
    }

    /// Puts a mount into the table and begins to serve it.
    pub(super) fn start_serving(&self, mount: MountEntry) -> Result<(), Error> {
        let (id, served) = (mount.id(), Arc::clone(&mount.served));
        // In the table before it is served: it may be released at once.
        self.mounts.insert(mount);
        if let Err(error) = served.start() {
            self.mounts.remove(id);
            return Err(error.into());
        }
        Ok(())
    }
}
