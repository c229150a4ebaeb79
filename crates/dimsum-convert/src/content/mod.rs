//! The table of file contents of a conversion, with the place of each.
//!
//! A tree keeps 32 bits per file: the number of a small file, the number of a large file, all zeros, or empty.
//! Equal small files have one number, so deduplication costs no memory per name.

mod large;
mod place;
mod sink;
mod small;
mod worker;

use dimsum_erofs::BlockRun;
use dimsum_format::BLOCK_U64;
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_tree::{ContentId, Inode};

pub(crate) use self::large::{ContentPiece, LargeFiles, SliceId, SliceTable, Slices, read, slice_count, write};
pub(crate) use self::place::ContentPlace;
pub(crate) use self::sink::{ContentCounts, Splitter};
pub(crate) use self::small::{SmallFiles, SmallId, SmallRecord, SmallRows};
pub(crate) use self::worker::{Arrived, Workers};
use crate::error::ConvertError;

/// The content of all files of an image, as far as layers have been read.
#[derive(Debug)]
pub(crate) struct ContentTable {
    pub(crate) small: SmallFiles,
    pub(crate) large: LargeFiles,
    pub(crate) slices: Slices,
}

/// The content of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// No bytes.
    Empty,
    /// Only zeros.
    Null,
    /// At most half a bundle.
    Small(SmallId),
    /// Slices.
    Large(u32),
}

/// Numbers are below this: the two upper bits of a content id tell its kind.
pub(crate) const MAX_CONTENTS: u32 = 1 << 30;
const KIND_SHIFT: u32 = 30;

impl FileContent {
    pub(crate) const fn id(self) -> ContentId {
        ContentId::new(match self {
            Self::Small(SmallId(number)) => number,
            Self::Large(number) => 1 << KIND_SHIFT | number,
            Self::Null => 2 << KIND_SHIFT,
            Self::Empty => 3 << KIND_SHIFT,
        })
    }

    pub(crate) const fn of(id: ContentId) -> Self {
        let number = id.get() & (MAX_CONTENTS - 1);
        match id.get() >> KIND_SHIFT {
            0 => Self::Small(SmallId(number)),
            1 => Self::Large(number),
            2 => Self::Null,
            _ => Self::Empty,
        }
    }
}

impl ContentTable {
    pub(crate) fn new(temporaries: &TemporaryFiles, slice_size: u32) -> Result<Self, ConvertError> {
        Ok(Self { small: SmallFiles::new(temporaries)?, large: LargeFiles::new(slice_size), slices: Slices::default() })
    }

    /// Says where each run of blocks of a regular file lies, from its start on.
    pub(crate) fn for_each_run(&self, inode: &Inode, mut each: impl FnMut(u64, Option<ContentPlace>)) {
        let blocks = inode.size().div_ceil(BLOCK_U64);
        let Some(id) = inode.content() else { return };
        match FileContent::of(id) {
            FileContent::Empty => {}
            FileContent::Null => each(blocks, None),
            FileContent::Small(small) => each(blocks, Some(self.small.place(small))),
            FileContent::Large(number) => {
                let slices = read(&self.slices);
                for piece in self.large.pieces(number, inode.size(), &slices) {
                    match piece {
                        ContentPiece::Null { blocks } => each(blocks, None),
                        ContentPiece::Slice { id, blocks } => each(blocks, Some(slices.place(id))),
                    }
                }
            }
        }
    }

    /// Forgets contents of a layer that got no position: files that later entries of the same tar replaced. No slice
    /// may be on its way.
    pub(crate) fn forget_unplaced(&mut self) {
        self.small.forget_unplaced();
        write(&self.slices).forget_unplaced();
    }
}

/// Turns a run into one of the EROFS writer's, given the first block of each device in the data area.
pub(crate) fn to_run(blocks: u64, place: Option<ContentPlace>, base: impl Fn(u16) -> u64) -> BlockRun {
    let start = place.map(|place| base(place.device) + u64::from(place.block));
    BlockRun { blocks, start, device: place.map_or(0, |place| place.device.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_its_32_bits() {
        for content in [
            FileContent::Empty,
            FileContent::Null,
            FileContent::Small(SmallId(0)),
            FileContent::Small(SmallId(MAX_CONTENTS - 1)),
            FileContent::Large(0),
            FileContent::Large(MAX_CONTENTS - 1),
        ] {
            assert_eq!(FileContent::of(content.id()), content);
        }
    }
}
