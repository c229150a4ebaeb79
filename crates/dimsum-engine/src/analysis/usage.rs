//! Which blocks of which chunk the tree of an image uses, and what each directory costs.
//!
//! A block counts once, for the first file in path order that lies in it: hard links and equal files cost nothing more.
//! Nor do they take more time: chunks of which nothing new can be learned are stepped over. An image in which a million
//! files share a large run of chunks takes the time of its chunks and files, not of their product.

use std::collections::HashMap;
use std::ops::Range;

use dimsum_format::BLOCK_U64;
use dimsum_format::map::DeviceMap;
use dimsum_tree::FileType;
use serde::Serialize;

use super::marks::{Bitmap, Skips};
use super::walk::ImageWalk;
use crate::EngineError;
use crate::image::Opened;
use crate::image::fs::ImageFs;
use crate::text::hex_unless_utf8;

/// Names of a path that a directory of the bill has at most: deeper ones are in it.
const MAX_PARTS: usize = 3;
/// Directories that are told apart; what comes behind counts for those above it alone.
const MAX_DIRECTORIES: usize = 1 << 14;

/// What the tree uses of one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkUse {
    /// Blocks that a file uses.
    pub used: u32,
    /// Whether a file that is small enough for a bundle lies in it.
    pub small: bool,
    /// Whether a larger file lies in it.
    pub large: bool,
}

/// A directory and what is below it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bill {
    /// The path, lossy where it is not UTF-8.
    pub path: String,
    /// The exact bytes in hexadecimal digits, where the path is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// Bytes in devices.
    pub bytes: u64,
    /// Their share of the chunks' stored bytes.
    pub stored: u64,
    /// The exact path.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

/// What the tree uses.
#[derive(Debug, Default)]
pub struct Usage {
    /// For each device, for each chunk.
    pub devices: Vec<Vec<ChunkUse>>,
    /// Regular files, each name.
    pub files: u64,
    /// The directories that cost most, the dearest first.
    pub directories: Vec<Bill>,
}

/// Is told of a file that lies in a chunk.
pub trait WatchFiles {
    /// `path` uses blocks of chunk `number` of device `device` that no file before it used.
    fn file(&mut self, device: usize, number: u32, path: &[u8]);
}

/// Watches nothing.
impl WatchFiles for () {
    fn file(&mut self, _device: usize, _number: u32, _path: &[u8]) {}
}

/// Walks the tree. `small_limit` is the length up to which files are bundled; `list` directories are billed.
///
/// # Errors
/// If the tree or a map cannot be read.
pub fn usage(
    opened: &Opened,
    fs: &ImageFs<'_>,
    small_limit: u64,
    list: usize,
    watch: &mut dyn WatchFiles,
) -> Result<Usage, EngineError> {
    let maps = opened.image.maps();
    let mut scan = UsageScan {
        seen: maps.devices.iter().map(|device| Bitmap::new(device.map.blocks())).collect(),
        done: maps.devices.iter().map(|device| [(); 2].map(|()| Skips::new(count(&device.map)))).collect(),
        usage: Usage {
            devices: maps.devices.iter().map(|device| vec![ChunkUse::default(); count(&device.map)]).collect(),
            ..Usage::default()
        },
        bills: HashMap::new(),
        watch,
    };
    let mut walk = ImageWalk::new(fs);
    while let Some(found) = walk.advance()? {
        if found.inode.file_type() != FileType::Regular {
            continue;
        }
        scan.usage.files = scan.usage.files.saturating_add(1);
        let (small, mut offset) = (found.inode.size() <= small_limit, 0);
        while let Some(extent) = fs.erofs().map(&found.inode, offset).map_err(|source| fs.fail(&found.path, source))? {
            if let Some(flat) = extent.flat {
                let blocks = flat / BLOCK_U64..flat.saturating_add(extent.len).div_ceil(BLOCK_U64);
                scan.extent(opened, blocks, small, &found.path);
            }
            offset = offset.saturating_add(extent.len.max(1));
        }
    }
    let mut usage = scan.usage;
    usage.directories = dearest(scan.bills, list);
    Ok(usage)
}

