//! The table of large files: each is a list of pieces, and a piece is a slice or a run of slices of zeros.
//!
//! A slice costs 56 bytes of memory, one 4,500th of its default size. So slices are all kept in memory, unlike
//! small files.

use std::sync::Arc;

use dimsum_format::{BLOCK_U64, Blake3, FormatError};
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{ContentPlace, MAX_CONTENTS};
use crate::error::ConvertError;

/// A slice of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SliceId(u32);

/// The state of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceRecord {
    pub(crate) digest: Blake3,
    /// Its frame in the spool.
    pub(crate) offset: u64,
    pub(crate) frame_length: u32,
    pub(crate) blocks: u32,
    pub(crate) place: ContentPlace,
}

/// The slice of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResolvedPieces {
    pub(super) id: SliceId,
    /// Whether the slice was not known.
    pub(super) new: bool,
}

/// In a piece: the other bits count slices of zeros. Else they are a slice's number.
const NULL: u32 = 1 << 31;

/// The slices of all large files: shared by those who find and those who compress them.
#[derive(Debug, Default)]
pub(crate) struct SliceTable {
    rows: Vec<SliceRecord>,
    index: HashTable<u32>,
    /// The pieces of all files, one file after the other.
    pieces: Vec<u32>,
    /// First number of the current layer.
    layer_start: u32,
    /// Bytes of slices that were found again.
    shared_bytes: u64,
}

/// The table, where it is shared. Whoever packs reads it at the same time as others.
pub(crate) type Slices = Arc<RwLock<SliceTable>>;

/// A lock is poisoned only by a panic, which ends the conversion when its thread is joined.
pub(crate) fn read(table: &Slices) -> RwLockReadGuard<'_, SliceTable> {
    table.read()
}

/// As [`read`].
pub(crate) fn write(table: &Slices) -> RwLockWriteGuard<'_, SliceTable> {
    table.write()
}

/// The large files of an image.
#[derive(Debug)]
pub(crate) struct LargeFiles {
    /// Where the pieces of each start.
    starts: Vec<u32>,
    slice_size: u64,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentPiece {
    Null { blocks: u64 },
    Slice { id: SliceId, blocks: u64 },
}

/// Returns the number of slices of a file: one for each `slice_size` bytes, but a short rest goes to the slice
/// before it.
pub(crate) const fn slice_count(size: u64, slice_size: u64) -> u64 {
    let whole = size / slice_size;
    let rest = size % slice_size;
    if whole > 0 && rest < slice_size / 4 { whole } else { whole + 1 }
}

impl LargeFiles {
    pub(super) const fn new(slice_size: u32) -> Self {
        Self { starts: Vec::new(), slice_size: slice_size as u64 }
    }

    /// Adds a file whose pieces start there.
    pub(crate) fn add(&mut self, start: u32) -> Result<u32, ConvertError> {
        let number = number_below("large files", self.starts.len(), MAX_CONTENTS)?;
        self.starts.push(start);
        Ok(number)
    }

    /// Returns the pieces of a file of `size` bytes.
    pub(crate) fn pieces(&self, number: u32, size: u64, table: &SliceTable) -> impl Iterator<Item = ContentPiece> {
        let slices = slice_count(size, self.slice_size);
        let blocks = size.div_ceil(BLOCK_U64);
        let slice_blocks = self.slice_size / BLOCK_U64;
        let start = *self.starts.get(number as usize).expect(OURS);
        let mut next = 0;
        table.pieces.get(start as usize..).unwrap_or_default().iter().map_while(move |&piece| {
            if next == slices {
                return None;
            }
            let first = next;
            next += if piece & NULL == 0 { 1 } else { u64::from(piece & !NULL) };
            let end = if next == slices { blocks } else { next * slice_blocks };
            let blocks = end - first * slice_blocks;
            Some(if piece & NULL == 0 {
                ContentPiece::Slice { id: SliceId(piece), blocks }
            } else {
                ContentPiece::Null { blocks }
            })
        })
    }
}

impl SliceTable {
    /// Returns where the pieces of the next file start.
    pub(crate) fn start(&self) -> Result<u32, ConvertError> {
        number_below("slices", self.pieces.len(), u32::MAX)
    }

    /// Adds so many slices of zeros; those of one file are one piece.
    pub(crate) fn push_null(&mut self, count: u32, file_start: u32) {
        if let Some(last) = self.pieces.get_mut(file_start as usize..).and_then(<[u32]>::last_mut)
            && *last & NULL != 0
        {
            *last += count;
        } else {
            self.pieces.push(NULL | count);
        }
    }

    /// Adds a slice that a worker will say more of.
    pub(super) fn push_slice(&mut self) -> Result<u32, ConvertError> {
        let piece = self.start()?;
        self.pieces.push(0);
        Ok(piece)
    }

    /// Adds a slice that is known.
    pub(crate) fn push_known(&mut self, id: SliceId) -> Result<(), ConvertError> {
        self.start()?;
        self.pieces.push(id.0);
        Ok(())
    }

    /// Adds a slice that a pack stores.
    pub(crate) fn add_stored(
        &mut self,
        digest: Blake3,
        blocks: u32,
        place: ContentPlace,
    ) -> Result<SliceId, ConvertError> {
        let Self { rows, index, .. } = self;
        let row = number_below("different slices", rows.len(), NULL)?;
        rows.push(SliceRecord { digest, offset: 0, frame_length: 0, blocks, place });
        index.insert_unique(hash(digest), row, |&row| hash(rows.get(row as usize).expect(OURS).digest));
        Ok(SliceId(row))
    }

