//! What all images of a store may hold together, and the accounts of it.
//!
//! A limit is kept in one of three ways. Somebody who wants more *waits* (reads, requests, fills, openings) or is
//! *refused* (maps of one more image). Or somebody *forgets* things that can be read again (caches, descriptors).
//! Decoded bytes need no account of their own: a chunk is decoded, given out and written within one job. So as many
//! chunks are in memory as there are decoding threads. The bytes that readers keep of them are charged to their reads.

mod maps;
mod openings;
mod pot;
mod reads;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub(crate) use maps::{MapsAccount, OpenMaps};
pub(crate) use openings::{OpeningPermit, OpeningRoom};
pub(crate) use pot::{PotMember, SharedPot};
pub(crate) use reads::ReadRoom;

use crate::limits::{
    MAX_CACHED_META, MAX_DEVICE_FILES, MAX_FILL_REQUESTS, MAX_GUEST_BYTES, MAX_OPEN_MAPS, MAX_OPENINGS,
    MAX_PARKED_BYTES, MAX_PROVEN_BYTES, MAX_REQUESTS,
};
use crate::pool::DecodePool;

/// Limits of what all images of a store hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreBudget {
    /// Bytes of reads that wait for chunks. See [`MAX_PARKED_BYTES`].
    pub parked_bytes: u64,
    /// Requests of readers to sources. See [`MAX_REQUESTS`].
    pub requests: usize,
    /// Requests of fills to sources. See [`MAX_FILL_REQUESTS`].
    pub fill_requests: usize,
    /// Images whose metas are fetched to open them. See [`MAX_OPENINGS`].
    pub openings: usize,
    /// Bytes of device and frame maps. See [`MAX_OPEN_MAPS`].
    pub maps: u64,
    /// Bytes of proven groups of metas. See [`MAX_CACHED_META`].
    pub cached_meta: u64,
    /// Bytes of proven chaining values of devices. See [`MAX_PROVEN_BYTES`].
    pub proven_values: u64,
    /// Open files of devices. See [`MAX_DEVICE_FILES`].
    pub device_files: u64,
    /// Bytes of chunks that a store keeps in memory while another process writes its files. See [`MAX_GUEST_BYTES`].
    pub guest_bytes: u64,
}

impl Default for StoreBudget {
    fn default() -> Self {
        Self {
            parked_bytes: MAX_PARKED_BYTES,
            requests: MAX_REQUESTS,
            fill_requests: MAX_FILL_REQUESTS,
            openings: MAX_OPENINGS,
            maps: MAX_OPEN_MAPS,
            cached_meta: MAX_CACHED_META,
            proven_values: MAX_PROVEN_BYTES,
            device_files: MAX_DEVICE_FILES,
            guest_bytes: MAX_GUEST_BYTES,
        }
    }
}

/// What all images of a store hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreUse {
    /// Bytes charged to reads that wait for chunks.
    pub parked_bytes: u64,
    /// The most that was charged at once.
    pub most_parked_bytes: u64,
    /// Reads that wait for room.
    pub queued_reads: usize,
    /// Requests of readers under way.
    pub requests: usize,
    /// Flights under way.
    pub flights: usize,
    /// Images whose metas are fetched to open them.
    pub openings: u64,
    /// Openings that wait for their turn.
    pub queued_openings: usize,
    /// Bytes charged for maps.
    pub maps: u64,
    /// Bytes of proven groups of metas in memory.
    pub cached_meta: u64,
    /// Bytes of proven chaining values in memory.
    pub proven_values: u64,
    /// Open files of devices.
    pub device_files: u64,
    /// Bytes of chunks kept in memory instead of in files.
    pub guest_bytes: u64,
}

/// Half of the descriptors that this process may have open: the rest is for sources, mounts and whatever else it does.
fn half_of_descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(u64::MAX, |limit| limit / 2)
}

/// The accounts.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub(crate) reads: Arc<ReadRoom>,
    pub(crate) fills: Arc<Semaphore>,
    pub(crate) openings: Arc<OpeningRoom>,
    pub(crate) maps: Arc<MapsAccount>,
    pub(crate) cached_meta: Arc<SharedPot>,
    pub(crate) proven_values: Arc<SharedPot>,
    pub(crate) device_files: Arc<SharedPot>,
    pub(crate) guest_bytes: Arc<SharedPot>,
}

impl Budgets {
    pub(crate) fn new(limits: StoreBudget, pool: &Arc<DecodePool>) -> Self {
        Self {
            reads: Arc::new(ReadRoom::new(limits.parked_bytes, pool)),
            fills: Arc::new(Semaphore::new(limits.fill_requests.clamp(1, Semaphore::MAX_PERMITS))),
            openings: OpeningRoom::new(limits.openings),
            maps: Arc::new(MapsAccount::new(limits.maps)),
            cached_meta: SharedPot::new(limits.cached_meta),
            proven_values: SharedPot::new(limits.proven_values),
            device_files: SharedPot::new(limits.device_files.min(half_of_descriptors())),
            guest_bytes: SharedPot::new(limits.guest_bytes),
        }
    }

    /// What is held now, but for flights and requests, which the core counts.
    pub(crate) fn usage(&self) -> StoreUse {
        let (parked_bytes, most_parked_bytes, queued_reads) = self.reads.usage();
        let (openings, queued_openings) = self.openings.usage();
        StoreUse {
            parked_bytes,
            most_parked_bytes,
            queued_reads,
            openings,
            queued_openings,
            maps: self.maps.used(),
            cached_meta: self.cached_meta.used(),
            proven_values: self.proven_values.used(),
            device_files: self.device_files.used(),
            guest_bytes: self.guest_bytes.used(),
            ..StoreUse::default()
        }
    }
}
