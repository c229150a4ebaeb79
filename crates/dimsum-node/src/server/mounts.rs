//! The table of mounts, and how one is made.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dimsum_fuse::{Filesystem, Session};
use dimsum_mount::fuse::{FuseDriver, SESSION_OPTIONS};
use dimsum_mount::keeper::OpenOptions;
use dimsum_store::{Fill, Image};
use parking_lot::Mutex;

use super::Server;
use super::hub::MountObserver;
use super::takeover::Late;
use crate::origin::open_all;
use crate::{Error, MountInfo, MountRequest, MountStats};

/// What serves a mount.
#[derive(Clone)]
pub(super) enum Driver {
    /// The image's tree.
    Fuse(Arc<FuseDriver>),
    /// A session that was taken over, whose image could not be opened at once.
    Late(Arc<Late>),
}

/// One mount.
pub(super) struct Mount {
    id: u64,
    request: MountRequest,
    session: Session,
    driver: Driver,
    /// Ends with the mount; what it brought stays.
    _fill: Option<Fill>,
}

impl Mount {
    pub(super) fn new(id: u64, request: MountRequest, session: Session, driver: Driver) -> Self {
        let fill = match &driver {
            Driver::Fuse(driver) if request.fill => Some(driver.image().fill(|_| {})),
            _ => None,
        };
        Self { id, request, session, driver, _fill: fill }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn request(&self) -> &MountRequest {
        &self.request
    }

    fn info(&self) -> MountInfo {
        let (driver, broken) = match &self.driver {
            Driver::Fuse(driver) => (Some(Arc::clone(driver)), None),
            Driver::Late(late) => (late.driver(), late.reason()),
        };
        let stats = MountStats {
            session: self.session.counters(),
            driver: driver.as_ref().map(|driver| driver.stats()).unwrap_or_default(),
            image: driver.as_ref().map(|driver| driver.image().stats()).unwrap_or_default(),
        };
        MountInfo { id: self.id, request: self.request.clone(), driver: "fuse".to_owned(), broken, stats }
    }
}

/// All mounts. As many as the keeper holds, which has a limit.
#[derive(Default)]
pub(super) struct Mounts {
    table: Mutex<BTreeMap<u64, Mount>>,
}

impl Mounts {
    pub(super) fn len(&self) -> usize {
        self.table.lock().len()
    }

    pub(super) fn all(&self) -> Vec<MountInfo> {
        self.table.lock().values().map(Mount::info).collect()
    }

    pub(super) fn one(&self, id: u64) -> Option<MountInfo> {
        self.table.lock().get(&id).map(Mount::info)
    }

    /// Returns what serves a mount whose image could not be opened at once.
    pub(super) fn late(&self, id: u64) -> Option<Arc<Late>> {
        match self.table.lock().get(&id).map(|mount| &mount.driver) {
            Some(Driver::Late(late)) => Some(Arc::clone(late)),
            _ => None,
        }
    }

    pub(super) fn insert(&self, mount: Mount) {
        self.table.lock().insert(mount.id, mount);
    }

    pub(super) fn remove(&self, id: u64) -> Option<Mount> {
        self.table.lock().remove(&id)
    }
}

impl Server {
    /// Opens an image and mounts it. Returns the mount, which its client attaches.
    pub(super) fn mount(&self, request: MountRequest) -> Result<(u64, OwnedFd), Error> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closing);
        }
        let image = self.open_image(&request)?;
        let record = serde_json::to_vec(&request).map_err(|source| Error::Message { source })?;
        let options = OpenOptions { source_name: request.source_name.clone(), suid: request.suid, dev: request.dev };
        let opened = self.hub.link.open(&options, &record)?;
        let served = self.serve(opened.id, opened.session, &request, image);
        if let Err(error) = served {
            // The keeper lets go; the mount's only descriptor ends with this function.
            drop(self.hub.link.closed(opened.id));
            return Err(error);
        }
        self.hub.log.line(format_args!("mount {} of {} ({})", opened.id, request.image, request.target));
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

    /// Returns what tells of a mount.
    pub(super) fn observer(&self, id: u64, request: &MountRequest) -> MountObserver {
        MountObserver { hub: Arc::clone(&self.hub), id, target: request.target.as_str().into() }
    }

    /// Makes the driver of an image.
    pub(super) fn driver(&self, id: u64, request: &MountRequest, image: Arc<Image>) -> Result<Arc<FuseDriver>, Error> {
        let observer = self.observer(id, request);
        let driver = FuseDriver::new(image, Box::new(observer)).map_err(|error| Error::Tree(Box::new(error)))?;
        Ok(Arc::new(driver))
    }

    fn serve(&self, id: u64, fd: OwnedFd, request: &MountRequest, image: Arc<Image>) -> Result<(), Error> {
        let driver = self.driver(id, request, image)?;
        let filesystem: Arc<dyn Filesystem> = Arc::<FuseDriver>::clone(&driver);
        let session = Session::new(fd, SESSION_OPTIONS, filesystem);
        // In the table before it is served: it may be released at once.
        self.mounts.insert(Mount::new(id, request.clone(), session.clone(), Driver::Fuse(driver)));
        if let Err(error) = self.pool.serve(&session) {
            self.mounts.remove(id);
            return Err(error.into());
        }
        Ok(())
    }
}
