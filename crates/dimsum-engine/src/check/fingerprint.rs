//! What makes two contents equal, for trees that come from different places.
//!
//! The fingerprint covers each block of 4 KiB that is not all zeros, together with its number. So it does not matter
//! what a source calls a hole, and a hole of terabytes costs nothing. With the size it determines the content.

use std::convert::Infallible;

use dimsum_format::BLOCK;
use dimsum_tree::{ContentId, ContentSink};

/// The fingerprint of one content.
pub(super) type Fingerprint = blake3::Hash;

/// Takes the bytes of one file in order.
#[derive(Debug)]
pub(super) struct Hasher {
    hasher: blake3::Hasher,
    /// Number of the block that is being filled.
    block: u64,
    partial: Vec<u8>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { hasher: blake3::Hasher::new(), block: 0, partial: Vec::with_capacity(BLOCK) }
    }
}

impl Hasher {
    /// Takes the next bytes.
    pub(super) fn data(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK - self.partial.len();
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            bytes = later;
            if self.partial.is_empty() && now.len() == BLOCK {
                add(&mut self.hasher, &mut self.block, now);
                continue;
            }
            self.partial.extend_from_slice(now);
            if self.partial.len() == BLOCK {
                self.close_block();
            }
        }
    }

    /// Takes `length` zeros.
    pub(super) fn zeros(&mut self, mut length: u64) {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let block = BLOCK as u64;
        if !self.partial.is_empty() {
            let fill = ZEROS.get(self.partial.len()..).unwrap_or_default();
            let fill = fill.get(..usize::try_from(length).unwrap_or(BLOCK)).unwrap_or(fill);
            length -= fill.len() as u64;
            self.data(fill);
        }
        self.block = self.block.saturating_add(length / block);
        let rest = usize::try_from(length % block).ok().and_then(|rest| ZEROS.get(..rest)).unwrap_or_default();
        self.data(rest);
    }

    /// Ends the file.
    #[must_use]
    pub(super) fn finish(mut self) -> Fingerprint {
        if !self.partial.is_empty() {
            self.close_block();
        }
        self.hasher.finalize()
    }

    fn close_block(&mut self) {
        add(&mut self.hasher, &mut self.block, &self.partial);
        self.partial.clear();
    }
}

fn add(hasher: &mut blake3::Hasher, block: &mut u64, bytes: &[u8]) {
    if bytes.iter().any(|&byte| byte != 0) {
        hasher.update(&block.to_le_bytes());
        // The length tells a short last block from one that ends in zeros; the size decides that anyway.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    *block = block.saturating_add(1);
}

/// Collects the fingerprints of all files of a source; a content's handle is its place in the list.
#[derive(Debug, Default)]
pub(super) struct FingerprintSink {
    current: Hasher,
    done: Vec<Fingerprint>,
}

impl FingerprintSink {
    /// Returns the fingerprint behind a handle.
    #[must_use]
    pub(super) fn get(&self, content: ContentId) -> Option<Fingerprint> {
        self.done.get(content.get() as usize).copied()
    }
}

impl ContentSink for FingerprintSink {
    type Error = Infallible;

    fn begin(&mut self, _size: u64) -> Result<(), Infallible> {
        self.current = Hasher::default();
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.current.data(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), Infallible> {
        self.current.zeros(length);
        Ok(())
    }

    fn end(&mut self) -> Result<ContentId, Infallible> {
        let id = ContentId::new(u32::try_from(self.done.len()).unwrap_or(u32::MAX));
        self.done.push(std::mem::take(&mut self.current).finish());
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[Result<&[u8], u64>]) -> Fingerprint {
        let mut hasher = Hasher::default();
        for piece in pieces {
            match piece {
                Ok(bytes) => hasher.data(bytes),
                Err(zeros) => hasher.zeros(*zeros),
            }
        }
        hasher.finish()
    }

    #[test]
    fn it_does_not_matter_how_zeros_are_said_or_bytes_are_cut() {
        let mut whole = vec![1; 5000];
        whole.extend([0; 10_000]);
        whole.extend([2; 7]);
        let pieces = [Ok(&whole[..1]), Ok(&whole[1..5000]), Err(9_999), Ok(&[0]), Ok(&[2; 7][..])];
        assert_eq!(of(&[Ok(&whole)]), of(&pieces));
        assert_eq!(of(&[Err(1 << 44)]), of(&[]));
    }

    #[test]
    fn every_byte_and_its_place_matter() {
        let whole = [3; 9000];
        let mut other = whole;
        other[8999] = 4;
        assert_ne!(of(&[Ok(&whole)]), of(&[Ok(&other)]));
        assert_ne!(of(&[Ok(&whole), Err(4096)]), of(&[Err(4096), Ok(&whole)]));
        assert_ne!(of(&[Ok(b"a"), Err(4096), Ok(b"b")]), of(&[Ok(b"a"), Err(4097), Ok(b"b")]));
    }
}
