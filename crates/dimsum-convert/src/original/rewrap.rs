//! From a tar and what was noted of its compression to the blob (see [`wrap`](super::wrap)).

use super::deflate::Maker;
use super::error::RecipeError;
use super::limits::{COPY, MAX_CHUNK_TAR, MAX_CORRECTIONS};
use super::section::SectionIn;
use super::varint;
use super::wrap::{BEGIN, CHUNK_OF_TAR, KIND_BITS, LITERAL};
use crate::error::Error;

const PART: &str = "compression";

/// Takes a tar and gives its blob.
pub(crate) struct Rewrap<'r> {
    notes: SectionIn<'r>,
    processor: Option<Maker>,
    /// Whether it has done nothing yet.
    fresh: bool,
    /// Bytes of the tar that the current chunk still waits for; none before the next chunk is known.
    missing: Option<usize>,
    chunk: Vec<u8>,
    corrections: Vec<u8>,
    /// Bytes that the blob may still have.
    left: u64,
    wrong: &'r dyn Fn(RecipeError) -> Error,
}

impl<'r> Rewrap<'r> {
    /// Starts a blob of `bytes` bytes.
    pub(super) const fn new(notes: SectionIn<'r>, bytes: u64, wrong: &'r dyn Fn(RecipeError) -> Error) -> Self {
        Self {
            notes,
            processor: None,
            fresh: false,
            missing: None,
            chunk: Vec::new(),
            corrections: Vec::new(),
            left: bytes,
            wrong,
        }
    }

    /// Takes the next bytes of the tar.
    pub(crate) fn put(
        &mut self,
        mut bytes: &[u8],
        out: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            let Some(missing) = self.missing else {
                if !self.piece(out)? {
                    return Err(self.fail(RecipeError::Short { part: PART }));
                }
                continue;
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.chunk.extend_from_slice(now);
            self.missing = Some(missing - now.len());
            bytes = later;
            self.complete(out)?;
        }
        Ok(())
    }

    /// Ends the blob when all of the tar has come.
    pub(crate) fn finish(mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        while self.missing.is_none() && self.piece(out)? {}
        let outer = self.wrong;
        let wrong = |error| fail(outer, error);
        match self.missing {
            Some(missing) => {
                Err(wrong(RecipeError::Mismatch { part: "bytes of the tar", said: missing as u64, is: 0 }))
            }
            None => self.notes.end().map_err(wrong),
        }
    }

    /// Takes the next piece of the notes; false at their end.
    fn piece(&mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<bool, Error> {
        let outer = self.wrong;
        let wrong = |error| fail(outer, error);
        let Some(number) = varint::read(&mut self.notes, PART).map_err(wrong)? else { return Ok(false) };
        let (count, kind) = (number >> KIND_BITS, number & ((1 << KIND_BITS) - 1));
        match kind {
            // A piece that gives nothing would let few bytes make much work.
            LITERAL if count > 0 => self.literal(count, out)?,
            BEGIN if !self.fresh => {
                let maker = u8::try_from(count).ok().and_then(Maker::new);
                let value = RecipeError::Value { part: "style of a compressor", value: count };
                self.processor = Some(maker.ok_or_else(|| wrong(value))?);
                self.fresh = true;
            }
            CHUNK_OF_TAR => {
                let corrections = varint::need(&mut self.notes, PART).map_err(wrong)?;
                limit("bytes of a chunk", count, MAX_CHUNK_TAR as u64).map_err(wrong)?;
                limit("corrections of a chunk", corrections, MAX_CORRECTIONS as u64).map_err(wrong)?;
                self.corrections.resize(usize::try_from(corrections).unwrap_or(0), 0);
                self.notes.fill(&mut self.corrections).map_err(wrong)?;
                self.missing = Some(usize::try_from(count).unwrap_or(usize::MAX));
                self.fresh = false;
                self.complete(out)?;
            }
            value => return Err(wrong(RecipeError::Value { part: PART, value })),
        }
        Ok(true)
    }

    fn literal(&mut self, mut count: u64, out: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0; usize::try_from(count).map_or(COPY, |count| count.min(COPY))];
        while count > 0 {
            let now = usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()));
            let bytes = buffer.get_mut(..now).unwrap_or_default();
            self.notes.fill(bytes).map_err(|error| fail(self.wrong, error))?;
            self.count(now)?;
            out(bytes)?;
            count -= now as u64;
        }
        Ok(())
    }

    /// Compresses the chunk if all of it is there.
    fn complete(&mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        if self.missing != Some(0) {
            return Ok(());
        }
        let outer = self.wrong;
        let wrong = |error| fail(outer, error);
        let processor = self.processor.as_mut().ok_or_else(|| wrong(RecipeError::Short { part: PART }))?;
        let made = processor.make(&self.chunk, &self.corrections);
        let made = made.map_err(|_nonsense| wrong(RecipeError::Corrections))?;
        self.count(made.len())?;
        self.missing = None;
        self.chunk.clear();
        out(&made)
    }

    /// Counts bytes of the blob.
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        let left = self.left.checked_sub(bytes as u64);
        let more = RecipeError::Mismatch { part: "bytes of the blob", said: self.left, is: bytes as u64 };
        self.left = left.ok_or_else(|| self.fail(more))?;
        Ok(())
    }

    fn fail(&self, error: RecipeError) -> Error {
        fail(self.wrong, error)
    }
}

/// Says that it is the compression that is wrong, not the tar.
fn fail(wrong: &dyn Fn(RecipeError) -> Error, error: RecipeError) -> Error {
    wrong(RecipeError::Compression { source: Box::new(error) })
}

const fn limit(part: &'static str, value: u64, limit: u64) -> Result<(), RecipeError> {
    if value > limit { Err(RecipeError::Limit { part, value, limit }) } else { Ok(()) }
}
