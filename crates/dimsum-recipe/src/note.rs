//! Notes how the gzip blob of a layer comes from its tar.
//!
//! A compressor chooses how it writes a DEFLATE stream. The right [model](crate::deflate) predicts nearly all
//! of these choices, and only the others are noted. They take about half a percent of the blob for zlib and its
//! kin (gzip, pigz) and for Go's compressor, which made most layers. Headers, trailers and the borders of
//! members are kept as they are. If the notes are too large, only the tar is kept.
//!
//! ```text
//!   blob: header | DEFLATE … | trailer | header | …
//!   part: literal  begin, chunk, chunk …  literal literal …      chunk = bytes of the tar, corrections
//! ```

use std::io::Read;

use dimsum_tree::Compression;

use crate::deflate::{DescribeStop as End, STYLE_COUNT, StreamDescriber};
use crate::effort::{Effort, TooMuchWork};
use crate::error::RecipeError;
use crate::limits::{
    CHUNK, GOOD, MAX_CHUNK, MAX_CHUNK_TAR, MAX_CORRECTIONS, MAX_GZIP_HEADER, MAX_MEMBER, PROBE, max_notes,
};
use crate::section::{Section, SectionOut};
use crate::temporary::TemporaryFiles;
use crate::varint;

/// Kinds of pieces: the two lowest bits of the number that starts one.
pub(crate) const LITERAL: u64 = 0;
pub(crate) const BEGIN: u64 = 1;
pub(crate) const CHUNK_OF_TAR: u64 = 2;
pub(crate) const KIND_BITS: u32 = 2;

/// Bytes of the fixed part of a gzip header, and of the trailer behind the compressed bytes.
const GZIP_HEADER: usize = 10;
const GZIP_TRAILER: usize = 8;
/// Bytes that tell one compression from another.
const MAGIC: usize = 4;

/// Why the compression of a layer was not kept.
pub type UnkeptReason = &'static str;

const WORK: UnkeptReason = "to repeat its compression would be too much work";

/// The reason why the notes of a blob end.
enum NoteStop {
    /// It cannot be kept so.
    Reason(UnkeptReason),
    Error(RecipeError),
}

impl From<TooMuchWork> for NoteStop {
    fn from(_: TooMuchWork) -> Self {
        Self::Reason(WORK)
    }
}

impl From<RecipeError> for NoteStop {
    fn from(error: RecipeError) -> Self {
        Self::Error(error)
    }
}

/// Notes how the gzip blob of `bytes` bytes that is read from `blob` comes from its tar; or says why it is not kept.
///
/// # Errors
/// If the blob cannot be read, or a temporary file fails.
pub fn note(
    blob: impl Read,
    bytes: u64,
    temporaries: &TemporaryFiles,
) -> Result<Result<Section, UnkeptReason>, RecipeError> {
    let (out, most) = (SectionOut::new(temporaries)?, max_notes(bytes));
    let mut notes = NoteWriter {
        input: blob,
        buffer: Vec::new(),
        used: 0,
        ended: false,
        out,
        noted: 0,
        most,
        style: None,
        effort: Effort::default(),
    };
    match notes.blob() {
        Ok(()) => {}
        Err(NoteStop::Reason(reason)) => return Ok(Err(reason)),
        Err(NoteStop::Error(error)) => return Err(error),
    }
    notes.out.finish().map(Ok)
}

struct NoteWriter<R> {
    input: R,
    /// The bytes read ahead, and the part of them that is done.
    buffer: Vec<u8>,
    used: usize,
    ended: bool,
    out: SectionOut,
    /// Bytes that the notes have, and may have.
    noted: u64,
    most: u64,
    /// The style of the member before: the next has the same, as a rule.
    style: Option<u8>,
    /// The cost of making the blob.
    effort: Effort,
}

impl<R: Read> NoteWriter<R> {
    fn blob(&mut self) -> Result<(), NoteStop> {
        if Compression::sniff(self.ahead(MAGIC)?) == Compression::Zstd {
            return Err(NoteStop::Reason("zstd layers are kept as their tar"));
        }
        while !self.ahead(1)?.is_empty() {
            let header = self.header()?;
            self.literal(header)?;
            self.deflate()?;
            let trailer = self.ahead(GZIP_TRAILER)?.len().min(GZIP_TRAILER);
            self.literal(trailer)?;
        }
        self.fits()
    }

    /// Reads until there are `count` bytes, or all there are.
    fn ahead(&mut self, count: usize) -> Result<&[u8], NoteStop> {
        if self.buffer.len() - self.used < count && !self.ended {
            self.buffer.drain(..self.used);
            self.used = 0;
            let missing = (count - self.buffer.len()).max(CHUNK);
            let read = (&mut self.input).take(missing as u64).read_to_end(&mut self.buffer);
            let read = read.map_err(|source| RecipeError::Read { part: "the layer", source })?;
            self.ended = read < missing;
        }
        Ok(self.buffer.get(self.used..).unwrap_or_default())
    }

