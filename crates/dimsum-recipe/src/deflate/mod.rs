//! Splits a DEFLATE stream into its text and the choices of its compressor, and joins them again (RFC 1951).
//!
//! ```text
//!   stream ─ parse ─▸ blocks of tokens ─┐
//!                      text ─▸ model ───┴ compare ─▸ corrections
//!   corrections, text ─▸ model ─▸ tokens ─▸ stream, bit by bit
//! ```

mod bits;
mod codes;
mod model;

use self::bits::{BitReader, BitWriter};
use self::codes::{END, Pair};
use self::model::{Model, STYLES, Token};
use crate::effort::{Effort, TooMuchWork};
use crate::varint::put;

/// Numbers of the styles.
pub(crate) const STYLE_COUNT: u8 = STYLES.len() as u8;

/// Why a stream is not described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescribeStop {
    /// No block ends in the bytes that were given.
    More,
    /// It is no DEFLATE stream, or has something that cannot be written again.
    Odd,
    /// The text of its blocks is too long.
    Long,
    /// To write it again would be too much work.
    Work,
}

/// A block of a stream.
struct DeflateBlock {
    /// Whole bytes of the stream before it, of those that were given.
    at: usize,
    last: bool,
    kind: BlockKind,
    /// Bytes of the text.
    length: usize,
}

enum BlockKind {
    Stored,
    Coded {
        /// Bits that describe the codes, none where they are fixed.
        header: Vec<u8>,
        header_bits: usize,
        tokens: Vec<Token>,
    },
}

/// Some blocks of a stream.
pub(crate) struct DescribedBlocks {
    /// Whole bytes of the stream that are done; the next block may start in the byte behind them.
    pub(crate) used: usize,
    /// The stream has ended, and `used` counts its last byte.
    pub(crate) ended: bool,
    /// The text of the blocks.
    pub(crate) text: Vec<u8>,
    /// How many tokens there are, and how many were foreseen wrong.
    pub(crate) tokens: usize,
    pub(crate) wrong: usize,
    pub(crate) corrections: Vec<u8>,
}

/// Takes a stream apart.
pub(crate) struct StreamDescriber {
    model: Model,
    /// Bits of the first byte that are done.
    bit: usize,
    /// The last 32 KiB of text.
    window: Vec<u8>,
}

impl StreamDescriber {
    pub(crate) fn new(style: u8) -> Option<Self> {
        let style = *STYLES.get(usize::from(style))?;
        Some(Self { model: Model::new(style), bit: 0, window: Vec::new() })
    }

    /// Describes the whole blocks at the start of `bytes`, of which at most `limit` bytes of text.
    pub(crate) fn describe(
        &mut self,
        bytes: &[u8],
        limit: usize,
        effort: &mut Effort,
    ) -> Result<DescribedBlocks, DescribeStop> {
        let mut input = BitReader::new(bytes, self.bit);
        let mut text = std::mem::take(&mut self.window);
        let before = text.len();
        let mut blocks = Vec::new();
        let mut ended = false;
        let stop = loop {
            let (start, mut end) = (text.len(), input);
            match parse(&mut end, &mut text, before + limit) {
                Ok(block) => {
                    input = end;
                    ended = block.last;
                    blocks.push(block);
                    if ended {
                        break None;
                    }
                }
                Err(stop) => {
                    text.truncate(start);
                    break Some(stop);
                }
            }
        };
        if ended && input.align() != Some(0) {
            return Err(DescribeStop::Odd);
        }
        if let (Some(stop), true) = (stop, blocks.is_empty()) {
            self.window = text;
            return Err(stop);
        }
        if stop == Some(DescribeStop::Odd) {
            return Err(DescribeStop::Odd);
        }
        let own = text.get(before..).unwrap_or_default().to_vec();
        self.model.add(&own);
        let mut described =
            DescribedBlocks { used: input.at() / 8, ended, text: own, tokens: 0, wrong: 0, corrections: Vec::new() };
        put(&mut described.corrections, blocks.len() as u64);
        for block in &blocks {
            self.compare(block, &mut described, effort).map_err(|_| DescribeStop::Work)?;
        }
        effort.give(described.used);
        self.bit = input.at() % 8;
        let keep = text.len().saturating_sub(1 << 15);
        text.drain(..keep);
        self.window = text;
        Ok(described)
    }

