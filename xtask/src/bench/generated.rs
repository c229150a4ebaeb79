//! Made-up files that compress about as real ones do: by a generator with a fixed seed, so every run has the same bytes.

use std::io::Write;

use anyhow::{Context as _, Result};

/// Words of which text is made.
const WORDS: usize = 2048;
/// Bytes of one kind, before the next begins.
const STRETCH: usize = 1024;

/// A stream of bytes: text of words, common ones more often, and between it bytes like those of compiled or packed data.
#[derive(Debug)]
pub struct GeneratedContent {
    state: u64,
    words: Vec<Vec<u8>>,
}

impl GeneratedContent {
    pub fn new(seed: u64) -> Self {
        let mut content = Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, words: Vec::new() };
        content.words = (0..WORDS)
            .map(|_| (0..3 + content.below(8)).map(|_| b'a' + content.below(26) as u8).chain([b' ']).collect())
            .collect();
        content
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    /// The next bytes.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, length: usize) {
        buffer.clear();
        while buffer.len() < length {
            let end = buffer.len() + STRETCH;
            // One stretch of twelve cannot be compressed.
            if self.below(12) == 0 {
                while buffer.len() < end {
                    buffer.extend_from_slice(&self.next().to_le_bytes());
                }
            }
            while buffer.len() < end {
                let rank = (0..3).fold(WORDS, |rank, _| self.below(rank.max(1)));
                buffer.extend_from_slice(&self.words[rank]);
            }
        }
        buffer.truncate(length);
    }
}

/// Writes a tar, entry by entry.
pub struct GeneratedTar<'a>(pub &'a mut dyn Write);

impl GeneratedTar<'_> {
    pub fn directory(&mut self, name: &str) -> Result<()> {
        self.header(name, b'5', 0o755, 0)
    }

    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.header(name, b'0', 0o644, bytes.len())?;
        self.0.write_all(bytes)?;
        Ok(self.0.write_all(&[0; 512][..bytes.len().next_multiple_of(512) - bytes.len()])?)
    }

    /// Ends it.
    pub fn end(self) -> Result<()> {
        Ok(self.0.write_all(&[0; 1024])?)
    }

    fn header(&mut self, name: &str, kind: u8, mode: u32, size: usize) -> Result<()> {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        (name.len() < 100).then_some(()).context("a short name")?;
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "14000000000");
        // The sum is taken with spaces in its place.
        put(148, "        ");
        put(257, "ustar");
        put(263, "00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        Ok(self.0.write_all(&header)?)
    }
}
