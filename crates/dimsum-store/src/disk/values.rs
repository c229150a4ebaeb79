//! The chaining values of a device on disk: where they stand in its state file, and how they are proven.

use std::fs::File;
use std::sync::Arc;

use dimsum_format::group::{self, GROUP_U64, Groups};
use dimsum_format::map::DeviceMap;
use dimsum_format::{BLOCK_U64, DeviceId};

use crate::disk::layout;

/// Bytes before the first chaining value.
pub(crate) const STATE_HEADER: u64 = 64;
/// First bytes of a state file.
const STATE_MAGIC: [u8; 8] = *b"DIMSUMS1";
/// Bytes of a chaining value.
pub(crate) const VALUE: u64 = 32;

/// What stands in the state file for a chunk.
pub(crate) enum StoredValues {
    /// Values that combine to the chunk's digest.
    Proven(Arc<Groups>),
    /// Nothing.
    Absent,
    /// Values that prove nothing.
    Damaged,
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
pub(crate) fn stored_values(state: &File, map: &DeviceMap, chunk: u32) -> StoredValues {
    let (Some(slot), Some(range), Some(digest)) = (state_slot(map, chunk), map.chunk_bytes(chunk), map.digest(chunk))
    else {
        return StoredValues::Absent;
    };
    let length = range.end - range.start;
    let bytes = usize::try_from(group::count(length) * VALUE).unwrap_or(0);
    let Ok(found) = layout::read_at(state, bytes, slot) else { return StoredValues::Damaged };
    if found.iter().all(|byte| *byte == 0) {
        return StoredValues::Absent;
    }
    let (values, _) = found.as_chunks::<32>();
    match Groups::prove(values.into(), length, digest) {
        Some(groups) => StoredValues::Proven(Arc::new(groups)),
        None => StoredValues::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use dimsum_format::Blake3;

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
