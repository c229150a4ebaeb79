//! An image mounted by this process, without a server: the driver and its threads live here.
//!
//! ```text
//!   Opened ─→ detached FUSE mount ─→ driver answers ─→ attached to the directory ─→ ImageMount, which takes it away
//! ```
//!
//! The mount ends with its handle, or with the process. A mount that must outlive both is the server's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dimsum_events::Event;
use dimsum_fuse::mount::{MountOptions, attach, detach, open_detached};
use dimsum_mount::fuse::FuseDriver;
use dimsum_mount::keeper::{HeldDescriptor, ROLE_FUSE};
use dimsum_mount::{Driver as _, MountObserver, ServedMount};
use dimsum_store::Image;

use crate::image::Opened;
use crate::{Engine, EngineError};

/// A mounted image. Dropped, it leaves the directory at once; whoever still has a file of it open gets errors.
#[derive(Debug)]
pub struct ImageMount {
    directory: PathBuf,
    // Dropped behind the mount: it answers until nothing is mounted.
    _served: Arc<dyn ServedMount>,
    _driver: Arc<FuseDriver>,
}

/// A mount without a place. Dropped, it ends as soon as nobody has attached it.
#[derive(Debug)]
pub(crate) struct DetachedImage {
    mount: OwnedFd,
    // Dropped behind the mount: it answers until nothing is mounted.
    served: Arc<dyn ServedMount>,
    driver: Arc<FuseDriver>,
}

impl AsFd for DetachedImage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

impl Engine {
    /// Mounts an image on a directory of this process's mount namespace, read-only. Needs the right to mount
    /// (`CAP_SYS_ADMIN`). What is read is fetched and verified, nothing else.
    ///
    /// # Errors
    /// [`EngineError::Mount`] if the directory is not there, this user may not mount, or the image is no file system.
    pub fn mount(&self, opened: &Opened, directory: &Path) -> Result<ImageMount, EngineError> {
        let DetachedImage { mount, served, driver } = self.mount_detached(opened, directory)?;
        attach(&mount, directory).map_err(|error| failed(directory, error.into()))?;
        Ok(ImageMount { directory: directory.to_owned(), _served: served, _driver: driver })
    }

    /// Mounts an image without a place. `directory` names the place in errors.
    pub(crate) fn mount_detached(&self, opened: &Opened, directory: &Path) -> Result<DetachedImage, EngineError> {
        let failed = |source| failed(directory, source);
        let driver = self.driver().map_err(failed)?;
        let detached =
            open_detached(&MountOptions::new(opened.located.name())).map_err(|error| failed(error.into()))?;
        let session = HeldDescriptor { role: ROLE_FUSE.to_owned(), fd: detached.session };
        let observer = Arc::new(QuietObserver);
        let served = driver.mount(vec![session], Arc::clone(&opened.image), observer).map_err(failed)?;
        served.start().map_err(failed)?;
        Ok(DetachedImage { mount: detached.mount, served, driver })
    }
}

fn failed(directory: &Path, source: dimsum_mount::Error) -> EngineError {
    EngineError::Mount { directory: directory.to_owned(), source: Box::new(source) }
}

impl ImageMount {
    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for ImageMount {
    fn drop(&mut self) {
        // Somebody else may have taken it away already.
        drop(detach(&self.directory, true));
    }
}

/// The store's events say what fails; a mount of this process has no more to tell.
#[derive(Debug)]
struct QuietObserver;

impl MountObserver for QuietObserver {
    fn agreed(&self, _agreement: &[u8]) {}

    fn opened(&self, _image: &Arc<Image>) {}

    fn broken(&self, _reason: &str) {}

    fn released(&self) {}

    fn failed(&self, _event: Event) {}
}
