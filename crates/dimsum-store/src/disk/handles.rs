//! The open files of a device. They are opened when they are read first, and closed when too many are open.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use dimsum_format::DeviceId;
use parking_lot::{Mutex, RwLock};

use crate::budget::{PotMember, SharedPot};
use crate::disk::device::{DATA, STATE, WriteFailure};
use crate::disk::layout;
use crate::disk::values::state_header;
use crate::role::RoleFlag;

/// Descriptors of one device.
const FILES: u64 = 2;

/// Both files of a device, open.
#[derive(Debug)]
pub(crate) struct OpenDevice {
    pub(crate) data: File,
    pub(crate) state: File,
}

/// The files of a device, open or not.
#[derive(Debug)]
pub(crate) struct DeviceHandles {
    directory: PathBuf,
    id: DeviceId,
    role: Arc<RoleFlag>,
    open: RwLock<Option<OpenDevice>>,
    /// Whether somebody has used them since they were last looked at for closing.
    is_used: AtomicBool,
    /// Held while the files are made.
    making: Mutex<()>,
    pot: Arc<SharedPot>,
}

impl DeviceHandles {
    pub(crate) fn new(directory: PathBuf, id: DeviceId, pot: &Arc<SharedPot>, role: &Arc<RoleFlag>) -> Arc<Self> {
        let (open, is_used, making) = (RwLock::new(None), AtomicBool::new(false), Mutex::new(()));
        let (role, shared) = (Arc::clone(role), Arc::clone(pot));
        let handles = Arc::new(Self { directory, id, role, open, is_used, making, pot: shared });
        pot.join(Arc::downgrade(&handles) as Weak<dyn PotMember>);
        handles
    }

    /// Uses the files, if they are there and usable.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&OpenDevice) -> T) -> Option<T> {
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        if let Some(files) = &*self.open.read() {
            return Some(work(files));
        }
        let files = self.existing()?;
        let done = work(&files);
        self.keep(files);
        Some(done)
    }

    /// Uses the files, made if they are not there.
    pub(crate) fn made<T>(&self, work: impl Fn(&OpenDevice) -> Result<T, WriteFailure>) -> Result<T, WriteFailure> {
        if let Some(done) = self.with(&work) {
            return done;
        }
        let making = self.making.lock();
        layout::make_directory(&self.directory).map_err(|error| (self.directory.clone(), error))?;
        let open = |name| {
            let path = self.directory.join(name);
            layout::open_or_create(&path).map_err(|error| (path, error))
        };
        let files = OpenDevice { data: open(DATA)?, state: open(STATE)? };
        let written = files.state.write_all_at(&state_header(self.id), 0);
        written.map_err(|error| (self.directory.join(STATE), error))?;
        let done = work(&files);
        self.keep(files);
        drop(making);
        done
    }

    /// Opens the files, if they are there.
    fn existing(&self) -> Option<OpenDevice> {
        // A guest may not write, and one that becomes the owner needs to.
        let open = |name| layout::open_regular(&self.directory.join(name), true).ok().flatten();
        let files = OpenDevice { data: open(DATA)?, state: open(STATE)? };
        let header = state_header(self.id);
        if self.role.is_owner() && layout::read_at(&files.state, header.len(), 0).is_ok_and(|found| found != header) {
            // Damaged or cut off. Nothing depends on it; if it cannot be written `check` goes on to say so.
            drop(files.state.write_all_at(&header, 0));
        }
        Some(files)
    }

    fn keep(&self, files: OpenDevice) {
        let before = self.open.write().replace(files);
        if before.is_none() {
            self.pot.add(FILES);
        }
    }
}

impl PotMember for DeviceHandles {
    /// Those that were not used since the last look go first.
    fn weight(&self) -> u64 {
        let is_used = self.is_used.swap(false, Ordering::Relaxed);
        let is_open = self.open.try_read().is_some_and(|open| open.is_some());
        u64::from(is_open) * if is_used { 1 } else { 2 }
    }

    fn give_up(&self) {
        // Files that are being read stay.
        let closed = self.open.try_write().and_then(|mut open| open.take());
        if closed.is_some() {
            self.pot.sub(FILES);
        }
    }
}

impl Drop for DeviceHandles {
    fn drop(&mut self) {
        if self.open.get_mut().is_some() {
            self.pot.sub(FILES);
        }
    }
}