    fn compare(
        &mut self,
        block: &DeflateBlock,
        out: &mut DescribedBlocks,
        effort: &mut Effort,
    ) -> Result<(), TooMuchWork> {
        let most = effort.most(block.at);
        let kind = match &block.kind {
            BlockKind::Stored => 0,
            BlockKind::Coded { header_bits: 0, .. } => 1,
            BlockKind::Coded { .. } => 2,
        };
        let bytes = &mut out.corrections;
        put(bytes, (block.length as u64) << 3 | kind << 1 | u64::from(block.last));
        let BlockKind::Coded { header, header_bits, tokens } = &block.kind else {
            self.model.pass_stored(block.length);
            return effort.check(most);
        };
        if *header_bits > 0 {
            effort.codes();
            put(bytes, *header_bits as u64);
            bytes.extend_from_slice(header);
        }
        let (mut wrong, mut notes, mut right) = (0, Vec::new(), 0);
        for &token in tokens {
            let foreseen = self.model.predict();
            effort.search(self.model.looked());
            effort.check(most)?;
            if foreseen == token {
                right += 1;
            } else {
                wrong += 1;
                put(&mut notes, right);
                right = 0;
                match token {
                    Token::Literal => put(&mut notes, 0),
                    Token::Match { length, distance } => {
                        put(&mut notes, u64::from(length) - 2);
                        put(&mut notes, distance.into());
                    }
                }
            }
            self.model.pass(token);
        }
        out.tokens += tokens.len();
        out.wrong += wrong;
        put(bytes, wrong as u64);
        bytes.extend_from_slice(&notes);
        effort.check(most)
    }
}

/// Reads one block; its text goes behind `text`.
fn parse(input: &mut BitReader<'_>, text: &mut Vec<u8>, limit: usize) -> Result<DeflateBlock, DescribeStop> {
    let (start, at) = (text.len(), input.at() / 8);
    let last = input.take(1).ok_or(DescribeStop::More)? == 1;
    let kind = input.take(2).ok_or(DescribeStop::More)?;
    if kind == 0 {
        if input.align().ok_or(DescribeStop::More)? != 0 {
            return Err(DescribeStop::Odd);
        }
        let length = input.take(16).ok_or(DescribeStop::More)?;
        if input.take(16).ok_or(DescribeStop::More)? != length ^ 0xffff {
            return Err(DescribeStop::Odd);
        }
        text.extend_from_slice(input.bytes(length as usize).ok_or(DescribeStop::More)?);
        if text.len() > limit {
            return Err(DescribeStop::Long);
        }
        return Ok(DeflateBlock { at, last, kind: BlockKind::Stored, length: length as usize });
    }
    let header_at = input.at();
    let own = if kind == 2 { Pair::read(input).ok_or(DescribeStop::More)? } else { None };
    let pair = match kind {
        1 => Pair::fixed(),
        _ => own.as_ref(),
    };
    let pair = pair.ok_or(DescribeStop::Odd)?;
    let header_bits = input.at() - header_at;
    let header = BitReader::copy(input, header_at, header_bits);
    let mut tokens = Vec::new();
    loop {
        let before = *input;
        let Some(symbol) = pair.literals.read(input) else { return Err(before.stop()) };
        match u8::try_from(symbol) {
            Ok(byte) => {
                text.push(byte);
                tokens.push(Token::Literal);
            }
            Err(_) if symbol == END => break,
            Err(_) => {
                let Some(read) = pair.read_match(symbol, input) else { return Err(before.stop()) };
                let (length, distance) = read.ok_or(DescribeStop::Odd)?;
                let from = text.len().checked_sub(distance.into()).ok_or(DescribeStop::Odd)?;
                for at in from..from + usize::from(length) {
                    let byte = text.get(at).copied().unwrap_or(0);
                    text.push(byte);
                }
                tokens.push(Token::Match { length, distance });
            }
        }
        if text.len() > limit {
            return Err(DescribeStop::Long);
        }
    }
    Ok(DeflateBlock { at, last, kind: BlockKind::Coded { header, header_bits, tokens }, length: text.len() - start })
}

/// Puts a stream together.
pub(crate) struct StreamMaker {
    model: Model,
    out: BitWriter,
}

/// Why no stream is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MakeError {
    /// The corrections make no sense.
    Nonsense,
    /// It is too much work.
    Work(TooMuchWork),
}

