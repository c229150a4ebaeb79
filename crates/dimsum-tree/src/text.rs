//! All names and symbolic link targets of a tree, one behind the other.

use crate::error::EntryFault;
use crate::limits::MAX_TEXT;

/// Bytes that others refer to by offset and length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    bytes: Vec<u8>,
}

impl Text {
    /// Appends `bytes` and returns where they start.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<u32, EntryFault> {
        let start = self.bytes.len();
        if start.saturating_add(bytes.len()) > MAX_TEXT {
            return Err(EntryFault::TreeTooLarge { what: "bytes of names", limit: MAX_TEXT });
        }
        self.bytes.extend_from_slice(bytes);
        Ok(u32::try_from(start).expect("MAX_TEXT fits 32 bits"))
    }

    /// Returns the `length` bytes from `start`, both given out by [`push`](Self::push).
    pub(crate) fn get(&self, start: u32, length: usize) -> &[u8] {
        let start = start as usize;
        self.bytes.get(start..start + length).expect("offsets come from push")
    }

    /// Gives back what growing has reserved.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Returns the bytes held.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}
