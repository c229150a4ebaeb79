//! What of a device was seen already.

use std::ops::Range;

/// Bits of a word of the bitmap.
const WORD: u32 = u64::BITS;

/// Which blocks of a device were seen: 32 KiB for each GiB.
#[derive(Debug)]
pub(super) struct Bitmap(Vec<u64>);

impl Bitmap {
    pub(super) fn new(blocks: u32) -> Self {
        Self(vec![0; blocks.div_ceil(WORD) as usize])
    }

    /// Sets a range and returns how many were not set before.
    pub(super) fn set(&mut self, blocks: Range<u32>) -> u32 {
        let mut new = 0_u32;
        let mut at = blocks.start;
        while at < blocks.end {
            let (first, end) = (at % WORD, (at / WORD + 1).saturating_mul(WORD).min(blocks.end));
            let ones = (u64::MAX >> (WORD - (end - at))) << first;
            if let Some(word) = self.0.get_mut((at / WORD) as usize) {
                new = new.saturating_add((ones & !*word).count_ones());
                *word |= ones;
            }
            at = end;
        }
        new
    }
}

/// Numbers from which on to go: to the next one that is not done, in nearly no time however many are.
#[derive(Debug, Default)]
pub(super) struct Skips(Vec<u32>);

impl Skips {
    pub(super) fn new(count: usize) -> Self {
        Self((0..u32::try_from(count).unwrap_or(u32::MAX)).collect())
    }

    /// Returns the first number from `at` on that is not done; one behind the last if there is none.
    pub(super) fn next(&mut self, at: u32) -> u32 {
        let target = |skips: &[u32], at: u32| skips.get(at as usize).copied().unwrap_or(at);
        let mut end = at;
        while target(&self.0, end) != end {
            end = target(&self.0, end);
        }
        // Whoever comes this way again goes there at once.
        let mut here = at;
        while here != end {
            let behind = target(&self.0, here);
            if let Some(skip) = self.0.get_mut(here as usize) {
                *skip = end;
            }
            here = behind;
        }
        end
    }

    pub(super) fn finish(&mut self, at: u32) {
        if let Some(skip) = self.0.get_mut(at as usize) {
            *skip = (*skip).max(at.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_new_once() {
        let mut bitmap = Bitmap::new(300);
        assert_eq!(bitmap.set(60..70), 10);
        assert_eq!(bitmap.set(0..64), 60);
        assert_eq!(bitmap.set(64..192), 122);
        assert_eq!(bitmap.set(0..300), 300 - 192);
        assert_eq!(bitmap.set(0..300), 0);
        assert_eq!(bitmap.set(5..5), 0);
    }

    #[test]
    fn what_is_done_is_stepped_over() {
        let mut skips = Skips::new(6);
        for at in [1, 3, 2, 5] {
            assert_eq!(skips.next(at), at);
            skips.finish(at);
        }
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|at| skips.next(at)), [0, 4, 4, 4, 4, 6, 6, 7]);
        skips.finish(4);
        assert_eq!([0, 1, 5].map(|at| skips.next(at)), [0, 6, 6]);
        assert_eq!(skips.0[1], 6, "the way is short the second time");
    }
}