impl From<TooMuchWork> for MakeError {
    fn from(error: TooMuchWork) -> Self {
        Self::Work(error)
    }
}

impl StreamMaker {
    pub(crate) fn new(style: u8) -> Option<Self> {
        let style = *STYLES.get(usize::from(style))?;
        Some(Self { model: Model::new(style), out: BitWriter::default() })
    }

    /// Returns the next bytes of the stream, as far as they are whole, for the next bytes of the text and their
    /// corrections.
    pub(crate) fn make(
        &mut self,
        text: &[u8],
        mut corrections: &[u8],
        effort: &mut Effort,
    ) -> Result<Vec<u8>, MakeError> {
        self.model.add(text);
        let input = &mut corrections;
        let blocks = get(input)?;
        for _ in 0..blocks {
            self.block(input, effort)?;
        }
        if self.model.left() > 0 || !input.is_empty() {
            return Err(MakeError::Nonsense);
        }
        effort.give(self.out.bytes.len());
        Ok(std::mem::take(&mut self.out.bytes))
    }

    fn block(&mut self, input: &mut &[u8], effort: &mut Effort) -> Result<(), MakeError> {
        let most = effort.most(self.out.bytes.len());
        let number = get(input)?;
        let length = usize::try_from(number >> 3).ok().filter(|&length| length <= self.model.left());
        let length = length.ok_or(MakeError::Nonsense)?;
        let (kind, last) = (number >> 1 & 3, number & 1 == 1);
        self.out.put(last.into(), 1);
        self.out.put(u32::try_from(kind).map_err(|_| MakeError::Nonsense)?, 2);
        match kind {
            0 => self.stored(length)?,
            1 => self.coded(Pair::fixed().ok_or(MakeError::Nonsense)?, length, input, (effort, most))?,
            2 => {
                effort.codes();
                let bits = usize::try_from(get(input)?).map_err(|_| MakeError::Nonsense)?;
                let (header, rest) = input.split_at_checked(bits.div_ceil(8)).ok_or(MakeError::Nonsense)?;
                *input = rest;
                let mut reader = BitReader::new(header, 0);
                let pair = Pair::read(&mut reader).flatten().ok_or(MakeError::Nonsense)?;
                if reader.at() != bits {
                    return Err(MakeError::Nonsense);
                }
                let mut reader = BitReader::new(header, 0);
                for _ in 0..bits {
                    self.out.put(reader.take(1).ok_or(MakeError::Nonsense)?, 1);
                }
                self.coded(&pair, length, input, (effort, most))?;
            }
            _ => return Err(MakeError::Nonsense),
        }
        if last {
            self.out.align();
        }
        Ok(effort.check(most)?)
    }

    fn stored(&mut self, length: usize) -> Result<(), MakeError> {
        let count = u16::try_from(length).map_err(|_| MakeError::Nonsense)?;
        self.out.align();
        self.out.put(count.into(), 16);
        self.out.put((!count).into(), 16);
        let bytes = self.model.rest().get(..length).ok_or(MakeError::Nonsense)?;
        self.out.bytes.extend_from_slice(bytes);
        self.model.pass_stored(length);
        Ok(())
    }

    fn coded(
        &mut self,
        pair: &Pair,
        length: usize,
        input: &mut &[u8],
        (effort, most): (&mut Effort, u64),
    ) -> Result<(), MakeError> {
        let end = self.model.left() - length;
        let mut wrong = get(input)?;
        let mut right = if wrong > 0 { get(input)? } else { u64::MAX };
        while self.model.left() > end {
            let foreseen = self.model.predict();
            effort.search(self.model.looked());
            effort.check(most)?;
            let token = if right > 0 {
                right -= 1;
                foreseen
            } else {
                let token = match get(input)? {
                    0 => Token::Literal,
                    length => {
                        let length = u16::try_from(length.saturating_add(2)).map_err(|_| MakeError::Nonsense)?;
                        let distance = u16::try_from(get(input)?).map_err(|_| MakeError::Nonsense)?;
                        Token::Match { length, distance }
                    }
                };
                wrong -= 1;
                right = if wrong > 0 { get(input)? } else { u64::MAX };
                token
            };
            match token {
                Token::Literal => {
                    let byte = self.model.rest().first().copied().ok_or(MakeError::Nonsense)?;
                    pair.write_literal(byte, &mut self.out).ok_or(MakeError::Nonsense)?;
                }
                Token::Match { length, distance } => {
                    let fits = (3..=258).contains(&length)
                        && distance > 0
                        && usize::from(distance) <= self.model.reach()
                        && usize::from(length) <= self.model.left() - end;
                    if !fits {
                        return Err(MakeError::Nonsense);
                    }
                    pair.write_match(length, distance, &mut self.out).ok_or(MakeError::Nonsense)?;
                }
            }
            self.model.pass(token);
        }
        if wrong > 0 {
            return Err(MakeError::Nonsense);
        }
        pair.write_end(&mut self.out).ok_or(MakeError::Nonsense)
    }
}

