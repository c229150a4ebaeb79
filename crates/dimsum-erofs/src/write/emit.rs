//! Emits the bytes of an image, in order.

use std::io::{self, Write};

use dimsum_tree::{FileType, InodeId};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::layout::{ErofsLayout, inodes_with_parents};
use super::names::NameBlocks;
use super::runs::{BlockRun, FileData, Placements, map_entries};
use super::shape::{InodeBytes, InodeShape};
use super::sink::ImageWriter;
use super::xattrs::write_entry;
use crate::error::{PlanError, RunFault};
use crate::limits::MAX_BLOCKS;
use crate::ondisk::{self, BLOCK, INODE_AREA, NULL_ADDRESS, SLOT, SUPERBLOCK_OFFSET, Superblock};

/// The values that the layout does not know.
#[derive(Clone, Copy, Debug)]
pub struct WriteParams {
    /// Blocks of the meta: is added to every block of the data area.
    pub data_base: u32,
    /// Blocks of the whole flat image.
    pub total_blocks: u32,
    /// Names the image.
    pub uuid: [u8; 16],
    /// Whether to compute the superblock's checksum; it stays zero for the hash that the uuid comes from.
    pub checksum: bool,
}

impl ErofsLayout<'_> {
    /// Writes the image: [`blocks`](Self::blocks) blocks, from first to last, in pieces of 64 KiB. Each file's runs are
    /// asked for once.
    ///
    /// # Errors
    ///
    /// If `out` fails, or `placements` fails, says something else than to [`plan`](Self::plan), or has an
    /// address behind `total_blocks`.
    pub fn write(&self, placements: &dyn Placements, params: &WriteParams, out: &mut impl Write) -> io::Result<()> {
        let mut sink = ImageWriter::new(out, params.checksum);
        sink.pad_to(SUPERBLOCK_OFFSET as u64)?;
        sink.put(self.superblock(params).as_bytes())?;
        self.write_inodes(placements, params, &mut sink)?;
        sink.pad_block()?;
        self.write_shared(&mut sink)?;
        self.write_stored(&mut sink)?;
        if sink.position() != u64::from(self.blocks()) * BLOCK {
            return Err(changed());
        }
        sink.flush()
    }

    fn superblock(&self, params: &WriteParams) -> Superblock {
        let nid = self.nid(InodeId::ROOT);
        Superblock {
            magic: U32::new(ondisk::MAGIC),
            checksum: U32::ZERO,
            feature_compat: U32::new(ondisk::COMPAT_SUPERBLOCK_CHECKSUM | ondisk::COMPAT_MTIME),
            blkszbits: ondisk::BLOCK_BITS,
            extslots: 0,
            root_nid: U16::new(u16::try_from(nid).expect("the root is in one of the first two blocks")),
            inos: U64::new(self.tree.len() as u64),
            build_time: U64::new(self.common.seconds.cast_unsigned()),
            build_time_nsec: U32::new(self.common.nanoseconds),
            blocks: U32::new(params.total_blocks),
            meta_blkaddr: U32::ZERO,
            xattr_blkaddr: U32::new(self.xattr_blkaddr()),
            uuid: params.uuid,
            volume_name: [0; 16],
            feature_incompat: U32::new(ondisk::INCOMPAT_CHUNKED_FILE),
            compression: U16::ZERO,
            extra_devices: U16::ZERO,
            devt_slotoff: U16::ZERO,
            dirblkbits: 0,
            xattr_prefix_count: 0,
            xattr_prefix_start: U32::ZERO,
            packed_nid: U64::ZERO,
            xattr_filter_reserved: 0,
            reserved: [0; 23],
        }
    }

    fn write_inodes<W: Write>(
        &self,
        placements: &dyn Placements,
        params: &WriteParams,
        sink: &mut ImageWriter<'_, W>,
    ) -> io::Result<()> {
        debug_assert_eq!(sink.position(), INODE_AREA);
        let mut stored = self.stored_start;
        let mut runs = Vec::new();
        let mut bytes = Vec::new();
        for (id, parent) in inodes_with_parents(self.tree) {
            let shape = self.shape(placements, id, &mut runs)?;
            let start = match shape.bytes {
                InodeBytes::File(_) => first_address(&runs, params)?,
                _ => stored,
            };
            stored += shape.stored_blocks() as u32;
            let position = self.nid(id) * SLOT;
            if sink.position() > position {
                return Err(changed());
            }
            sink.pad_to(position)?;
            bytes.clear();
            shape.write_inode(id.index() as u32 + 1, start, &mut bytes);
            shape.xattrs.write(&self.shared, &mut bytes);
            sink.put(&bytes)?;
            self.write_behind(id, parent, &shape, &runs, params, sink)?;
        }
        Ok(())
    }

    /// Writes the inline tail or the block map.
    fn write_behind<W: Write>(
        &self,
        id: InodeId,
        parent: InodeId,
        shape: &InodeShape<'_>,
        runs: &[BlockRun],
        params: &WriteParams,
        sink: &mut ImageWriter<'_, W>,
    ) -> io::Result<()> {
        match shape.bytes {
            InodeBytes::Stored { blocks, tail: 1.. } if self.tree.inode(id).is_directory() => {
                let mut dir = NameBlocks::new(self.tree, id, parent);
                for _ in 0..blocks {
                    dir.next_block(self.tree, |id| self.nid(id));
                }
                sink.put(dir.next_block(self.tree, |id| self.nid(id)).unwrap_or_default())
            }
            InodeBytes::Stored { tail: 1.., .. } => sink.put(self.tree.symlink_target(id)),
            InodeBytes::File(FileData::Map { bits, entries }) => {
                for block in map_entries(runs, bits, entries) {
                    // The ends of all runs were held against the limits.
                    let address = block.map_or(NULL_ADDRESS, |block| block as u32 + params.data_base);
                    sink.put(&address.to_le_bytes())?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write_shared<W: Write>(&self, sink: &mut ImageWriter<'_, W>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for xattr in self.shared.area() {
            bytes.clear();
            write_entry(xattr, &mut bytes);
            sink.put(&bytes)?;
        }
        sink.pad_block()
    }

    /// Writes the blocks of directories and symbolic links.
    fn write_stored<W: Write>(&self, sink: &mut ImageWriter<'_, W>) -> io::Result<()> {
        for (id, parent) in inodes_with_parents(self.tree) {
            let file_type = self.tree.inode(id).file_type();
            if !matches!(file_type, FileType::Directory | FileType::Symlink) {
                continue;
            }
            let blocks = self.shape_of(id, None).stored_blocks();
            if file_type == FileType::Symlink {
                if blocks > 0 {
                    sink.put(self.tree.symlink_target(id))?;
                    sink.pad_block()?;
                }
                continue;
            }
            let mut dir = NameBlocks::new(self.tree, id, parent);
            for _ in 0..blocks {
                sink.put(dir.next_block(self.tree, |id| self.nid(id)).unwrap_or_default())?;
                sink.pad_block()?;
            }
        }
        Ok(())
    }
}

/// Holds all runs of a file against the length of the flat image; returns the address of the first.
fn first_address(runs: &[BlockRun], params: &WriteParams) -> io::Result<u32> {
    let end_of_all = u64::from(params.total_blocks).min(MAX_BLOCKS);
    for run in runs {
        let end = run.start.map_or(0, |start| start.saturating_add(run.blocks).saturating_add(params.data_base.into()));
        if end > end_of_all {
            return Err(io_error(RunFault::Address { block: end }));
        }
    }
    let first = runs.first().and_then(|run| run.start).unwrap_or_default();
    Ok(first as u32 + params.data_base)
}

fn io_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

impl From<PlanError> for io::Error {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Placements { source, .. } => source,
            other => io_error(other),
        }
    }
}

/// The placements are not those of the plan.
fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the placements of files have changed since the layout was planned")
}