struct UsageScan<'w> {
    seen: Vec<Bitmap>,
    /// For each device the chunks of which all is known, for large files and for small ones.
    done: Vec<[Skips; 2]>,
    usage: Usage,
    bills: HashMap<Vec<u8>, (f64, u64)>,
    watch: &'w mut dyn WatchFiles,
}

impl UsageScan<'_> {
    /// Takes a run of blocks of the flat image; validated images have none across two devices.
    fn extent(&mut self, opened: &Opened, blocks: Range<u64>, small: bool, path: &[u8]) {
        let maps = opened.image.maps();
        let Some((index, mut block)) = u32::try_from(blocks.start).ok().and_then(|first| maps.locate(first)) else {
            return;
        };
        let Some(device) = maps.devices.get(index) else { return };
        let length = u32::try_from(blocks.end.saturating_sub(blocks.start)).unwrap_or(u32::MAX);
        let end = block.saturating_add(length).min(device.map.blocks());
        let Some(done) = self.done.get_mut(index).and_then(|done| done.get_mut(usize::from(small))) else { return };
        let mut done = std::mem::take(done);
        let mut number = device.map.chunk_of_block(block).map(|at| done.next(at));
        while block < end
            && let Some(at) = number
            && let (Some(chunk), Some(frame)) = (device.map.chunk_blocks(at), device.frames.frame(at))
        {
            // Behind what was stepped over.
            block = block.max(chunk.start);
            let stop = chunk.end.min(end);
            if block >= stop {
                break;
            }
            let new = self.seen.get_mut(index).map_or(0, |seen| seen.set(block..stop));
            let slot = self.usage.devices.get_mut(index).and_then(|chunks| chunks.get_mut(at as usize));
            if let Some(slot) = slot {
                slot.used = slot.used.saturating_add(new);
                slot.small |= small;
                slot.large |= !small;
                if slot.used >= chunk.end.saturating_sub(chunk.start) {
                    done.finish(at);
                }
            }
            if new > 0 {
                let stored = frame.end.saturating_sub(frame.start) as f64;
                let share = stored * f64::from(new) / f64::from(chunk.end.saturating_sub(chunk.start).max(1));
                self.bill(path, share, u64::from(new) * BLOCK_U64);
                self.watch.file(index, at, path);
            }
            block = stop;
            number = at.checked_add(1).map(|at| done.next(at));
        }
        if let Some(place) = self.done.get_mut(index).and_then(|all| all.get_mut(usize::from(small))) {
            *place = done;
        }
    }

    /// Adds to the directories above a file.
    fn bill(&mut self, path: &[u8], stored: f64, bytes: u64) {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.take(MAX_PARTS) {
            let directory = path.get(..end).unwrap_or_default();
            if let Some(bill) = self.bills.get_mut(directory) {
                *bill = (bill.0 + stored, bill.1.saturating_add(bytes));
            } else if self.bills.len() < MAX_DIRECTORIES {
                self.bills.insert(directory.to_vec(), (stored, bytes));
            }
        }
    }
}

/// Returns the directories that cost most.
fn dearest(bills: HashMap<Vec<u8>, (f64, u64)>, list: usize) -> Vec<Bill> {
    let mut bills: Vec<_> = bills.into_iter().collect();
    bills.sort_by(|(path_a, a), (path_b, b)| b.0.total_cmp(&a.0).then_with(|| path_a.cmp(path_b)));
    bills.truncate(list);
    let bill = |(raw, (stored, bytes)): (Vec<u8>, (f64, u64))| Bill {
        path: String::from_utf8_lossy(&raw).into_owned(),
        path_hex: hex_unless_utf8(&raw),
        bytes,
        stored: stored.round() as u64,
        raw,
    };
    bills.into_iter().map(bill).collect()
}

fn count(map: &DeviceMap) -> usize {
    usize::try_from(map.chunks()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_directories_come_first_and_equal_ones_by_name() {
        let bills = [("a", 1.0), ("b", 3.0), ("c", 3.0)].map(|(path, stored)| (path.as_bytes().to_vec(), (stored, 1)));
        let listed = dearest(bills.into_iter().collect(), 2);
        assert_eq!(listed.iter().map(|bill| &*bill.path).collect::<Vec<_>>(), ["b", "c"]);
    }
}