fn get(input: &mut &[u8]) -> Result<u64, MakeError> {
    crate::varint::need(input, "corrections").map_err(|_| MakeError::Nonsense)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// Text with matches near and far, and noise.
    fn text(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut text: Vec<u8> = Vec::new();
        while text.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [a, b, c, d, ..] = state.to_le_bytes();
            let (from, count) = (usize::from(a) << 8 | usize::from(b), usize::from(c % 40));
            let from = text.len().saturating_sub(from);
            if d % 4 > 0 && from + count <= text.len() {
                text.extend_from_within(from..from + count);
            } else {
                text.extend_from_slice(&[a, b & 0x0f]);
            }
        }
        text
    }

    fn deflated(text: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Describes a stream of which `step` bytes more are known at each try.
    fn described(stream: &[u8], style: u8, step: usize) -> Vec<DescribedBlocks> {
        let (mut describer, mut effort) = (StreamDescriber::new(style).unwrap(), Effort::default());
        let (mut at, mut size, mut all) = (0, step, Vec::new());
        loop {
            match describer.describe(&stream[at..stream.len().min(at + size)], 1 << 20, &mut effort) {
                Ok(described) => {
                    at += described.used;
                    size = step;
                    all.push(described);
                    if all.last().unwrap().ended {
                        assert_eq!(at, stream.len());
                        return all;
                    }
                }
                Err(DescribeStop::More) if at + size < stream.len() => size += step,
                Err(stop) => panic!("{stop:?}"),
            }
        }
    }

    #[test]
    fn every_stream_comes_back_whatever_the_style_and_the_steps() {
        let text = text(60_000);
        for level in [0, 1, 3, 6, 9] {
            let stream = deflated(&text, level);
            for style in 0..STYLE_COUNT {
                for step in [stream.len(), 5_000] {
                    let (mut maker, mut effort) = (StreamMaker::new(style).unwrap(), Effort::default());
                    let (mut made, mut read) = (Vec::new(), Vec::new());
                    for chunk in described(&stream, style, step) {
                        made.extend(maker.make(&chunk.text, &chunk.corrections, &mut effort).unwrap());
                        read.extend(chunk.text);
                    }
                    assert!(made == stream && read == text, "level {level}, style {style}, step {step}");
                }
            }
        }
    }

    #[test]
    fn false_corrections_give_nonsense_or_a_stream_no_longer_than_they_say() {
        let text = text(20_000);
        let stream = deflated(&text, 6);
        let chunk = described(&stream, 0, stream.len()).pop().unwrap();
        let make = |bad: &[u8]| StreamMaker::new(0).unwrap().make(&chunk.text, bad, &mut Effort::default());
        for at in (0..chunk.corrections.len()).step_by(7) {
            let mut bad = chunk.corrections.clone();
            bad[at] ^= 1 << (at % 8);
            if let Ok(made) = make(&bad) {
                // A token has at most 48 bits, and there is one for each byte at the most.
                assert!(made.len() < 6 * text.len() + bad.len());
            }
            assert!(make(&chunk.corrections[..at]).is_err());
        }
        assert!(StreamMaker::new(STYLE_COUNT).is_none());
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let describe = |bytes: &[u8]| StreamDescriber::new(0).unwrap().describe(bytes, 1 << 20, &mut Effort::default());
        for bytes in [&[0x07][..], &[0x01, 1, 0, 0, 0], &[0xff; 100], &[0x05, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(describe(bytes).is_err());
        }
        let bomb = deflated(&vec![0; 3_000_000], 9);
        assert!(matches!(describe(&bomb), Err(DescribeStop::Long) | Ok(_)));
    }
}
