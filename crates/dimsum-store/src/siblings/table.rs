//! The index: from the first bytes of a digest to places, bounded in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dimsum_format::meta::MappedDevice;
use dimsum_format::{Blake3, Digest};

use super::place::{Sibling, SiblingPlace};

/// No row.
const END: u32 = u32::MAX;

/// Rows with the same prefix of a digest are a list, the last one first.
#[derive(Debug)]
pub(super) struct SiblingTable {
    heads: HashMap<u64, u32>,
    rows: Vec<SiblingRow>,
    places: Vec<Arc<SiblingPlace>>,
    /// Packs that are in it, by blob and name of the map.
    known: HashSet<(Digest, String)>,
    max_rows: usize,
    max_places: usize,
}

/// A chunk in a place: 32 bytes, and about as many for its head.
#[derive(Debug, Clone, Copy)]
struct SiblingRow {
    frame_start: u64,
    frame_length: u32,
    place: u32,
    chunk: u32,
    first_block: u32,
    next: u32,
}

impl SiblingTable {
    pub(super) fn new(max_rows: usize, max_places: usize) -> Self {
        let (heads, rows, places, known) = (HashMap::new(), Vec::new(), Vec::new(), HashSet::new());
        Self { heads, rows, places, known, max_rows, max_places }
    }

    /// Returns another one with the same bounds.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.max_rows, self.max_places)
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.max_rows || self.places.len() >= self.max_places
    }

    /// Adds a place without chunks; `None` if it is known or there is no room.
    pub(super) fn add_place(&mut self, place: SiblingPlace) -> Option<u32> {
        let number = u32::try_from(self.places.len()).ok()?;
        if self.is_full() || !self.known.insert((place.blob.digest, place.map.clone())) {
            return None;
        }
        self.places.push(Arc::new(place));
        Some(number)
    }

    /// Adds a chunk of a device to its place, if there is room.
    pub(super) fn add_chunk(&mut self, place: u32, device: &MappedDevice, chunk: u32) {
        let (Some(blocks), Some(frame), Some(digest)) =
            (device.map.chunk_blocks(chunk), device.frames.frame(chunk), device.map.digest(chunk))
        else {
            return;
        };
        let Some(number) = u32::try_from(self.rows.len()).ok().filter(|_| self.rows.len() < self.max_rows) else {
            return;
        };
        let head = self.heads.entry(prefix(digest)).or_insert(END);
        if self.rows.get(*head as usize).is_some_and(|row| row.place == place) {
            // One of a device is enough; and no map fills a list.
            return;
        }
        self.rows.push(SiblingRow {
            frame_start: frame.start,
            frame_length: u32::try_from(frame.end.saturating_sub(frame.start)).unwrap_or(u32::MAX),
            place,
            chunk,
            first_block: blocks.start,
            next: std::mem::replace(head, number),
        });
    }

    /// Returns the chunks whose digest may be this one.
    pub(super) fn find(&self, digest: Blake3) -> impl Iterator<Item = Sibling> + '_ {
        let mut at = self.heads.get(&prefix(digest)).copied().unwrap_or(END);
        std::iter::from_fn(move || {
            let row = self.rows.get(at as usize)?;
            at = row.next;
            let place = Arc::clone(self.places.get(row.place as usize)?);
            let frame = row.frame_start..row.frame_start.saturating_add(u64::from(row.frame_length));
            Some(Sibling { place, chunk: row.chunk, first_block: row.first_block, frame })
        })
    }
}

/// Enough to tell some million chunks apart; who makes digests collide makes lookups that lead nowhere.
fn prefix(digest: Blake3) -> u64 {
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use dimsum_format::DeviceId;
    use dimsum_format::manifest::Blob;
    use dimsum_format::map::{DeviceMap, FrameMap};

    use super::*;

    /// A digest with a prefix.
    fn digest(prefix: u64, rest: u8) -> Blake3 {
        let mut bytes = [rest; 32];
        bytes[..8].copy_from_slice(&prefix.to_le_bytes());
        Blake3::new(bytes)
    }

    fn device(digests: impl IntoIterator<Item = Blake3>) -> MappedDevice {
        let (mut map, mut frames) = (DeviceMap::default(), FrameMap::default());
        for digest in digests {
            map.push(3, digest).unwrap();
            frames.push(1000).unwrap();
        }
        MappedDevice { id: map.id(), map, frames, first_block: 0 }
    }

    fn add(table: &mut SiblingTable, number: u8, device: &MappedDevice) -> bool {
        let place = SiblingPlace {
            device: DeviceId::new([number; 32]),
            blob: Blob { digest: Digest::new([number; 32]), size: 0 },
            map: String::new(),
        };
        let Some(place) = table.add_place(place) else { return false };
        (0..device.map.chunks() as u32).for_each(|chunk| table.add_chunk(place, device, chunk));
        true
    }

    #[test]
    fn a_chunk_is_found_in_every_place_that_was_added_once() {
        let mut table = SiblingTable::new(100, 100);
        let of = |numbers: [u64; 3]| device(numbers.map(|number| digest(number, 0)));
        assert!(add(&mut table, 1, &of([5, 6, 5])) && add(&mut table, 2, &of([7, 5, 8])));
        assert!(!add(&mut table, 2, &of([7, 5, 8])), "known");
        let found: Vec<_> =
            table.find(digest(5, 0)).map(|sibling| (sibling.device().as_bytes()[0], sibling.chunk)).collect();
        assert_eq!(found, [(2, 1), (1, 0)]);
        let sibling = table.find(digest(8, 0)).next().unwrap();
        assert_eq!((sibling.first_block, sibling.frame), (6, 2000..3000));
        assert_eq!(table.find(digest(9, 0)).count(), 0);
    }

    #[test]
    fn digests_with_the_same_start_are_candidates_of_each_other() {
        let mut table = SiblingTable::new(100, 100);
        add(&mut table, 1, &device([digest(5, 1)]));
        add(&mut table, 2, &device([digest(5, 2)]));
        assert_eq!(table.find(digest(5, 3)).count(), 2);
    }

    #[test]
    fn the_table_takes_as_many_rows_and_places_as_it_may_and_no_more() {
        let mut table = SiblingTable::new(10, 3);
        assert!(add(&mut table, 1, &device((0..25).map(|number| digest(number, 0)))));
        assert_eq!((table.rows.len(), table.heads.len(), table.is_full()), (10, 10, true));
        assert!(!add(&mut table, 2, &device([digest(1, 0)])));
        let mut table = table.empty();
        for number in 0..9 {
            add(&mut table, number, &device([]));
        }
        assert_eq!((table.places.len(), table.known.len(), table.is_full()), (3, 3, true));
    }

    #[test]
    fn a_map_that_names_one_digest_for_ever_has_one_row() {
        let mut table = SiblingTable::new(1000, 100);
        add(&mut table, 1, &device([digest(5, 0)]));
        add(&mut table, 2, &device(std::iter::repeat_n(digest(5, 0), 500)));
        assert_eq!(table.find(digest(5, 0)).count(), 2);
    }
}