    /// Returns the length of a gzip header.
    fn header(&mut self) -> Result<usize, NoteStop> {
        gzip_header(self.ahead(MAX_GZIP_HEADER)?).ok_or(NoteStop::Reason("it has a gzip header of another kind"))
    }

    fn literal(&mut self, count: usize) -> Result<(), NoteStop> {
        // An operation that gives nothing is none.
        if count > 0 {
            self.number(count as u64, LITERAL)?;
            let bytes = self.buffer.get(self.used..).and_then(|rest| rest.get(..count)).unwrap_or_default();
            self.out.put(bytes)?;
            self.noted += count as u64;
            self.effort.give(count);
            self.used += count;
        }
        Ok(())
    }

    fn fits(&self) -> Result<(), NoteStop> {
        let much = NoteStop::Reason("what cannot be foretold of its compression is more than a quarter of it");
        if self.noted > self.most { Err(much) } else { Ok(()) }
    }

    fn number(&mut self, count: u64, kind: u64) -> Result<(), NoteStop> {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, count << KIND_BITS | kind);
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), NoteStop> {
        self.out.put(bytes)?;
        self.noted += bytes.len() as u64;
        self.fits()
    }

    /// Notes one DEFLATE stream.
    fn deflate(&mut self) -> Result<(), NoteStop> {
        let style = self.style()?;
        self.style = Some(style);
        self.number(style.into(), BEGIN)?;
        self.effort.begin()?;
        let odd = NoteStop::Reason("its compression cannot be written again");
        let Some(mut describer) = StreamDescriber::new(style) else { return Err(odd) };
        let (mut size, mut member) = (CHUNK, 0u64);
        loop {
            self.ahead(size)?;
            let ahead = self.buffer.get(self.used..).unwrap_or_default();
            let bytes = ahead.get(..size.min(ahead.len())).unwrap_or_default();
            let whole = bytes.len() < size;
            let described = match describer.describe(bytes, MAX_CHUNK_TAR, &mut self.effort) {
                Ok(described) => described,
                Err(End::More) if !whole && size < MAX_CHUNK => {
                    size *= 2;
                    continue;
                }
                Err(End::Work) => return Err(NoteStop::Reason(WORK)),
                Err(End::Long) => return Err(NoteStop::Reason("it has blocks that are too large")),
                Err(_) => return Err(odd),
            };
            member += described.text.len() as u64;
            if member > MAX_MEMBER {
                return Err(NoteStop::Reason("it has more than 4 GiB in one gzip member"));
            }
            if described.corrections.len() > MAX_CORRECTIONS {
                return Err(NoteStop::Reason("its compression is too far from what can be foretold"));
            }
            self.number(described.text.len() as u64, CHUNK_OF_TAR)?;
            let mut length = Vec::new();
            varint::put(&mut length, described.corrections.len() as u64);
            self.put(&length)?;
            self.put(&described.corrections)?;
            self.used += described.used;
            if described.ended {
                return Ok(());
            }
            size = CHUNK;
        }
    }

    /// Finds out the style of the stream that is next.
    fn style(&mut self) -> Result<u8, NoteStop> {
        let before = self.style;
        let ahead = self.ahead(MAX_CHUNK)?;
        let (mut best, mut least) = (0, usize::MAX);
        for style in before.into_iter().chain(0..STYLE_COUNT) {
            let Some(mut describer) = StreamDescriber::new(style) else { continue };
            let mut size = PROBE;
            let described = loop {
                let bytes = ahead.get(..size.min(ahead.len())).unwrap_or_default();
                match describer.describe(bytes, MAX_CHUNK_TAR, &mut Effort::default()) {
                    Err(End::More) if size < ahead.len() => size *= 2,
                    described => break described,
                }
            };
            let described = match described {
                Ok(described) => described,
                // Another may be less.
                Err(End::Work) => continue,
                Err(_) => return Ok(0),
            };
            if described.wrong < least {
                (best, least) = (style, described.wrong);
            }
            if described.wrong * GOOD <= described.tokens {
                break;
            }
        }
        Ok(best)
    }
}

/// Returns the length of the gzip header that `bytes` start with (RFC 1952).
fn gzip_header(bytes: &[u8]) -> Option<usize> {
    let [0x1f, 0x8b, 8, flags, ..] = *bytes else { return None };
    let mut at = GZIP_HEADER;
    if flags & 4 != 0 {
        let length = bytes.get(at..)?.first_chunk::<2>()?;
        at += 2 + usize::from(u16::from_le_bytes(*length));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += bytes.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gzip_header_is_as_long_as_its_fields() {
        let fixed = [0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 0, 3];
        assert_eq!(gzip_header(&fixed), Some(10));
        let mut all = fixed.to_vec();
        all[3] = 2 | 4 | 8 | 16;
        all.extend_from_slice(b"\x03\0abcname\0comment\0cc");
        assert_eq!(gzip_header(&[&all[..], b"more"].concat()), Some(all.len()));
        for length in 0..all.len() {
            assert_eq!(gzip_header(&all[..length]), None, "{length}");
        }
    }
}
