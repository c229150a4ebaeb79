//! Writes the operations of a recipe: the sequence of literals, zeros and device ranges that gives the tar.

use std::fmt;

use dimsum_format::BLOCK_U64;

use crate::error::RecipeError;
use crate::section::{Section, SectionOut};
use crate::temporary::TemporaryFiles;
use crate::varint;

/// Kinds of operations: the two lowest bits of the number that starts one.
pub(crate) const LITERAL: u64 = 0;
pub(crate) const ZEROS: u64 = 1;
pub(crate) const CONTENT: u64 = 2;
pub(crate) const KIND_BITS: u32 = 2;

/// Writes operations in the order of the tar.
pub struct OperationWriter {
    operations: SectionOut,
    literals: SectionOut,
    /// Bytes of a literal that may go on.
    pending: u64,
    /// The device of the last content, and the block behind it, where the next one is expected.
    device: u64,
    expected: u64,
    /// References to devices so far.
    references: u64,
}

impl OperationWriter {
    /// Starts with two temporary files.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn new(temporaries: &TemporaryFiles) -> Result<Self, RecipeError> {
        Ok(Self {
            operations: SectionOut::new(temporaries)?,
            literals: SectionOut::new(temporaries)?,
            pending: 0,
            device: 0,
            expected: 0,
            references: 0,
        })
    }

    /// Returns the number of references to devices so far.
    #[must_use]
    pub const fn references(&self) -> u64 {
        self.references
    }

    /// Adds bytes that are in no device.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn literal(&mut self, bytes: &[u8]) -> Result<(), RecipeError> {
        self.pending += bytes.len() as u64;
        self.literals.put(bytes)
    }

    /// Adds zeros.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn zeros(&mut self, count: u64) -> Result<(), RecipeError> {
        self.flush()?;
        self.put(&[count << KIND_BITS | ZEROS])
    }

    /// Adds `count` bytes of a device, given by its number in the recipe, from byte `at` on.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn content(&mut self, device: u64, at: u64, count: u64) -> Result<(), RecipeError> {
        self.flush()?;
        self.references += 1;
        if device != self.device {
            self.expected = 0;
        }
        let step = varint::zigzag(at.cast_signed().wrapping_sub(self.expected.cast_signed()));
        self.put(&[count << KIND_BITS | CONTENT, device, step])?;
        (self.device, self.expected) = (device, expected(at, count));
        Ok(())
    }

    /// Ends the operations; returns them and the literals.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn finish(mut self) -> Result<(Section, Section), RecipeError> {
        self.flush()?;
        Ok((self.operations.finish()?, self.literals.finish()?))
    }

    fn flush(&mut self) -> Result<(), RecipeError> {
        match std::mem::take(&mut self.pending) {
            0 => Ok(()),
            count => self.put(&[count << KIND_BITS | LITERAL]),
        }
    }

    fn put(&mut self, numbers: &[u64]) -> Result<(), RecipeError> {
        let mut bytes = Vec::new();
        for &number in numbers {
            varint::put(&mut bytes, number);
        }
        self.operations.put(&bytes)
    }
}

impl fmt::Debug for OperationWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("references", &self.references).finish_non_exhaustive()
    }
}

/// Where content behind other content is expected: on the next whole block.
pub(crate) const fn expected(at: u64, count: u64) -> u64 {
    at.saturating_add(count).next_multiple_of(BLOCK_U64)
}
