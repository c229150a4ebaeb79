//! Huffman codes and the tables of RFC 1951.

use std::sync::OnceLock;

use super::bits::{BitReader, BitWriter};

/// Longest code.
const MAX_BITS: usize = 15;
/// Codes that are looked up at once when reading.
const FAST: u32 = 10;

pub(super) const END: u16 = 256;
const LENGTH_BASE: [u16; 29] =
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA: [u8; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/// Order of the lengths of code length codes.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// One code: its bits in the order of the stream, and how many.
#[derive(Clone, Copy, Default)]
struct Code {
    bits: u16,
    length: u8,
}

/// A set of codes, for reading and writing.
pub(super) struct Codes {
    codes: Vec<Code>,
    /// By the next [`FAST`] bits: symbol and length; length 0 if it is longer or none.
    fast: Vec<(u16, u8)>,
}

impl Codes {
    /// Makes codes of their lengths; none if they overlap. Codes need not be complete.
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut count = [0u32; MAX_BITS + 1];
        for &length in lengths {
            *count.get_mut(usize::from(length))? += 1;
        }
        let mut next = [0u32; MAX_BITS + 2];
        let mut code = 0;
        for bits in 1..=MAX_BITS {
            code = (code + if bits == 1 { 0 } else { *count.get(bits - 1)? }) << 1;
            *next.get_mut(bits)? = code;
            if code + count.get(bits)? > 1 << bits {
                return None;
            }
        }
        let mut codes = vec![Code::default(); lengths.len()];
        let mut fast = vec![(0, 0); 1 << FAST];
        for ((symbol, &length), slot) in (0u16..).zip(lengths).zip(&mut codes) {
            if length == 0 {
                continue;
            }
            let next = next.get_mut(usize::from(length))?;
            let bits = u16::try_from(*next).ok()?.reverse_bits() >> (16 - u32::from(length));
            *next += 1;
            *slot = Code { bits, length };
            if u32::from(length) <= FAST {
                let mut at = usize::from(bits);
                while let Some(entry) = fast.get_mut(at) {
                    *entry = (symbol, length);
                    at += 1 << length;
                }
            }
        }
        Some(Self { codes, fast })
    }

    pub(super) fn read(&self, input: &mut BitReader<'_>) -> Option<u16> {
        let ahead = input.peek();
        let &(symbol, length) = self.fast.get((ahead & ((1 << FAST) - 1)) as usize)?;
        if length > 0 {
            input.skip(usize::from(length))?;
            return Some(symbol);
        }
        // Long codes are rare.
        let fits =
            |code: &Code| u32::from(code.length) > FAST && ahead & ((1 << code.length) - 1) == u32::from(code.bits);
        let symbol = self.codes.iter().position(fits)?;
        input.skip(usize::from(self.codes.get(symbol)?.length))?;
        u16::try_from(symbol).ok()
    }

    /// Writes a symbol; none if it has no code.
    fn write(&self, symbol: usize, out: &mut BitWriter) -> Option<()> {
        let code = self.codes.get(symbol).filter(|code| code.length > 0)?;
        out.put(code.bits.into(), code.length.into());
        Some(())
    }
}

/// The two sets of codes of a block.
pub(super) struct Pair {
    pub(super) literals: Codes,
    pub(super) distances: Codes,
}

impl Pair {
    /// The codes of blocks that say none.
    pub(super) fn fixed() -> Option<&'static Self> {
        static FIXED: OnceLock<Option<Pair>> = OnceLock::new();
        FIXED.get_or_init(Self::make_fixed).as_ref()
    }

    fn make_fixed() -> Option<Self> {
        let mut lengths = [8; 288];
        lengths.get_mut(144..256)?.fill(9);
        lengths.get_mut(256..280)?.fill(7);
        Some(Self { literals: Codes::new(&lengths)?, distances: Codes::new(&[5; 30])? })
    }

    /// Reads the codes at the start of a block; the outer `None` is the end of the input, the inner one nonsense.
    pub(super) fn read(input: &mut BitReader<'_>) -> Option<Option<Self>> {
        let literals = input.take(5)? as usize + 257;
        let distances = input.take(5)? as usize + 1;
        let mut lengths = [0; 19];
        let count = input.take(4)? as usize + 4;
        for &at in ORDER.iter().take(count) {
            let length = u8::try_from(input.take(3)?).unwrap_or(0);
            if let Some(slot) = lengths.get_mut(at) {
                *slot = length;
            }
        }
        let Some(codes) = Codes::new(&lengths) else { return Some(None) };
        let mut all: Vec<u8> = Vec::with_capacity(320);
        while all.len() < literals + distances {
            let before = *input;
            let Some(symbol) = codes.read(input) else {
                // A code that is none, or the end.
                return if before.at() + 16 > before.bits() { None } else { Some(None) };
            };
            let (value, times) = match symbol {
                16 => match all.last() {
                    Some(&last) => (last, input.take(2)? + 3),
                    None => return Some(None),
                },
                17 => (0, input.take(3)? + 3),
                18 => (0, input.take(7)? + 11),
                length => (u8::try_from(length).unwrap_or(0), 1),
            };
            all.resize(all.len() + times as usize, value);
        }
        if all.len() > literals + distances {
            return Some(None);
        }
        let (first, second) = all.split_at(literals);
        let pair = Codes::new(first).zip(Codes::new(second));
        Some(pair.map(|(literals, distances)| Self { literals, distances }))
    }

    /// Writes a match.
    pub(super) fn write_match(&self, length: u16, distance: u16, out: &mut BitWriter) -> Option<()> {
        let class = LENGTH_BASE.partition_point(|&base| base <= length).checked_sub(1)?;
        self.literals.write(257 + class, out)?;
        out.put((length - LENGTH_BASE.get(class)?).into(), (*LENGTH_EXTRA.get(class)?).into());
        let class = DISTANCE_BASE.partition_point(|&base| base <= distance).checked_sub(1)?;
        self.distances.write(class, out)?;
        out.put((distance - DISTANCE_BASE.get(class)?).into(), (*DISTANCE_EXTRA.get(class)?).into());
        Some(())
    }

    pub(super) fn write_literal(&self, byte: u8, out: &mut BitWriter) -> Option<()> {
        self.literals.write(byte.into(), out)
    }

    pub(super) fn write_end(&self, out: &mut BitWriter) -> Option<()> {
        self.literals.write(END.into(), out)
    }

    /// Reads what follows the symbol of a match: its length and distance. The inner `None` is nonsense, also a
    /// length that could be written shorter, which nobody does.
    pub(super) fn read_match(&self, symbol: u16, input: &mut BitReader<'_>) -> Option<Option<(u16, u16)>> {
        let class = usize::from(symbol) - 257;
        let (Some(base), Some(&extra)) = (LENGTH_BASE.get(class), LENGTH_EXTRA.get(class)) else { return Some(None) };
        let length = base + u16::try_from(input.take(extra.into())?).unwrap_or(0);
        if length == 258 && class != 28 {
            return Some(None);
        }
        let class = usize::from(self.distances.read(input)?);
        let (Some(base), Some(&extra)) = (DISTANCE_BASE.get(class), DISTANCE_EXTRA.get(class)) else {
            return Some(None);
        };
        let more = u16::try_from(input.take(extra.into())?).unwrap_or(0);
        Some(Some((length, base + more)))
    }
}
