//! Makes the blob from the tar and the notes of its compression (see [`note`](crate::note)).

use std::fmt;

use crate::deflate::{MakeError, StreamMaker};
use crate::effort::Effort;
use crate::error::{RecipeError, limit};
use crate::limits::{COPY, MAX_CHUNK_TAR, MAX_CORRECTIONS};
use crate::note::{BEGIN, CHUNK_OF_TAR, KIND_BITS, LITERAL};
use crate::section::SectionIn;
use crate::varint;

const PART: &str = "compression";

/// Takes a tar and gives its blob.
pub struct BlobRestorer<'r> {
    notes: SectionIn<'r>,
    processor: Option<StreamMaker>,
    /// Whether it has done nothing yet.
    fresh: bool,
    /// Bytes of the tar that the current chunk still waits for; none before the next chunk is known.
    missing: Option<usize>,
    chunk: Vec<u8>,
    corrections: Vec<u8>,
    /// Bytes that the blob may still have.
    left: u64,
    /// What has been done for it.
    effort: Effort,
}

impl<'r> BlobRestorer<'r> {
    /// Starts a blob of `bytes` bytes.
    pub(crate) fn new(notes: SectionIn<'r>, bytes: u64) -> Self {
        Self {
            notes,
            processor: None,
            fresh: false,
            missing: None,
            chunk: Vec::new(),
            corrections: Vec::new(),
            left: bytes,
            effort: Effort::default(),
        }
    }