    /// Returns all slices that have a place, by it.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (ContentPlace, SliceId)> {
        let rows = self.rows.iter().zip(0..);
        rows.filter(|(row, _)| !row.place.is_none()).map(|(row, number)| (row.place, SliceId(number)))
    }

    /// Takes back the pieces of the last file, which turned out to be only zeros; false if it is not.
    pub(crate) fn drop_if_null(&mut self, file_start: u32) -> bool {
        let null =
            self.pieces.get(file_start as usize..).is_some_and(|pieces| pieces.iter().all(|piece| piece & NULL != 0));
        if null {
            self.pieces.truncate(file_start as usize);
        }
        null
    }

    /// Says what a piece is. A slice that was not known is to be completed by [`set_frame`](Self::set_frame).
    pub(super) fn resolve(
        &mut self,
        piece: u32,
        digest: Blake3,
        blocks: u32,
        length: u64,
    ) -> Result<ResolvedPieces, ConvertError> {
        let Self { rows, index, .. } = self;
        let known = index.find(hash(digest), |&row| rows.get(row as usize).is_some_and(|row| row.digest == digest));
        let (row, new) = match known {
            Some(&row) => {
                self.shared_bytes += length;
                (row, false)
            }
            None => {
                let row = number_below("different slices", rows.len(), NULL)?;
                rows.push(SliceRecord { digest, offset: 0, frame_length: 0, blocks, place: ContentPlace::NONE });
                index.insert_unique(hash(digest), row, |&row| hash(rows.get(row as usize).expect(OURS).digest));
                (row, true)
            }
        };
        *self.pieces.get_mut(piece as usize).expect(OURS) = row;
        Ok(ResolvedPieces { id: SliceId(row), new })
    }

    pub(crate) fn set_frame(&mut self, id: SliceId, offset: u64, length: u32) {
        let row = self.rows.get_mut(id.0 as usize).expect(OURS);
        (row.offset, row.frame_length) = (offset, length);
    }

    pub(crate) fn slice(&self, id: SliceId) -> SliceRecord {
        *self.rows.get(id.0 as usize).expect(OURS)
    }

    pub(crate) fn place(&self, id: SliceId) -> ContentPlace {
        self.slice(id).place
    }

    pub(crate) fn set_place(&mut self, id: SliceId, place: ContentPlace) {
        self.rows.get_mut(id.0 as usize).expect(OURS).place = place;
    }

    /// Returns which of the slices that the current layer brought a slice is, from 0; none if it was known before.
    pub(super) fn number_in_layer(&self, id: SliceId) -> Option<u32> {
        id.0.checked_sub(self.layer_start)
    }

    pub(crate) const fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    pub(super) fn forget_unplaced(&mut self) {
        let end = u32::try_from(self.rows.len()).expect("rows are below 2^31");
        for number in self.layer_start..end {
            let row = self.slice(SliceId(number));
            if row.place.is_none()
                && let Ok(entry) = self.index.find_entry(hash(row.digest), |&other| other == number)
            {
                entry.remove();
            }
        }
        self.layer_start = end;
    }
}

const OURS: &str = "numbers come from these tables";

fn hash(digest: Blake3) -> u64 {
    u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

fn number_below(part: &'static str, number: usize, limit: u32) -> Result<u32, ConvertError> {
    let source = FormatError::Limit { part, value: number as u64, limit: u64::from(limit) };
    u32::try_from(number).ok().filter(|&number| number < limit).ok_or_else(|| ConvertError::format("image", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_rest_joins_the_slice_before_it() {
        const S: u64 = 256 << 10;
        let counts = [1, S - 1, S, S + 1, S + S / 4 - 1, S + S / 4, 2 * S - 1, 2 * S, 2 * S + 1, 2 * S + S / 4];
        assert_eq!(counts.map(|size| slice_count(size, S)), [1, 1, 1, 1, 1, 2, 2, 2, 2, 3]);
    }

    #[test]
    fn pieces_cover_a_file_and_zeros_are_one_piece() {
        let mut table = SliceTable::default();
        let mut files = LargeFiles::new(64 << 10);
        let start = table.start().unwrap();
        let slice = table.push_slice().unwrap();
        table.push_null(2, start);
        table.push_null(1, start);
        let last = table.push_slice().unwrap();
        let file = files.add(start).unwrap();
        assert!(!table.drop_if_null(start));
        let first = table.resolve(slice, Blake3::of(b"1"), 16, 65536).unwrap().id;
        let second = table.resolve(last, Blake3::of(b"2"), 17, 65537).unwrap().id;
        let size = 4 * (64 << 10) + 64 * 1024 + 1;
        let pieces: Vec<_> = files.pieces(file, size, &table).collect();
        let expected = [
            ContentPiece::Slice { id: first, blocks: 16 },
            ContentPiece::Null { blocks: 48 },
            ContentPiece::Slice { id: second, blocks: 17 },
        ];
        assert_eq!(pieces, expected);
        let again = table.resolve(slice, Blake3::of(b"2"), 17, 65537).unwrap();
        assert_eq!(again, ResolvedPieces { id: second, new: false });
        assert_eq!(table.shared_bytes(), 65537);
    }
}
