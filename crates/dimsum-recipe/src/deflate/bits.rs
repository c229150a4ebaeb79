//! Bits in the order of DEFLATE: the lowest bit of a byte first.

/// Reads bits of a slice; missing bits are not consumed.
#[derive(Clone, Copy)]
pub(super) struct BitReader<'b> {
    bytes: &'b [u8],
    /// Bits read so far.
    at: usize,
}

impl<'b> BitReader<'b> {
    /// Starts at a bit.
    pub(super) const fn new(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Bits there are.
    pub(super) const fn bits(&self) -> usize {
        self.bytes.len() * 8
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// Returns up to 32 bits without consuming them, zeros behind the end.
    pub(super) fn peek(&self) -> u32 {
        let start = self.at / 8;
        let word = match self.bytes.get(start..).and_then(<[u8]>::first_chunk::<8>) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => {
                let rest = self.bytes.get(start..).unwrap_or_default();
                rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
            }
        };
        let [a, b, c, d, ..] = (word >> (self.at % 8)).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Consumes bits; none if there are not so many.
    pub(super) const fn skip(&mut self, count: usize) -> Option<()> {
        let at = self.at + count;
        if at > self.bytes.len() * 8 {
            return None;
        }
        self.at = at;
        Some(())
    }

    /// Reads at most 25 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let value = self.peek() & ((1 << count) - 1);
        self.skip(count as usize)?;
        Some(value)
    }

    /// Goes to the next whole byte; returns the bits that were skipped.
    pub(super) fn align(&mut self) -> Option<u32> {
        let odd = self.at % 8;
        self.take(if odd == 0 { 0 } else { 8 - u32::try_from(odd).unwrap_or(0) })
    }

    /// Reads whole bytes; the position is one.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let start = self.at / 8;
        let bytes = self.bytes.get(start..start.checked_add(count)?)?;
        self.skip(count * 8)?;
        Some(bytes)
    }
}

/// Writes bits.
#[derive(Default)]
pub(super) struct BitWriter {
    pub(super) bytes: Vec<u8>,
    hold: u64,
    held: u32,
}

impl BitWriter {
    /// Writes at most 32 bits.
    pub(super) fn put(&mut self, value: u32, count: u32) {
        self.hold |= u64::from(value) << self.held;
        self.held += count;
        while self.held >= 8 {
            let [low, ..] = self.hold.to_le_bytes();
            self.bytes.push(low);
            self.hold >>= 8;
            self.held -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        if self.held > 0 {
            self.put(0, 8 - self.held);
        }
    }
}

impl BitReader<'_> {
    /// Copies bits into whole bytes.
    pub(super) fn copy(&self, at: usize, bits: usize) -> Vec<u8> {
        let mut reader = Self { bytes: self.bytes, at };
        let mut writer = BitWriter::default();
        for _ in 0..bits {
            writer.put(reader.take(1).unwrap_or(0), 1);
        }
        writer.align();
        writer.bytes
    }

    /// Says why nothing could be read: no symbol and what belongs to it has more than 48 bits.
    pub(super) const fn stop(&self) -> super::DescribeStop {
        if self.at + 48 > self.bytes.len() * 8 { super::DescribeStop::More } else { super::DescribeStop::Odd }
    }
}
