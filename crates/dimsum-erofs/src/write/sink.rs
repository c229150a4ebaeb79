//! Writes bytes out and counts them.

use std::io::{self, Write};

use zerocopy::{FromBytes, IntoBytes};

use crate::ondisk::{BLOCK, BLOCK_LEN, SUPERBLOCK_OFFSET, Superblock};

/// Bytes gathered before they go out: items are small and the writer behind may hash or compress.
const BUFFER: usize = 64 * 1024;

/// Counts and gathers bytes, and puts the checksum into block 0 before that goes out.
#[derive(Debug)]
pub(super) struct ImageWriter<'w, W> {
    out: &'w mut W,
    buffer: Vec<u8>,
    /// Where the buffer starts.
    start: u64,
    checksum: bool,
}

impl<'w, W: Write> ImageWriter<'w, W> {
    pub(super) fn new(out: &'w mut W, checksum: bool) -> Self {
        Self { out, buffer: Vec::with_capacity(2 * BUFFER), start: 0, checksum }
    }

    /// Returns how many bytes came in.
    pub(super) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Fills with zeros up to a position.
    pub(super) fn pad_to(&mut self, position: u64) -> io::Result<()> {
        while let Some(gap) = position.checked_sub(self.position()).filter(|&gap| gap > 0) {
            let piece = gap.min(BUFFER as u64) as usize;
            self.buffer.resize(self.buffer.len() + piece, 0);
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Fills the block with zeros.
    pub(super) fn pad_block(&mut self) -> io::Result<()> {
        self.pad_to(self.position().next_multiple_of(BLOCK))
    }

    /// Sends the gathered bytes. Must not be called before block 0 is whole.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.start == 0 && self.checksum {
            set_checksum(&mut self.buffer);
        }
        self.start += self.buffer.len() as u64;
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Puts the checksum of block 0 into its superblock.
fn set_checksum(image: &mut [u8]) {
    let Some(bytes) = image.get_mut(SUPERBLOCK_OFFSET..BLOCK_LEN) else { return };
    let Ok((superblock, behind)) = Superblock::mut_from_prefix(bytes) else { return };
    let checksum = superblock.checksum_with(behind);
    superblock.checksum = checksum.into();
    debug_assert_eq!(superblock.checksum.as_bytes(), checksum.to_le_bytes());
}
