//! Images as FUSE file systems.
//!
//! - [`filesystem`]: the tree of one image, answered without state;
//! - [`reopening`]: the same for a mount that was taken over and whose image cannot be opened yet;
//! - [`FuseDriver`]: the driver, one pool of threads for all mounts.

mod filesystem;
mod gate;
mod reopening;
#[cfg(test)]
mod tests;
mod trace;
mod tree;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use dimsum_events::{DriverStats, SessionStats};
use dimsum_fuse::{Filesystem, InitReply, Pool, Session};
use dimsum_store::Image;

use crate::Error;
use crate::driver::{Driver, DriverKind, ImageOpener, MountObserver, ServedMount};
use crate::keeper::{HeldDescriptor, HeldMount, ROLE_FUSE};
use filesystem::{ImageFilesystem, SESSION_OPTIONS};
use reopening::ReopeningFilesystem;

pub use filesystem::NoTree;

/// How long an image that could not be opened is left alone: its source may be asked by hundreds of readers.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The FUSE driver of a server.
#[derive(Debug)]
pub struct FuseDriver {
    pool: Arc<Pool>,
    retry_after: Duration,
}

impl FuseDriver {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Fuse`] if the kernel refuses.
    pub fn start() -> Result<Self, Error> {
        Ok(Self { pool: Arc::new(Pool::new()?), retry_after: RETRY_AFTER })
    }

    /// Tries an image that could not be opened again after this time instead of [`RETRY_AFTER`].
    #[must_use]
    pub const fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = time;
        self
    }

    fn served(&self, session: Session, serving: Serving) -> Arc<dyn ServedMount> {
        Arc::new(FuseMount { pool: Arc::clone(&self.pool), session, serving })
    }
}

impl Driver for FuseDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Fuse
    }

    fn mount(
        &self,
        descriptors: Vec<HeldDescriptor>,
        image: Arc<Image>,
        observer: Arc<dyn MountObserver>,
    ) -> Result<Arc<dyn ServedMount>, Error> {
        let fd = session_of(descriptors)?;
        let filesystem = Arc::new(ImageFilesystem::new(image, Arc::clone(&observer)).map_err(Box::new)?);
        observer.opened(filesystem.image());
        let session = Session::new(fd, SESSION_OPTIONS, Arc::<ImageFilesystem>::clone(&filesystem));
        Ok(self.served(session, Serving::Image(filesystem)))
    }

    fn adopt(
        &self,
        held: HeldMount,
        opener: ImageOpener,
        observer: Arc<dyn MountObserver>,
    ) -> Result<Arc<dyn ServedMount>, Error> {
        let fd = session_of(held.descriptors)?;
        // An agreement that is not one is as good as none: adopting finds out by the first request.
        let negotiated = InitReply::from_bytes(&held.agreement).ok();
        let opened = reopening::open(&opener, &observer);
        let (filesystem, serving): (Arc<dyn Filesystem>, Serving) = match opened {
            Ok(filesystem) => (Arc::<ImageFilesystem>::clone(&filesystem), Serving::Image(filesystem)),
            Err(reason) => {
                let waiting = ReopeningFilesystem::new(opener, observer, reason, self.retry_after);
                (Arc::<ReopeningFilesystem>::clone(&waiting), Serving::Reopening(waiting))
            }
        };
        let again = fd.try_clone().map_err(Error::system("duplicate a session"))?;
        let adopted = Session::adopt(fd, negotiated, SESSION_OPTIONS, Arc::clone(&filesystem));
        let session = match (adopted, negotiated) {
            // Before Linux 6.9: requests in flight stay unanswered until their readers are killed.
            (Err(dimsum_fuse::Error::NoResend), Some(negotiated)) => {
                Session::adopt_without_resend(again, negotiated, SESSION_OPTIONS, filesystem)?
            }
            (adopted, _) => adopted?,
        };
        Ok(self.served(session, serving))
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }
}

/// Returns the descriptor of the session.
fn session_of(descriptors: Vec<HeldDescriptor>) -> Result<OwnedFd, Error> {
    let session = descriptors.into_iter().find(|held| held.role == ROLE_FUSE);
    session.map(|held| held.fd).ok_or(Error::Message { reason: "a FUSE mount without its session" })
}

/// A mount of the driver.
#[derive(Debug)]
struct FuseMount {
    pool: Arc<Pool>,
    session: Session,
    serving: Serving,
}

#[derive(Debug)]
enum Serving {
    Image(Arc<ImageFilesystem>),
    Reopening(Arc<ReopeningFilesystem>),
}

impl FuseMount {
    fn filesystem(&self) -> Option<&Arc<ImageFilesystem>> {
        match &self.serving {
            Serving::Image(filesystem) => Some(filesystem),
            Serving::Reopening(waiting) => waiting.opened(),
        }
    }
}

impl ServedMount for FuseMount {
    fn start(&self) -> Result<(), Error> {
        Ok(self.pool.serve(&self.session)?)
    }

    fn image(&self) -> Option<Arc<Image>> {
        self.filesystem().map(|filesystem| Arc::clone(filesystem.image()))
    }

    fn broken(&self) -> Option<String> {
        match &self.serving {
            Serving::Image(_) => None,
            Serving::Reopening(waiting) => waiting.reason(),
        }
    }

    fn session_stats(&self) -> SessionStats {
        self.session.counters()
    }

    fn driver_stats(&self) -> DriverStats {
        self.filesystem().map(|filesystem| filesystem.stats()).unwrap_or_default()
    }
}
