//! A device on disk: sparse decoded data and the chaining values that prove it.
//!
//! `data` has the device's bytes at their places; `state` a header and, for each chunk, one chaining value per 16 KiB group. Neither
//! is trusted: values of a chunk count once they recombine to its digest from the proven map, and every `pread` of data is hashed.
//! Only proven values are remembered. Nothing is synced: after a power loss something is missing or wrong, which is a miss.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dimsum_format::group::{self, ChainingValue, GROUP_U64, Groups};
use dimsum_format::map::DeviceMap;
use dimsum_format::meta::MetaMaps;
use dimsum_format::{BLOCK_U64, Blake3, DeviceId};
use parking_lot::{Mutex, RwLock};

use crate::error::FailureReason;
use crate::layout;
use crate::limits::MAX_PROVEN_GROUPS;
use crate::stats::{Counters, add};

/// Name of the file with decoded bytes.
pub(crate) const DATA: &str = "data";
/// Name of the file with chaining values.
pub(crate) const STATE: &str = "state";
/// Bytes before the first chaining value.
pub(crate) const STATE_HEADER: u64 = 64;
/// First bytes of a state file.
const STATE_MAGIC: [u8; 8] = *b"DIMSUMS1";
/// Bytes of a chaining value.
pub(crate) const VALUE: u64 = 32;

/// A device of the store, shared by all images of this process that name it by its id.
#[derive(Debug)]
pub(crate) struct Device {
    id: DeviceId,
    /// Holds the map; the id proves that every image with this device has the same one.
    maps: Arc<MetaMaps>,
    index: usize,
    directory: PathBuf,
    files: OnceLock<Files>,
    /// Held while the files are made.
    making: Mutex<()>,
    proven: RwLock<Proven>,
    fills: AtomicU64,
}

#[derive(Debug)]
struct Files {
    data: File,
    state: File,
}

/// Chaining values that were combined to their digests by this process.
#[derive(Debug, Default)]
struct Proven {
    chunks: HashMap<u32, Arc<Groups>>,
    groups: usize,
}

/// What stands in the state file for a chunk.
pub(crate) enum Known {
    /// Values that combine to the chunk's digest.
    Proven(Arc<Groups>),
    /// Nothing.
    Absent,
    /// Values that prove nothing.
    Damaged,
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
pub(crate) enum Piece {
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

impl Device {
    /// Device `index` of an image. Files are opened at the first read and made at the first fill.
    pub(crate) fn new(id: DeviceId, maps: Arc<MetaMaps>, index: usize, directory: PathBuf) -> Self {
        Self {
            id,
            maps,
            index,
            directory,
            files: OnceLock::new(),
            making: Mutex::new(()),
            proven: RwLock::default(),
            fills: AtomicU64::new(0),
        }
    }

    pub(crate) const fn id(&self) -> DeviceId {
        self.id
    }

    pub(crate) fn map(&self) -> &DeviceMap {
        &self.maps.devices.get(self.index).expect("made with an index of these maps").map
    }

    /// Grows when a chunk gets into the files: a reader that missed it before looks again instead of fetching it.
    pub(crate) fn fills(&self) -> u64 {
        self.fills.load(Ordering::Acquire)
    }

    /// Reads what is here and right of `range` (bytes of the device), in order.
    pub(crate) fn read(&self, range: &Range<u64>, counters: &Counters) -> Vec<Piece> {
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
                Known::Proven(groups) => run.push(Covered { chunk, start: bytes.start, wanted, groups }),
                other => {
                    self.read_run(&mut run, &mut pieces, counters);
                    let damaged = matches!(other, Known::Damaged);
                    let range = wanted.start - bytes.start..wanted.end - bytes.start;
                    pieces.push(Piece::Miss { chunk, range, damaged });
                }
            }
        }
        self.read_run(&mut run, &mut pieces, counters);
        pieces
    }

