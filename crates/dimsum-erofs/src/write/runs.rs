//! The data runs of regular files, and their form in an inode.

use std::io;

use dimsum_tree::InodeId;

use crate::error::RunFault;
use crate::limits::{MAX_BLOCKS, MAX_CHUNK_BITS, MAX_MAP_ENTRIES};
use crate::ondisk::BLOCK;

/// A run of blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRun {
    /// Its length.
    pub blocks: u64,
    /// Its first block in the data area, whose block 0 is the first one behind the meta; `None` for a hole.
    pub start: Option<u64>,
    /// The device of the data, as a number of the caller's. Runs of different devices are two runs even where the
    /// devices are neighbours: a file must not cross from one device into another unnoticed. Of no meaning for a hole.
    pub device: u32,
}

/// Gives the position of the data of each regular file. The writer asks a few times for each inode, in inode order each
/// time, so not all answers need be in memory. The answers must be the same each time.
pub trait Placements {
    /// Fills the empty `runs` with the runs of a non-empty file, from its start to the block with its last byte. Two
    /// runs that touch may be given as two or as one.
    ///
    /// # Errors
    ///
    /// If the answer cannot be had.
    fn runs(&self, inode: InodeId, runs: &mut Vec<BlockRun>) -> io::Result<()>;
}

/// The form of a file's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileData {
    /// One run.
    Plain {
        /// Its first block in the data area.
        start: u64,
    },
    /// A block map.
    Map {
        /// log2 of the blocks of an entry.
        bits: u32,
        /// Entries.
        entries: u64,
    },
}

/// Joins runs and finds the form for a file of `size` > 0 bytes.
pub(super) fn classify(runs: &mut Vec<BlockRun>, size: u64, slice_bits: u32) -> Result<FileData, RunFault> {
    runs.retain(|run| run.blocks > 0);
    runs.dedup_by(|next, last| {
        let joined = match (last.start, next.start) {
            (None, None) => true,
            (Some(last_start), Some(next_start)) => {
                last.device == next.device && last_start.checked_add(last.blocks) == Some(next_start)
            }
            _ => false,
        };
        if joined {
            last.blocks = last.blocks.saturating_add(next.blocks);
        }
        joined
    });
    let blocks = size.div_ceil(BLOCK);
    let covered = runs.iter().fold(0u64, |sum, run| sum.saturating_add(run.blocks));
    if covered != blocks {
        return Err(RunFault::Length { covered, blocks });
    }
    for run in runs.iter() {
        let end = run.start.map_or(0, |start| start.saturating_add(run.blocks));
        if end > MAX_BLOCKS {
            return Err(RunFault::Address { block: end });
        }
    }
    if let [BlockRun { start: Some(start), .. }] = **runs {
        return Ok(FileData::Plain { start });
    }
    let bits = entry_bits(runs, blocks, slice_bits)?;
    let entries = blocks.div_ceil(1 << bits);
    if entries > MAX_MAP_ENTRIES {
        return Err(RunFault::TooManyEntries { entries });
    }
    Ok(FileData::Map { bits, entries })
}

/// Returns log2 of the largest entry size that keeps each entry wholly null or one run. A size is possible if every
/// border between two runs is a multiple of it. It has no use beyond one entry.
fn entry_bits(runs: &[BlockRun], blocks: u64, slice_bits: u32) -> Result<u32, RunFault> {
    let mut bits = blocks.next_power_of_two().trailing_zeros();
    let mut border = 0;
    for run in runs.iter().take(runs.len().saturating_sub(1)) {
        border += run.blocks;
        bits = bits.min(border.trailing_zeros());
        if bits < slice_bits {
            return Err(RunFault::Unaligned { block: border });
        }
    }
    Ok(bits.clamp(slice_bits, MAX_CHUNK_BITS))
}

/// Returns the map entries of joined runs: for each the block in the data area, `None` for a hole.
pub(super) fn map_entries(runs: &[BlockRun], bits: u32, entries: u64) -> impl Iterator<Item = Option<u64>> {
    let mut runs = runs.iter();
    let mut first = 0;
    let mut run = runs.next();
    (0..entries).map(move |entry| {
        let block = entry << bits;
        while let Some(current) = run
            && first + current.blocks <= block
        {
            first += current.blocks;
            run = runs.next();
        }
        run.and_then(|run| run.start).map(|start| start + (block - first))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: fn(u64, u64) -> BlockRun = |blocks, start| BlockRun { blocks, start: Some(start), device: 0 };
    const HOLE: fn(u64) -> BlockRun = |blocks| BlockRun { blocks, start: None, device: 0 };

    fn form(mut runs: Vec<BlockRun>, blocks: u64) -> Result<(FileData, Vec<Option<u64>>), RunFault> {
        let data = classify(&mut runs, blocks * BLOCK, 6)?;
        let FileData::Map { bits, entries } = data else { return Ok((data, Vec::new())) };
        Ok((data, map_entries(&runs, bits, entries).collect()))
    }

    #[test]
    fn contiguous_runs_are_one_plain_file() {
        let runs = vec![DATA(64, 100), DATA(0, 7), DATA(64, 164), DATA(10, 228)];
        assert_eq!(form(runs, 138), Ok((FileData::Plain { start: 100 }, Vec::new())));
    }

    #[test]
    fn a_map_takes_the_largest_entries_that_fit() {
        let map = |bits, entries| FileData::Map { bits, entries };
        assert_eq!(form(vec![DATA(64, 0), DATA(64, 500)], 128), Ok((map(6, 2), vec![Some(0), Some(500)])));
        assert_eq!(
            form(vec![DATA(256, 0), HOLE(256), DATA(3, 256)], 515),
            Ok((map(8, 3), vec![Some(0), None, Some(256)]))
        );
        assert_eq!(form(vec![HOLE(128), DATA(256, 9)], 384), Ok((map(7, 3), vec![None, Some(9), Some(137)])));
    }

    #[test]
    fn a_hole_of_any_size_costs_one_or_two_entries() {
        let map = |bits, entries| FileData::Map { bits, entries };
        assert_eq!(form(vec![HOLE(1)], 1), Ok((map(6, 1), vec![None])));
        assert_eq!(form(vec![HOLE(65)], 65), Ok((map(7, 1), vec![None])));
        assert_eq!(form(vec![HOLE(1 << 32)], 1 << 32), Ok((map(31, 2), vec![None, None])));
    }

    #[test]
    fn neighbours_of_two_devices_stay_two_runs() {
        let other = BlockRun { device: 1, ..DATA(64, 164) };
        let (data, entries) = form(vec![DATA(64, 100), other], 128).unwrap();
        assert_eq!(data, FileData::Map { bits: 6, entries: 2 });
        assert_eq!(entries, [Some(100), Some(164)]);
    }

    #[test]
    fn runs_that_do_not_describe_the_file_are_refused() {
        assert_eq!(form(vec![DATA(3, 0)], 4), Err(RunFault::Length { covered: 3, blocks: 4 }));
        assert_eq!(form(vec![], 4), Err(RunFault::Length { covered: 0, blocks: 4 }));
        assert_eq!(form(vec![DATA(32, 0), HOLE(32)], 64), Err(RunFault::Unaligned { block: 32 }));
        assert_eq!(form(vec![DATA(2, MAX_BLOCKS - 1)], 2), Err(RunFault::Address { block: MAX_BLOCKS + 1 }));
        let mut long = vec![DATA(64, 0), HOLE((1 << 31) - 64)];
        assert_eq!(classify(&mut long, 1 << 43, 6), Err(RunFault::TooManyEntries { entries: 1 << 25 }));
    }
}
