//! Equal chunks of other devices: what is on this node already is not fetched.
//!
//! Devices are shared by their id, so images with a common pack have all of it in common. Packs may be built apart, of
//! another version of a base or of another program on it. Such packs have other ids and still many chunks with the same
//! digest. Such a chunk of another device is a *sibling*.
//!
//! ```text
//! miss, no frame of its own here ─→ index: digest → places ─→ a few bytes of a file: is something there? ─→ pool: read, hash
//!     right: to the readers, then into this device's own files ◀── is it the digest in *this* image's map? ──┘
//!     wrong, gone, no place: fetched as if there were no index ◀──────────────────────┘
//! ```
//!
//! **A hint.** A row is 8 bytes of a digest and a place. A chunk that is read there counts only if it has the digest
//! that the proven map of the image at hand names. Nothing of the other device is changed, whatever was found. A row
//! may lie: a forged map, a damaged file, a collision of prefixes, bytes that were evicted meanwhile. Such a row costs
//! a lookup and one request more. Wrong bytes are not reported: it may be the row that is wrong. The other device's own
//! readers find damage and heal it as before.
//!
//! **Which chunks.** All that the metas in `images/` name, here or not. Presence is looked at when it is asked for, since fills,
//! evictions and other processes change it all the time, and maps never change. Writing a chunk therefore costs nothing more, and a
//! warm read does not come here at all.
//!
//! **When metas are read.** At the first miss after an image was opened, in the background, newest images first, only
//! those not read before. A process that finds everything in its own devices reads none. Flights that miss meanwhile
//! wait for it, for at most [`SIBLING_HOLD`], a few round trips, in which some hundred metas are read. A fill waits to
//! the end. Reading all at the store's start would delay every start for images that nobody asks for. Reading none but
//! opened ones would miss chunks that other processes filled. The maps are read unproven, since rows are hints. An
//! image that was put here but never opened has no meta on this disk and is not looked at.
//!
//! **Bounds.** [`MAX_SIBLING_ROWS`], [`MAX_SIBLING_PLACES`], [`MAX_SIBLING_IMAGES`]; the newest images are kept. [`MAX_SIBLINGS`]
//! places are looked at for a chunk, so that forged maps cannot make a miss long.
//!
//! **Frames count too**: those in whole packs and in the sparse files beside them. Those of devices of which nothing
//! was ever decoded count (a fill decodes nothing). So do those of packs of the same device that other images name.
//!
//! **Bytes are written, not linked**: they are in memory anyway, since they were hashed. A reflink would save the disk space on file
//! systems that have it, for a second way of filling a device.
//!
//! There is one domain per store: how long a first read takes tells whether some image here has the chunk. Tenants that may not know
//! that of each other need stores of their own.

mod place;
mod scan;
mod table;

use std::sync::Arc;

use dimsum_format::{Blake3, DeviceId, Digest};
use dimsum_source::Runtime;
use parking_lot::{Mutex, RwLock};

use crate::disk::layout::Layout;
use crate::limits::{MAX_SIBLING_PLACES, MAX_SIBLING_ROWS, MAX_SIBLINGS};
pub(crate) use place::Sibling;
use scan::SiblingScan;
use table::SiblingTable;

#[cfg(doc)]
use crate::limits::{MAX_SIBLING_IMAGES, SIBLING_HOLD};

/// Called once what the store's images name is known.
pub(crate) type KnownWaiter = Box<dyn FnOnce() + Send>;

/// How long a waiter waits for metas that are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// For [`SIBLING_HOLD`] at most.
    Short,
    /// To the end.
    Long,
}

/// The index, and the state of reading what goes into it.
#[derive(Debug)]
pub(crate) struct Siblings {
    layout: Layout,
    table: RwLock<SiblingTable>,
    scan: Mutex<SiblingScan>,
}

impl Siblings {
    pub(crate) fn new(layout: &Layout) -> Self {
        let table = RwLock::new(SiblingTable::new(MAX_SIBLING_ROWS, MAX_SIBLING_PLACES));
        Self { layout: layout.clone(), table, scan: Mutex::default() }
    }

    /// An image was opened: the next miss looks for metas again.
    pub(crate) fn expect_more(&self) {
        self.scan.lock().is_due = true;
    }

    /// Calls `waiter` when the metas in the store are in the index: at once if they are, on this thread.
    pub(crate) fn when_known(self: &Arc<Self>, runtime: &Runtime, hold: Hold, waiter: KnownWaiter) {
        let mut scan = self.scan.lock();
        let is_first = scan.is_due && !scan.is_running;
        if !is_first && !scan.is_running {
            drop(scan);
            return waiter();
        }
        let refused = scan.wait(hold, waiter);
        if is_first {
            scan.is_due = false;
            scan.is_running = true;
        }
        drop(scan);
        if is_first {
            let work = scan::ScanWork::new(self);
            drop(runtime.handle().spawn_blocking(move || work.run()));
        }
        if let Some(waiter) = refused {
            waiter();
        }
    }

    /// Where chunks may lie that have a digest, but for the pack `own` of a device. From memory.
    pub(crate) fn of(&self, digest: Blake3, own: Option<(DeviceId, Digest)>) -> Vec<Sibling> {
        let table = self.table.read();
        let others = table.find(digest).filter(|sibling| own != Some(sibling.place.name()));
        others.take(MAX_SIBLINGS).collect()
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }
}
