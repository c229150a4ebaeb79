//! A device on disk: sparse decoded data and the chaining values that prove it.
//!
//! `data` has the device's bytes at their places; `state` a header and, for each chunk, one chaining value per 16 KiB group. Neither
//! is trusted: values of a chunk count once they recombine to its digest from the proven map, and every `pread` of data is hashed.
//! Only proven values are remembered. Nothing is synced: after a power loss something is missing or wrong, which is a miss.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dimsum_format::group::{self, ChainingValue, GROUP_U64, Groups};
use dimsum_format::map::DeviceMap;
use dimsum_format::{BLOCK_U64, Blake3, DeviceId};

use crate::budget::{Budgets, OpenMaps, PotMember as _};
use crate::core::LaneId;
use crate::disk::guest::GuestChunks;
use crate::disk::handles::DeviceHandles;
use crate::disk::layout;
use crate::disk::proven::ProvenValues;
use crate::disk::values::{StoredValues, state_slot, stored_values};
use crate::error::FailureReason;
use crate::role::RoleFlag;
use crate::stats::{Counters, add};

/// Name of the file with decoded bytes.
pub(crate) const DATA: &str = "data";
/// Name of the file with chaining values.
pub(crate) const STATE: &str = "state";
/// A device of the store, shared by all images of this process that name it by its id.
#[derive(Debug)]
pub(crate) struct DeviceFiles {
    id: DeviceId,
    /// Its chunks on their way.
    lane: LaneId,
    /// Holds the map; the id proves that every image with this device has the same one.
    maps: Arc<OpenMaps>,
    index: usize,
    directory: PathBuf,
    files: Arc<DeviceHandles>,
    proven: Arc<ProvenValues>,
    /// Chunks in memory, of a guest.
    guest: Arc<GuestChunks>,
    role: Arc<RoleFlag>,
    fills: AtomicU64,
}

/// Chaining values of a chunk that were combined to its digest.
pub(crate) struct ChunkProof {
    /// For verifying.
    pub(crate) groups: Arc<Groups>,
    /// For the state file.
    pub(crate) values: Vec<ChainingValue>,
}

/// A file that could not be written, and why.
pub(crate) type WriteFailure = (PathBuf, io::Error);

/// A part of a local read.
pub(crate) enum DevicePiece {
    /// Verified bytes.
    Good(Bytes),
    /// To be fetched.
    Miss {
        /// The chunk.
        chunk: u32,
        /// The bytes wanted, in the chunk.
        range: Range<u64>,
        /// Whether wrong bytes stand in its place.
        damaged: bool,
    },
}

/// A part of a read for which chaining values are proven.
struct Covered {
    chunk: u32,
    /// Where the chunk starts in the device.
    start: u64,
    /// Bytes wanted, in the device.
    wanted: Range<u64>,
    groups: Arc<Groups>,
}

impl Covered {
    /// Groups that cover the bytes wanted.
    fn numbers(&self) -> Range<u64> {
        let first = (self.wanted.start - self.start) / GROUP_U64;
        first..(self.wanted.end - self.start).div_ceil(GROUP_U64)
    }

    /// These groups as a range of the device.
    fn bytes(&self) -> Range<u64> {
        let numbers = self.numbers();
        let end = self.groups.range(numbers.end.saturating_sub(1)).end;
        self.start + numbers.start * GROUP_U64..self.start + end
    }
}

impl DeviceFiles {
    /// Device `index` of an image. Files are opened at the first read and made at the first fill.
    pub(crate) fn new(
        id: DeviceId,
        lane: LaneId,
        (maps, index): (Arc<OpenMaps>, usize),
        directory: PathBuf,
        (budgets, role): (&Budgets, &Arc<RoleFlag>),
    ) -> Self {
        let files = DeviceHandles::new(directory.clone(), id, &budgets.device_files, role);
        let (proven, guest) = (ProvenValues::new(&budgets.proven_values), GuestChunks::new(&budgets.guest_bytes));
        let (role, fills) = (Arc::clone(role), AtomicU64::new(0));
        Self { id, lane, maps, index, directory, files, proven, guest, role, fills }
    }

    /// Forgets what it read while another process wrote the files.
    pub(crate) fn forget(&self) {
        self.proven.give_up();
        self.guest.give_up();
    }

    pub(crate) const fn id(&self) -> DeviceId {
        self.id
    }

    pub(crate) const fn lane(&self) -> LaneId {
        self.lane
    }

    pub(crate) fn map(&self) -> &DeviceMap {
        &self.maps.devices.get(self.index).expect("made with an index of these maps").map
    }

    /// Grows when a chunk gets into the files: a reader that missed it before looks again instead of fetching it.
    pub(crate) fn fills(&self) -> u64 {
        self.fills.load(Ordering::Acquire)
    }