    /// Returns the proven chaining values of a chunk, from memory or from the state file.
    pub(crate) fn known(&self, chunk: u32) -> Known {
        if let Some(groups) = self.proven.read().chunks.get(&chunk) {
            return Known::Proven(Arc::clone(groups));
        }
        let Some(files) = self.existing() else { return Known::Absent };
        let known = stored_values(&files.state, self.map(), chunk);
        if let Known::Proven(groups) = &known {
            self.remember(chunk, groups);
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

    /// Writes a verified chunk and its chaining values.
    pub(crate) fn fill(&self, chunk: u32, bytes: &[u8], proof: &ChunkProof) -> Result<(), WriteFailure> {
        let files = self.made()?;
        let (Some(range), Some(slot)) = (self.map().chunk_bytes(chunk), state_slot(self.map(), chunk)) else {
            return Ok(());
        };
        let failed = |name: &str, error| (self.directory.join(name), error);
        // Data first: chaining values that are there speak of bytes that are there, as long as the machine stays up.
        files.data.write_all_at(bytes, range.start).map_err(|error| failed(DATA, error))?;
        files.state.write_all_at(proof.values.as_flattened(), slot).map_err(|error| failed(STATE, error))?;
        self.remember(chunk, &proof.groups);
        self.fills.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Reads a run of chunks with proven values at once and verifies each group.
    fn read_run(&self, run: &mut Vec<Covered>, pieces: &mut Vec<Piece>, counters: &Counters) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        let (start, end) = (first.bytes().start, last.bytes().end);
        let wanted = first.wanted.start..last.wanted.end;
        let length = usize::try_from(end - start).unwrap_or(0);
        // A read error of the disk is damage like any other.
        let found = self.existing().and_then(|files| layout::read_at(&files.data, length, start).ok());
        let found = Bytes::from(found.unwrap_or_default());
        let cut = |range: Range<u64>| {
            let place = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(found.len());
            found.slice(place(range.start)..place(range.end))
        };
        let good: Vec<bool> = run.iter().map(|covered| verify(covered, cut, counters)).collect();
        if good.iter().all(|good| *good) {
            pieces.push(Piece::Good(cut(wanted)));
        } else {
            for (covered, good) in run.iter().zip(good) {
                let Range { start, end } = covered.wanted;
                pieces.push(if good {
                    Piece::Good(cut(start..end))
                } else {
                    let range = start - covered.start..end - covered.start;
                    Piece::Miss { chunk: covered.chunk, range, damaged: true }
                });
            }
        }
        run.clear();
    }

    fn remember(&self, chunk: u32, groups: &Arc<Groups>) {
        let mut proven = self.proven.write();
        if proven.groups.saturating_add(groups.len()) > MAX_PROVEN_GROUPS {
            // Proving again costs a microsecond per chunk: forgetting all is cheaper than keeping an order of use.
            *proven = Proven::default();
        }
        if proven.chunks.insert(chunk, Arc::clone(groups)).is_none() {
            proven.groups += groups.len();
        }
    }

    /// The files, if they are there and usable.
    fn existing(&self) -> Option<&Files> {
        if let Some(files) = self.files.get() {
            return Some(files);
        }
        let open = |name| layout::open_regular(&self.directory.join(name), true).ok().flatten();
        let files = Files { data: open(DATA)?, state: open(STATE)? };
        let header = state_header(self.id);
        if layout::read_at(&files.state, header.len(), 0).is_ok_and(|found| found != header) {
            // Damaged or cut off. Nothing depends on it; if it cannot be written `check` goes on to say so.
            drop(files.state.write_all_at(&header, 0));
        }
        Some(self.files.get_or_init(|| files))
    }

    /// The files, made if they are not there.
    fn made(&self) -> Result<&Files, WriteFailure> {
        if let Some(files) = self.existing() {
            return Ok(files);
        }
        let _making = self.making.lock();
        layout::make_directory(&self.directory).map_err(|error| (self.directory.clone(), error))?;
        let open = |name| {
            let path = self.directory.join(name);
            layout::open_or_create(&path).map_err(|error| (path, error))
        };
        let (data, state) = (open(DATA)?, open(STATE)?);
        state.write_all_at(&state_header(self.id), 0).map_err(|error| (self.directory.join(STATE), error))?;
        Ok(self.files.get_or_init(|| Files { data, state }))
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

/// Where the chaining values of a chunk stand in the state file.
///
/// A chunk of b blocks has ceil(b/4) groups, so slot `start/4 + index` leaves room for all chunks before it: each adds at least
/// floor(b/4) + 1. No table is needed, and the few slots between are holes of nothing.
pub(crate) fn state_slot(map: &DeviceMap, chunk: u32) -> Option<u64> {
    Some(slot(map.chunk_blocks(chunk)?.start, chunk))
}

/// The same of a chunk that starts at a block.
pub(crate) fn slot(first_block: u32, chunk: u32) -> u64 {
    STATE_HEADER + VALUE * (u64::from(first_block) * BLOCK_U64 / GROUP_U64 + u64::from(chunk))
}

/// Header of a state file: says to people and to `check` what the file is. It proves nothing and nothing depends on it.
pub(crate) fn state_header(id: DeviceId) -> Vec<u8> {
    let mut header = STATE_MAGIC.to_vec();
    header.extend_from_slice(id.as_bytes());
    header.resize(usize::try_from(STATE_HEADER).unwrap_or(0), 0);
    header
}

/// Reads and proves the chaining values of a chunk.
pub(crate) fn stored_values(state: &File, map: &DeviceMap, chunk: u32) -> Known {
    let (Some(slot), Some(range), Some(digest)) = (state_slot(map, chunk), map.chunk_bytes(chunk), map.digest(chunk))
    else {
        return Known::Absent;
    };
    let length = range.end - range.start;
    let bytes = usize::try_from(group::count(length) * VALUE).unwrap_or(0);
    let Ok(found) = layout::read_at(state, bytes, slot) else { return Known::Damaged };
    if found.iter().all(|byte| *byte == 0) {
        return Known::Absent;
    }
    let (values, _) = found.as_chunks::<32>();
    match Groups::prove(values.into(), length, digest) {
        Some(groups) => Known::Proven(Arc::new(groups)),
        None => Known::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chaining_values_of_no_two_chunks_share_a_place(sizes in prop::collection::vec(1u32..70, 1..60)) {
            let mut map = DeviceMap::default();
            for blocks in &sizes {
                map.push(*blocks, Blake3::new([0; 32])).unwrap();
            }
            let mut end = STATE_HEADER;
            for (chunk, blocks) in (0..).zip(&sizes) {
                let slot = state_slot(&map, chunk).unwrap();
                prop_assert!(slot >= end);
                end = slot + VALUE * group::count(u64::from(*blocks) * BLOCK_U64);
            }
        }
    }
}
