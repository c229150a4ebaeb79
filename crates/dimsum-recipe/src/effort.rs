//! Bounds the work of making a blob.
//!
//! The notes of a compression come from outside. Text can be chosen so that each search looks at thousands of
//! places for a few bits, and streams can begin again and again. A byte of such a blob costs a thousand times
//! more than a byte of an ordinary blob.
//!
//! So work is counted where it is done, and must be in proportion to the bytes of the blob made so far. The
//! count depends on notes and text alone. The writer of notes counts the same, and does not write notes that a
//! reader would refuse.

use crate::error::RecipeError;

/// Work that may be ahead of the blob: the largest block of zlib, 2^14 tokens with two searches of 2^12 positions each.
/// A block's bytes are there only when it has ended.
const AHEAD: u64 = 1 << 27;
/// Work for each byte of the blob. Layers of the corpus take 16 to 30, and 100 to 390 if they are compressed with
/// `gzip -9`.
const PER_BYTE: u64 = 1 << 10;
/// The tables of a stream that begins, as so many places looked at.
const BEGIN: u64 = 1 << 14;
/// The tables of a block that says its codes.
const CODES: u64 = 1 << 10;

/// Work done for a blob, counted in places where a search for a match looked, and bytes that came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    spent: u64,
    given: u64,
}

/// More work than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuchWork {
    pub(crate) spent: u64,
    pub(crate) most: u64,
}

impl Effort {
    /// Counts the begin of a stream.
    pub(crate) const fn begin(&mut self) -> Result<(), TooMuchWork> {
        self.spent += BEGIN;
        self.check(self.most(0))
    }

    /// Counts the codes of a block.
    pub(crate) const fn codes(&mut self) {
        self.spent += CODES;
    }

    /// Counts places that were looked at.
    pub(crate) const fn search(&mut self, places: u64) {
        self.spent += places;
    }

    /// Counts bytes of the blob.
    pub(crate) const fn give(&mut self, bytes: usize) {
        self.given += bytes as u64;
    }

    /// Returns how much work there may be when `more` bytes are there, and a block begins.
    pub(crate) const fn most(&self, more: usize) -> u64 {
        AHEAD + PER_BYTE.saturating_mul(self.given.saturating_add(more as u64))
    }

    pub(crate) const fn check(&self, most: u64) -> Result<(), TooMuchWork> {
        if self.spent > most { Err(TooMuchWork { spent: self.spent, most }) } else { Ok(()) }
    }
}

impl From<TooMuchWork> for RecipeError {
    fn from(TooMuchWork { spent, most }: TooMuchWork) -> Self {
        Self::Limit { part: "work of the compression", value: spent, limit: most }
    }
}
