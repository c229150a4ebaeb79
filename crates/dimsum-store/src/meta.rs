//! The gate of the meta: 16 KiB groups, proven from the meta root.

use crate::error::{MetaError, ReadError};

/// The meta of an open image.
#[derive(Debug)]
pub struct Meta {}

impl Meta {
    /// Returns the length of the uncompressed meta in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        0
    }

    /// Reads exactly `buf` at `offset`. Never waits.
    ///
    /// # Errors
    /// [`MetaError::Pending`] if a group has to be fetched: call [`Meta::when_ready`] with it, then read again.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), MetaError> {
        Err(MetaError::OutOfRange { range: offset..offset.saturating_add(buf.len() as u64), length: 0 })
    }

    /// Calls `ready` once `group` can be read or cannot be had, on a thread of the store, which it must not block.
    pub fn when_ready(&self, group: u64, ready: Box<dyn FnOnce(Result<(), ReadError>) + Send>) {
        let _ = group;
        ready(Err(ReadError::Closed));
    }

    /// Reads like [`Meta::read_at`] and waits for what is missing.
    ///
    /// # Errors
    /// If a group cannot be had.
    pub fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let _ = (offset, buf);
        Err(ReadError::Closed)
    }
}
