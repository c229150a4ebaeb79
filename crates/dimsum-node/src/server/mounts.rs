//! The table of mounts, and how one is made.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dimsum_engine::image::{Opened, TryOpened};
use dimsum_engine::{Access, CallerSettings, EngineError};
use dimsum_events::{EventKind, EventSink};
use dimsum_mount::keeper::{HeldDescriptor, ROLE_FUSE};
use dimsum_mount::{DriverKind, ServedMount};
use dimsum_source::parse_platform;
use dimsum_store::Image;
use parking_lot::Mutex;
use tracing::debug;

use super::Server;
use super::clients::{ClientAnswer, Connection};
use super::fill::{FillChange, MountFill};
use super::hub::MountReporter;
use crate::notes::CallerNotes;
use crate::record::MountRecord;
use crate::wire::WireResponse;
use crate::{Error, MountInfo, MountRequest, MountStats, MountedImage};

/// One mount.
pub(super) struct MountEntry {
    record: MountRecord,
    served: Arc<dyn ServedMount>,
    reporter: Arc<MountReporter>,
}

impl MountEntry {
    pub(super) fn new(record: MountRecord, served: Arc<dyn ServedMount>, reporter: Arc<MountReporter>) -> Self {
        Self { record, served, reporter }
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
        let record = &self.record;
        MountInfo {
            id: self.id(),
            image: record.image,
            reference: record.source_name.clone(),
            target: record.target.clone(),
            suid: record.suid,
            dev: record.dev,
            driver: record.driver,
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
    /// Opens an image by its name and mounts it, with the settings of the request. The client is looked for between
    /// the steps: nothing is done for one that left.
    pub(super) fn mount(&self, request: &MountRequest, client: &Connection) -> ClientAnswer {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::Closing);
        }
        let notes = Arc::new(CallerNotes::default());
        let engine = self.engine.for_caller(caller_settings(request)?);
        let engine = engine.with_progress(Arc::<CallerNotes>::clone(&notes)).with_cancel(client.token());
        self.refuse_relative(request)?;
        let opened = match engine.try_open(&request.reference) {
            Ok(TryOpened::Opened(opened)) => opened,
            Ok(TryOpened::Ordinary(resolved)) => {
                let needs = WireResponse::NeedsConversion { digest: resolved.digest, notes: notes.take() };
                return Ok((needs, None));
            }
            Err(EngineError::Cancelled { .. }) => return Err(Error::ClientGone),
            Err(error) => return Err(error.into()),
        };
        let opened_at = Instant::now();
        if !client.is_there() {
            return Err(Error::ClientGone);
        }
        let record = MountRecord::new(request, &opened.located);
        let mut image = mounted_image(&opened, request.driver);
        let (id, mount) = self.make_mount(record, opened.image)?;
        image.mount_micros = opened_at.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        Ok((WireResponse::Mounted { id, image, notes: notes.take() }, Some(mount)))
    }

    /// Refuses a path that means something else here than in the client.
    fn refuse_relative(&self, request: &MountRequest) -> Result<(), Error> {
        let Access { auth_files, cert_dirs, ca_files, temp_dir, .. } = &request.access;
        let mut paths = auth_files.iter().chain(cert_dirs).chain(ca_files).chain([temp_dir]);
        if let Some(path) = paths.find(|path| path.is_relative()) {
            return Err(Error::RelativePath { reference: path.display().to_string() });
        }
        let reference = request.reference.clone();
        match self.engine.schemes().parse(&reference) {
            Ok(parsed) if parsed.path().is_some_and(Path::is_relative) => Err(Error::RelativePath { reference }),
            // What is no reference at all is the engine's to tell.
            _ => Ok(()),
        }
    }

    /// Lets the keeper make a mount, and serves it. Returns its number and the descriptor that its client attaches.
    fn make_mount(&self, record: MountRecord, image: Arc<Image>) -> Result<(u64, OwnedFd), Error> {
        debug!(image = %image.digest(), "asks the keeper for a mount");
        let opened = self.hub.link.open(&record.open_options(), &record.to_bytes()?)?;
        debug!(mount = opened.id, image = %image.digest(), "serves the mount");
        let session = HeldDescriptor { role: ROLE_FUSE.to_owned(), fd: opened.session };
        if let Err(error) = self.serve(opened.id, session, record, image) {
            // The keeper lets go; the mount's only descriptor ends with this function.
            drop(self.hub.link.closed(opened.id));
            return Err(error);
        }
        Ok((opened.id, opened.mount))
    }

    /// Returns what reports of a mount.
    pub(super) fn reporter(&self, id: u64, record: &MountRecord) -> Arc<MountReporter> {
        let fill = MountFill::new(record.fill, self.fill_pause);
        MountReporter::new(Arc::clone(&self.hub), id, record.image, record.target.as_str().into(), fill)
    }

    fn serve(&self, id: u64, session: HeldDescriptor, record: MountRecord, image: Arc<Image>) -> Result<(), Error> {
        let reporter = self.reporter(id, &record);
        let observer = Arc::<MountReporter>::clone(&reporter);
        let served = self.driver(record.driver)?.mount(vec![session], image, observer)?;
        self.hub.log.event(reporter.event(EventKind::MountStarted));
        self.start_serving(MountEntry::new(record, served, reporter))
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

/// Returns the settings of the client of a request.
fn caller_settings(request: &MountRequest) -> Result<CallerSettings, Error> {
    let platform = request
        .platform
        .as_ref()
        .map(|text| parse_platform(text).ok_or_else(|| Error::Platform { platform: text.clone() }));
    let platforms = platform.transpose()?.into_iter().collect();
    Ok(CallerSettings { access: request.access.clone(), platforms, require_digest: request.require_digest })
}

/// Returns what a client is told of an opened image.
fn mounted_image(opened: &Opened, driver: DriverKind) -> MountedImage {
    let manifest = &opened.located.manifest;
    let blobs = manifest.packs.iter().chain([&manifest.meta]);
    MountedImage {
        digest: opened.located.digest,
        converted_from: opened.located.converted_from,
        // It was parsed as JSON, which is UTF-8.
        config: String::from_utf8_lossy(opened.image.config()).into_owned(),
        stored_bytes: blobs.fold(0, |sum: u64, blob| sum.saturating_add(blob.size)),
        driver,
        mount_micros: 0,
    }
}
