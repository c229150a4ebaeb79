//! One bit per slot of the image.

use crate::ondisk::SLOT;

/// Bits of a word.
const BITS: u64 = u64::BITS as u64;

/// A bit per 32 bytes of an image: 16 MiB for the largest.
#[derive(Debug)]
pub(super) struct BlockBitmap {
    words: Vec<u64>,
}

impl BlockBitmap {
    /// Covers an image of this many bytes.
    pub(super) fn new(image_len: u64) -> Self {
        let words = image_len.div_ceil(SLOT).div_ceil(BITS);
        Self { words: vec![0; usize::try_from(words).expect("an image has less than 4 GiB")] }
    }

    /// Sets the bits of all slots that these bytes touch; returns false if one was set already, or is not in the image.
    pub(super) fn take(&mut self, start: u64, end: u64) -> bool {
        (start / SLOT..end.div_ceil(SLOT)).all(|slot| self.set(slot))
    }

    /// Sets the bit of a slot; returns whether it was clear.
    fn set(&mut self, slot: u64) -> bool {
        let word = usize::try_from(slot / BITS).ok().and_then(|word| self.words.get_mut(word));
        let bit = 1 << (slot % BITS);
        word.is_some_and(|word| {
            let clear = *word & bit == 0;
            *word |= bit;
            clear
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_can_be_taken_once() {
        let mut map = BlockBitmap::new(8192);
        assert!(map.take(1152, 1153));
        assert!(!map.take(1183, 1184));
        assert!(map.take(1184, 4096));
        assert!(!map.take(1000, 2000));
        assert!(map.take(4096, 8192));
        assert!(!map.take(1 << 40, (1 << 40) + 1));
    }
}