    /// Reads what is here and right of `range` (bytes of the device), in order.
    pub(crate) fn read(&self, range: &Range<u64>, counters: &Counters) -> Vec<DevicePiece> {
        // Before anything is read: what an owner wrote meanwhile is no damage.
        let is_owner = self.role.is_owner();
        let mut pieces = Vec::with_capacity(1);
        let mut run: Vec<Covered> = Vec::new();
        let mut at = range.start;
        let mut next = u32::try_from(at / BLOCK_U64).ok().and_then(|block| self.map().chunk_of_block(block));
        while at < range.end
            && let Some(chunk) = next
            && let Some(bytes) = self.map().chunk_bytes(chunk)
        {
            let wanted = at..bytes.end.min(range.end);
            at = wanted.end;
            next = chunk.checked_add(1);
            match self.known(chunk) {
                StoredValues::Proven(groups) => run.push(Covered { chunk, start: bytes.start, wanted, groups }),
                other => {
                    self.read_run(&mut run, &mut pieces, is_owner, counters);
                    let damaged = is_owner && matches!(other, StoredValues::Damaged);
                    let range = wanted.start - bytes.start..wanted.end - bytes.start;
                    pieces.push(match self.guest.get(chunk, &range) {
                        Some(bytes) => DevicePiece::Good(bytes),
                        None => DevicePiece::Miss { chunk, range, damaged },
                    });
                }
            }
        }
        self.read_run(&mut run, &mut pieces, is_owner, counters);
        pieces
    }

    /// Returns the proven chaining values of a chunk, from memory or from the state file.
    pub(crate) fn known(&self, chunk: u32) -> StoredValues {
        if let Some(groups) = self.proven.get(chunk) {
            return StoredValues::Proven(groups);
        }
        let known = self.files.with(|files| stored_values(&files.state, self.map(), chunk));
        let known = known.unwrap_or(StoredValues::Absent);
        if let StoredValues::Proven(groups) = &known {
            self.proven.put(chunk, groups);
        }
        known
    }

    /// Proves a whole chunk from its digest in the map.
    pub(crate) fn prove(&self, chunk: u32, bytes: &[u8]) -> Result<ChunkProof, FailureReason> {
        let values = group::chaining_values(bytes);
        let length = bytes.len() as u64;
        let must = self.map().digest(chunk).unwrap_or_else(|| Blake3::new([0; 32]));
        match Groups::prove(values.clone().into(), length, must) {
            Some(groups) => Ok(ChunkProof { groups: Arc::new(groups), values }),
            None => Err(FailureReason::Digest { is: Blake3::of(bytes), must }),
        }
    }

    /// Writes a verified chunk and its chaining values; a guest keeps the chunk in memory.
    pub(crate) fn fill(&self, chunk: u32, bytes: &Bytes, proof: &ChunkProof) -> Result<(), WriteFailure> {
        if !self.role.is_owner() {
            self.guest.put(chunk, bytes);
            self.fills.fetch_add(1, Ordering::Release);
            return Ok(());
        }
        let (Some(range), Some(slot)) = (self.map().chunk_bytes(chunk), state_slot(self.map(), chunk)) else {
            return Ok(());
        };
        let failed = |name: &str, error| (self.directory.join(name), error);
        // Data first: chaining values that are there speak of bytes that are there, as long as the machine stays up.
        self.files.made(|files| {
            files.data.write_all_at(bytes, range.start).map_err(|error| failed(DATA, error))?;
            files.state.write_all_at(proof.values.as_flattened(), slot).map_err(|error| failed(STATE, error))
        })?;
        self.proven.put(chunk, &proof.groups);
        self.fills.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Reads a run of chunks with proven values at once and verifies each group.
    fn read_run(&self, run: &mut Vec<Covered>, pieces: &mut Vec<DevicePiece>, is_owner: bool, counters: &Counters) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        let (start, end) = (first.bytes().start, last.bytes().end);
        let wanted = first.wanted.start..last.wanted.end;
        let length = usize::try_from(end - start).unwrap_or(0);
        // A read error of the disk is damage like any other.
        let found = self.files.with(|files| layout::read_at(&files.data, length, start).ok());
        let found = Bytes::from(found.flatten().unwrap_or_default());
        let cut = |range: Range<u64>| {
            let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(found.len());
            found.slice(place(range.start)..place(range.end))
        };
        let good: Vec<bool> = run.iter().map(|covered| verify(covered, cut, counters)).collect();
        if good.iter().all(|good| *good) {
            pieces.push(DevicePiece::Good(cut(wanted)));
        } else {
            for (covered, good) in run.iter().zip(good) {
                let Range { start, end } = covered.wanted;
                pieces.push(if good {
                    DevicePiece::Good(cut(start..end))
                } else {
                    let range = start - covered.start..end - covered.start;
                    if !is_owner {
                        // The owner has changed what this was remembered of.
                        self.proven.forget(covered.chunk);
                    }
                    match self.guest.get(covered.chunk, &range) {
                        Some(bytes) => DevicePiece::Good(bytes),
                        None => DevicePiece::Miss { chunk: covered.chunk, range, damaged: is_owner },
                    }
                });
            }
        }
        run.clear();
    }
}

fn verify(covered: &Covered, cut: impl Fn(Range<u64>) -> Bytes, counters: &Counters) -> bool {
    let numbers = covered.numbers();
    let count = numbers.end - numbers.start;
    let good = numbers.clone().all(|number| {
        let range = covered.groups.range(number);
        covered.groups.verify(number, &cut(covered.start + range.start..covered.start + range.end))
    });
    if good {
        add(&counters.groups_verified, count);
    }
    good
}
