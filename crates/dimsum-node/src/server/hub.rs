//! What a mount may hold on to: ways to tell the keeper, the log and the main thread.
//!
//! Kept apart from the server, because callbacks of a mount come on threads of a driver and of the store, which the
//! server owns. The last one to hold the server must not be one of its own threads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dimsum_events::{Event, EventKind, EventSink, LogHandle};
use dimsum_format::Digest;
use dimsum_mount::MountObserver;
use dimsum_mount::keeper::Link;
use dimsum_store::Image;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use super::fill::MountFill;
use crate::Error;
use crate::error::with_causes;

pub(super) struct ServerHub {
    pub(super) link: Link,
    pub(super) log: LogHandle,
    /// Mounts that the kernel released and the main thread has not seen yet.
    released: Mutex<Vec<u64>>,
    wake: OwnedFd,
}

impl ServerHub {
    pub(super) fn new(link: Link, log: LogHandle) -> Result<Self, Error> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(Error::system("make an event descriptor"))?;
        Ok(Self { link, log, released: Mutex::new(Vec::new()), wake })
    }

    pub(super) fn take_released(&self) -> Vec<u64> {
        std::mem::take(&mut *self.released.lock())
    }

    /// Makes the main thread look at the tables.
    pub(super) fn wake(&self) {
        // It can only fail if the counter is full: then it is awake.
        drop(rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).map_err(std::io::Error::from));
    }

    /// Takes note that the main thread is awake.
    pub(super) fn silence(&self) {
        drop(rustix::io::read(&self.wake, &mut [0; 8]).map_err(std::io::Error::from));
    }
}

/// Readable when the main thread is to look at the tables.
impl AsFd for ServerHub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Reports what happens to one mount.
pub(super) struct MountReporter {
    pub(super) hub: Arc<ServerHub>,
    pub(super) id: u64,
    pub(super) image: Digest,
    /// Directory that the mount was made for.
    pub(super) target: Arc<str>,
    pub(super) fill: MountFill,
    /// Its image could not be opened the last time.
    is_broken: AtomicBool,
}

impl MountReporter {
    pub(super) fn new(hub: Arc<ServerHub>, id: u64, image: Digest, target: Arc<str>, fill: MountFill) -> Arc<Self> {
        Arc::new(Self { hub, id, image, target, fill, is_broken: AtomicBool::new(false) })
    }

    pub(super) fn event(&self, kind: EventKind) -> Event {
        Event::new(kind).image(self.image).mount(self.id, &*self.target)
    }
}

impl MountObserver for MountReporter {
    fn agreed(&self, agreement: &[u8]) {
        if let Err(error) = self.hub.link.negotiated(self.id, agreement) {
            self.hub.log.line(format_args!("mount {}: {}", self.id, with_causes(&error)));
        }
    }

    fn opened(&self, image: &Arc<Image>) {
        self.fill.opened(image);
        if self.is_broken.swap(false, Ordering::AcqRel) {
            self.hub.log.event(self.event(EventKind::MountReopened));
        }
        self.hub.wake();
    }

    fn broken(&self, reason: &str) {
        self.is_broken.store(true, Ordering::Release);
        self.fill.broken(reason);
        self.hub.log.event(self.event(EventKind::MountBroken).reason(reason));
    }

    fn released(&self) {
        self.hub.released.lock().push(self.id);
        self.hub.wake();
    }

    fn failed(&self, event: Event) {
        self.hub.log.event(event.mount(self.id, &*self.target));
    }

    fn mount(&self) -> u64 {
        self.id
    }
}
