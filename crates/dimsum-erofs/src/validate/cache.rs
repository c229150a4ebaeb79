//! A small cache before a source of bytes.
//!
//! The walk asks for 64 bytes here and 4 KiB there, and each question may cost the source a hash.

use std::cell::RefCell;

use crate::read::MetaRead;

/// Bytes read at once: a group, which is proven at once (`docs/format.md`, section 2).
const WINDOW: usize = 16 * 1024;
/// Windows kept: with inodes, directories and shared attributes in different places a handful is in use.
const WINDOWS: usize = 64;

/// Remembers the windows read last, each in the one place its number allows.
#[derive(Debug)]
pub(super) struct Cached<'m, M> {
    meta: &'m M,
    slots: RefCell<Vec<CacheSlot>>,
}

/// A place for a window.
#[derive(Debug, Clone, Default)]
struct CacheSlot {
    number: u64,
    /// Empty until something is read.
    bytes: Vec<u8>,
}

impl<'m, M: MetaRead> Cached<'m, M> {
    pub(super) fn new(meta: &'m M) -> Self {
        Self { meta, slots: RefCell::new(vec![CacheSlot::default(); WINDOWS]) }
    }

    /// Copies as much as one window has; returns how much that was.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> Result<usize, M::Error> {
        let number = offset / WINDOW as u64;
        let start = number * WINDOW as u64;
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut((number % WINDOWS as u64) as usize).expect("there are WINDOWS slots");
        if slot.bytes.is_empty() || slot.number != number {
            let length = self.meta.len().saturating_sub(start).min(WINDOW as u64) as usize;
            let mut bytes = std::mem::take(&mut slot.bytes);
            bytes.resize(length, 0);
            self.meta.read_at(start, &mut bytes)?;
            *slot = CacheSlot { number, bytes };
        }
        let bytes = slot.bytes.get((offset - start) as usize..).unwrap_or_default();
        let length = bytes.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(length)
    }
}

impl<M: MetaRead> MetaRead for Cached<'_, M> {
    type Error = M::Error;

    fn len(&self) -> u64 {
        self.meta.len()
    }

    fn read_at(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), M::Error> {
        while !buf.is_empty() {
            let length = self.read_some(offset, buf)?;
            if length == 0 {
                // Only behind the end, where the source itself has to answer.
                return self.meta.read_at(offset, buf);
            }
            offset += length as u64;
            buf = buf.get_mut(length..).unwrap_or_default();
        }
        Ok(())
    }
}
