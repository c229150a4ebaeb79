//! The parts of a sparse file that are in the archive.

use crate::error::EntryFault;
use crate::limits::MAX_FILE_SIZE;

/// Segments of one sparse file. The widest real maps are of disk images, one per hole of 4 KiB in some GiB; 16
/// bytes of memory each.
pub(crate) const MAX_SEGMENTS: usize = 1 << 20;

/// A sparse file's length and the parts of it that follow in the archive; all else is zeros.
#[derive(Clone, Debug)]
pub(crate) struct SparseMap {
    pub(crate) size: u64,
    /// Offset and length, ascending, without overlap, inside the file; together as long as what is stored.
    pub(crate) segments: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Takes a map only if it fits the file and what is stored of it.
    pub(crate) fn new(size: u64, segments: Vec<(u64, u64)>, stored: u64) -> Result<Self, EntryFault> {
        if size > MAX_FILE_SIZE {
            return Err(EntryFault::FileTooLarge { size });
        }
        check_count(segments.len())?;
        let (mut end, mut sum) = (0u64, 0u64);
        for &(offset, length) in &segments {
            if offset < end {
                return Err(EntryFault::SparseMap);
            }
            end = offset.checked_add(length).ok_or(EntryFault::SparseMap)?;
            sum = sum.checked_add(length).ok_or(EntryFault::SparseMap)?;
        }
        if end > size || sum != stored { Err(EntryFault::SparseMap) } else { Ok(Self { size, segments }) }
    }
}

/// Refuses a map that is too long.
pub(crate) fn check_count(count: usize) -> Result<(), EntryFault> {
    if count > MAX_SEGMENTS { Err(EntryFault::TooManySegments { limit: MAX_SEGMENTS }) } else { Ok(()) }
}
