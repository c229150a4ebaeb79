//! Reading the metas in `images/` into the index, in the background.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use dimsum_format::Digest;
use dimsum_format::limits::MAX_MANIFEST_BYTES;
use dimsum_format::manifest::{Blob, DimsumManifest, Manifest};
use dimsum_format::meta::{MappedDevice, MetaFooter, MetaMaps};
use dimsum_format::pack::META_FOOTER_BYTES;

use super::place::SiblingPlace;
use super::{Hold, KnownWaiter, Siblings};
use crate::disk::frames::map_name;
use crate::disk::layout::MANIFEST_FILE;
use crate::disk::layout::{self, IMAGES};
use crate::disk::meta_file::META_FILE;
use crate::limits::{MAX_SIBLING_IMAGES, MAX_SIBLING_ROWS, SIBLING_HOLD};

/// Chunks that are added before readers may look at the index again.
const ROWS_AT_ONCE: u32 = 4096;

/// How far reading is.
#[derive(Default)]
pub(super) struct SiblingScan {
    /// There may be metas that were not read.
    pub(super) is_due: bool,
    pub(super) is_running: bool,
    /// Those of little hold have waited long enough.
    hold_is_over: bool,
    /// Images that were looked at, with room for them or not.
    seen: HashSet<Digest>,
    little: Vec<KnownWaiter>,
    whole: Vec<KnownWaiter>,
}

impl std::fmt::Debug for SiblingScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiblingScan").field("is_running", &self.is_running).field("seen", &self.seen.len()).finish()
    }
}

impl SiblingScan {
    /// Takes a waiter, or gives him back if he has no hold left.
    pub(super) fn wait(&mut self, hold: Hold, waiter: KnownWaiter) -> Option<KnownWaiter> {
        match hold {
            Hold::Short if self.hold_is_over => return Some(waiter),
            Hold::Short => self.little.push(waiter),
            Hold::Long => self.whole.push(waiter),
        }
        None
    }
}

/// One look at `images/`. Whatever happens to it, dropping it lets everybody go on.
pub(super) struct ScanWork {
    /// Waiters hold the store; without them and without the store nobody wants the end of this.
    siblings: Weak<Siblings>,
    begun: Instant,
}

impl ScanWork {
    pub(super) fn new(siblings: &Arc<Siblings>) -> Self {
        Self { siblings: Arc::downgrade(siblings), begun: Instant::now() }
    }

    pub(super) fn run(self) {
        let Some(new) = self.siblings.upgrade().map(|siblings| siblings.new_images()) else { return };
        for image in new {
            let Some(siblings) = self.siblings.upgrade() else { return };
            siblings.read_image(image);
            if self.begun.elapsed() >= SIBLING_HOLD {
                siblings.release(Hold::Short);
            }
        }
    }
}

impl Drop for ScanWork {
    fn drop(&mut self) {
        if let Some(siblings) = self.siblings.upgrade() {
            siblings.release(Hold::Long);
        }
    }
}

impl Siblings {
    /// Calls waiters: those of little hold, or all at the end.
    fn release(&self, which: Hold) {
        let mut scan = self.scan.lock();
        let mut waiters = std::mem::take(&mut scan.little);
        scan.hold_is_over = which == Hold::Short;
        if which == Hold::Long {
            waiters.append(&mut scan.whole);
            scan.is_running = false;
        }
        drop(scan);
        waiters.into_iter().for_each(|waiter| waiter());
    }

    /// Lists the images that were not looked at, newest first. If there are some and no room, the index starts anew with the newest.
    fn new_images(&self) -> Vec<Digest> {
        let mut images = self.images();
        if !images.is_empty() && self.table.read().is_full() {
            self.start_anew();
            images = self.images();
        }
        images.sort_unstable_by(|a, b| b.cmp(a));
        images.into_iter().map(|(_, digest)| digest).collect()
    }

    fn start_anew(&self) {
        let mut table = self.table.write();
        let empty = table.empty();
        let old = std::mem::replace(&mut *table, empty);
        drop(table);
        // A million rows: not while readers wait for the lock.
        drop(old);
        self.scan.lock().seen.clear();
    }

    /// Returns the images that were not looked at, with the time of their metas. One without a meta is looked for again the next time.
    fn images(&self) -> Vec<(SystemTime, Digest)> {
        let Ok(list) = fs::read_dir(self.layout.directory(IMAGES)) else { return Vec::new() };
        let names = list.flatten().take(MAX_SIBLING_IMAGES).filter_map(|entry| entry.file_name().into_string().ok());
        let mut digests: Vec<Digest> = names.filter_map(|name| Digest::from_hex(&name).ok()).collect();
        let scan = self.scan.lock();
        digests.retain(|digest| !scan.seen.contains(digest));
        drop(scan);
        let written = |image: &Path| fs::symlink_metadata(image.join(META_FILE)).and_then(|meta| meta.modified()).ok();
        digests.into_iter().filter_map(|digest| Some((written(&self.layout.image(digest))?, digest))).collect()
    }

    /// Adds what an image names, as far as there is room.
    fn read_image(&self, image: Digest) {
        self.scan.lock().seen.insert(image);
        if self.table.read().is_full() {
            return;
        }
        let Some((packs, maps)) = read_maps(&self.layout.image(image)) else { return };
        for (blob, device) in packs.into_iter().zip(&maps.devices) {
            self.add(blob, device);
        }
    }

    fn add(&self, blob: Blob, device: &MappedDevice) {
        let place = SiblingPlace { device: device.id, blob, map: map_name(device.id, &device.frames) };
        let Some(place) = self.table.write().add_place(place) else { return };
        let chunks = u32::try_from(device.map.chunks()).unwrap_or(u32::MAX);
        for first in (0..chunks).step_by(ROWS_AT_ONCE as usize) {
            let mut table = self.table.write();
            let last = first.saturating_add(ROWS_AT_ONCE).min(chunks);
            (first..last).for_each(|chunk| table.add_chunk(place, device, chunk));
        }
    }
}

/// Reads the packs and the maps of an image as they stand on the disk, unproven.
fn read_maps(directory: &Path) -> Option<(Vec<Blob>, MetaMaps)> {
    let manifest = layout::read_small(&directory.join(MANIFEST_FILE), MAX_MANIFEST_BYTES).ok()??;
    let manifest = Manifest::parse(&manifest).and_then(|manifest| DimsumManifest::new(&manifest)).ok()?;
    let meta = layout::open_regular(&directory.join(META_FILE), false).ok()??;
    let length = meta.metadata().ok()?.len();
    let footer = layout::read_at(&meta, META_FOOTER_BYTES, length.checked_sub(META_FOOTER_BYTES as u64)?).ok()?;
    let footer = MetaFooter::parse(&footer, length).ok()?;
    if footer.chunks > MAX_SIBLING_ROWS as u64 {
        return None;
    }
    let range = footer.maps_range();
    let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
    let maps = layout::read_at(&meta, length, range.start).ok()?;
    Some((manifest.packs, MetaMaps::parse(&footer, &maps).ok()?))
}
