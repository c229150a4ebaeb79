//! What the server needs of a driver: the way an image is served to the kernel.
//!
//! A [`Driver`] is one way (FUSE), for all mounts of a server; a [`ServedMount`] is one mount of it. The server, its
//! table of mounts and its take-over know only these two traits. A driver needs two things of its server: an
//! [`ImageOpener`] and a [`MountObserver`].

use std::fmt;
use std::sync::Arc;

use dimsum_events::{DriverStats, Event, SessionStats};
use dimsum_store::Image;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::keeper::{HeldDescriptor, HeldMount};

/// The drivers by name, on the wire, in JSON and on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DriverKind {
    /// A FUSE file system; every request comes to the server.
    #[default]
    Fuse,
}

impl DriverKind {
    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fuse => "fuse",
        }
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Opens the image of a mount, and may wait for a source. The error is the reason in words.
pub type ImageOpener = Arc<dyn Fn() -> Result<Arc<Image>, String> + Send + Sync>;

/// Hears what happens to one mount. Called on threads of the driver and of the store, which it must not block.
pub trait MountObserver: Send + Sync {
    /// Takes what was agreed with the kernel and a successor must know, before the kernel learns of it. Whoever keeps the
    /// mount's descriptors must have it when this returns.
    fn agreed(&self, agreement: &[u8]);

    /// Takes note that the image is open: for a mount that was taken over, perhaps long after it is served.
    fn opened(&self, image: &Arc<Image>);

    /// Takes note that the image of a mount that was taken over still cannot be opened.
    fn broken(&self, reason: &str);

    /// Takes note that the kernel released the mount. Called once.
    fn released(&self);

    /// Takes note that a reader got `EIO`.
    fn failed(&self, event: Event);

    /// Returns the number of the mount, for records; 0 if it has none.
    fn mount(&self) -> u64 {
        0
    }
}

/// A way to serve images to the kernel.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Returns which it is.
    fn kind(&self) -> DriverKind;

    /// Makes a mount of an open image, on the descriptors that the keeper opened. Nothing is served before
    /// [`ServedMount::start`].
    ///
    /// # Errors
    /// [`Error::Tree`] if the image is no file system, or what the kernel says.
    fn mount(
        &self,
        descriptors: Vec<HeldDescriptor>,
        image: Arc<Image>,
        observer: Arc<dyn MountObserver>,
    ) -> Result<Arc<dyn ServedMount>, Error>;

    /// Takes over a mount. If its image cannot be opened now, readers get `EIO`, and it is tried again when somebody reads.
    ///
    /// # Errors
    /// If the descriptors are not those of a mount of this driver, or what the kernel says.
    fn adopt(
        &self,
        held: HeldMount,
        opener: ImageOpener,
        observer: Arc<dyn MountObserver>,
    ) -> Result<Arc<dyn ServedMount>, Error>;

    /// Returns how many threads answer the kernel, for all mounts of this driver.
    fn threads(&self) -> usize;
}

/// One mount of a driver.
pub trait ServedMount: fmt::Debug + Send + Sync {
    /// Begins to answer the kernel. The mount may be released before this returns.
    ///
    /// # Errors
    /// If it cannot be served; it never will then.
    fn start(&self) -> Result<(), Error>;

    /// Returns the image, if it is open.
    fn image(&self) -> Option<Arc<Image>>;

    /// Returns why every reader gets `EIO`, if so.
    fn broken(&self) -> Option<String>;

    /// Returns the figures of the connection with the kernel.
    fn session_stats(&self) -> SessionStats;

    /// Returns the figures of the driver.
    fn driver_stats(&self) -> DriverStats;
}