    /// Takes the next bytes of the tar.
    ///
    /// # Errors
    /// [`RecipeError::Compression`] if the notes give no blob; what `out` fails with.
    pub fn put<E: From<RecipeError>>(
        &mut self,
        mut bytes: &[u8],
        out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let Some(missing) = self.missing else {
                if !self.piece(out)? {
                    return Err(fail(RecipeError::Short { part: PART }));
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
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn finish<E: From<RecipeError>>(mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        while self.missing.is_none() && self.piece(out)? {}
        match self.missing {
            Some(missing) => Err(fail(RecipeError::Mismatch { part: "bytes of the tar", said: missing as u64, is: 0 })),
            None => self.notes.end().map_err(fail),
        }
    }

    /// Takes the next piece of the notes; false at their end.
    fn piece<E: From<RecipeError>>(&mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<bool, E> {
        let Some(number) = varint::read(&mut self.notes, PART).map_err(fail)? else { return Ok(false) };
        let (count, kind) = (number >> KIND_BITS, number & ((1 << KIND_BITS) - 1));
        match kind {
            // A piece that gives nothing would let few bytes make much work.
            LITERAL if count > 0 => self.literal(count, out)?,
            BEGIN if !self.fresh => {
                let value = RecipeError::Value { part: "style of a compressor", value: count };
                self.effort.begin().map_err(|error| fail(error.into()))?;
                let maker = u8::try_from(count).ok().and_then(StreamMaker::new);
                self.processor = Some(maker.ok_or_else(|| fail(value))?);
                self.fresh = true;
            }
            CHUNK_OF_TAR => {
                let corrections = varint::need(&mut self.notes, PART).map_err(fail)?;
                limit("bytes of a chunk", count, MAX_CHUNK_TAR as u64).map_err(fail)?;
                limit("corrections of a chunk", corrections, MAX_CORRECTIONS as u64).map_err(fail)?;
                self.corrections.resize(usize::try_from(corrections).unwrap_or(0), 0);
                self.notes.fill(&mut self.corrections).map_err(fail)?;
                self.missing = Some(usize::try_from(count).unwrap_or(usize::MAX));
                self.fresh = false;
                self.complete(out)?;
            }
            value => return Err(fail(RecipeError::Value { part: PART, value })),
        }
        Ok(true)
    }

    fn literal<E: From<RecipeError>>(
        &mut self,
        mut count: u64,
        out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; usize::try_from(count).map_or(COPY, |count| count.min(COPY))];
        while count > 0 {
            let now = usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()));
            let bytes = buffer.get_mut(..now).unwrap_or_default();
            self.notes.fill(bytes).map_err(fail)?;
            self.count(now)?;
            self.effort.give(now);
            out(bytes)?;
            count -= now as u64;
        }
        Ok(())
    }

    /// Compresses the chunk if all of it is there.
    fn complete<E: From<RecipeError>>(&mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.missing != Some(0) {
            return Ok(());
        }
        let processor = self.processor.as_mut().ok_or_else(|| fail(RecipeError::Short { part: PART }))?;
        let made = processor.make(&self.chunk, &self.corrections, &mut self.effort);
        let made = made.map_err(|error| match error {
            MakeError::Nonsense => fail(RecipeError::Corrections),
            MakeError::Work(error) => fail(error.into()),
        })?;
        self.count(made.len())?;
        self.missing = None;
        self.chunk.clear();
        out(&made)
    }

    /// Counts bytes of the blob.
    fn count<E: From<RecipeError>>(&mut self, bytes: usize) -> Result<(), E> {
        let left = self.left.checked_sub(bytes as u64);
        let more = RecipeError::Mismatch { part: "bytes of the blob", said: self.left, is: bytes as u64 };
        self.left = left.ok_or_else(|| fail(more))?;
        Ok(())
    }
}

impl fmt::Debug for BlobRestorer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewrap").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Says that it is the compression that is wrong, not the tar.
fn fail<E: From<RecipeError>>(error: RecipeError) -> E {
    RecipeError::Compression { source: Box::new(error) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::SectionOut;
    use crate::temporary::TemporaryFiles;

    /// Gives a blob that is made of these notes to `judge`.
    fn with(notes: &[u8], judge: impl FnOnce(BlobRestorer<'_>)) {
        let mut out = SectionOut::new(&TemporaryFiles::new(std::env::temp_dir())).unwrap();
        out.put(notes).unwrap();
        let section = out.finish().unwrap();
        judge(BlobRestorer::new(SectionIn::of(&section, PART).unwrap(), 1 << 30));
    }

    /// Returns the work that was done and that there may be.
    fn refused(error: RecipeError) -> (u64, u64) {
        let RecipeError::Compression { source } = error else { panic!("{error}") };
        let RecipeError::Limit { part: "work of the compression", value, limit } = *source else { panic!("{source}") };
        (value, limit)
    }

    #[test]
    fn streams_that_only_begin_are_soon_refused() {
        let begin_and_chunk_of_nothing = [1 << KIND_BITS as u8 | BEGIN as u8, CHUNK_OF_TAR as u8, 1, 0];
        with(&begin_and_chunk_of_nothing.repeat(1_000_000), |mut restorer| {
            let error = (0..20_000).find_map(|_| restorer.piece::<RecipeError>(&mut |_| Ok(())).err());
            refused(error.expect("less than 10,000 begins of 1,000,000"));
        });
    }

    #[test]
    fn text_that_is_searched_for_ever_is_refused_when_its_work_is_done() {
        // Two letters, so that a chain of equal hashes has thousands of places, and a match is short.
        let mut state = 1u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b'a' + (state >> 63) as u8
        };
        let text: Vec<u8> = (0..1_000_000).map(|_| letter()).collect();
        // The style that looks farthest; one block of fixed codes, in which nothing is corrected.
        let mut corrections = vec![1];
        varint::put(&mut corrections, (text.len() as u64) << 3 | 1 << 1 | 1);
        corrections.push(0);
        let mut notes = vec![2 << KIND_BITS as u8 | BEGIN as u8];
        varint::put(&mut notes, (text.len() as u64) << KIND_BITS | CHUNK_OF_TAR);
        varint::put(&mut notes, corrections.len() as u64);
        notes.extend_from_slice(&corrections);
        with(&notes, |mut restorer| {
            let (done, most) = refused(restorer.put(&text, &mut |_| Ok(())).unwrap_err());
            assert!(done - most <= 2 * 4096, "{done} of {most}");
        });
        with(&notes, |mut restorer| {
            // As much of it as needs no more is made.
            let error = restorer.put::<RecipeError>(&text[..1000], &mut |_| Ok(())).err();
            assert!(error.is_none());
        });
    }
}
