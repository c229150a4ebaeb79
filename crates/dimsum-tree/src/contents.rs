//! Copies the content of files while a tree is written, and checks its length against the tree.

use std::ops::Range;

use crate::error::{EntryFault, TreeError, WriteError};
use crate::types::ContentId;

/// Bytes asked for at a time: a usual slice of an image.
const BUFFER: usize = 256 * 1024;

/// Gives the content of regular files, the counterpart of [`ContentSink`](crate::ContentSink).
pub trait ContentSource {
    /// Why content cannot be had.
    type Error;

    /// Returns the next bytes at or behind `from` that are stored; all else up to the end of the file are
    /// zeros. `None` if nothing but zeros follows. The answer may hold less than there is, never nothing.
    ///
    /// # Errors
    ///
    /// As the implementation needs.
    fn next_data(&mut self, content: ContentId, from: u64) -> Result<Option<Range<u64>>, Self::Error>;

    /// Fills `buffer` from the start with the bytes from `offset` on, holes as zeros, and returns their number. It is
    /// smaller than asked for only at the end of the file, and 0 behind it. Missing bytes must be an error, never
    /// zeros.
    ///
    /// # Errors
    ///
    /// As the implementation needs.
    fn read(&mut self, content: ContentId, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}

/// Reads content through one buffer and holds it against the length it must have.
#[derive(Debug)]
pub(crate) struct ContentCopier {
    buffer: Vec<u8>,
}

impl ContentCopier {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BUFFER] }
    }

    /// Hands the bytes of `range` on in pieces. All of it must be there.
    pub(crate) fn copy<C: ContentSource>(
        &mut self,
        contents: &mut C,
        file: &ContentFile<'_>,
        range: Range<u64>,
        mut each: impl FnMut(&[u8]) -> Result<(), WriteError<C::Error>>,
    ) -> Result<(), WriteError<C::Error>> {
        let mut at = range.start;
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let buffer = self.buffer.get_mut(..left.min(BUFFER)).unwrap_or_default();
            let count = contents.read(file.content, at, buffer).map_err(|source| file.failed(source))?;
            let bytes = buffer.get(..count).filter(|bytes| !bytes.is_empty()).ok_or_else(|| file.length(at))?;
            each(bytes)?;
            at += bytes.len() as u64;
        }
        Ok(())
    }

    /// Makes sure that the file ends where the tree says.
    pub(crate) fn end<C: ContentSource>(
        &mut self,
        contents: &mut C,
        file: &ContentFile<'_>,
    ) -> Result<(), WriteError<C::Error>> {
        let mut byte = [0];
        match contents.read(file.content, file.size, &mut byte).map_err(|source| file.failed(source))? {
            0 => Ok(()),
            more => Err(file.length(file.size.saturating_add(more as u64)).into()),
        }
    }
}

/// A regular file whose content is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentFile<'p> {
    pub(crate) path: &'p [u8],
    pub(crate) content: ContentId,
    pub(crate) size: u64,
}

impl ContentFile<'_> {
    pub(crate) fn failed<E>(&self, source: E) -> WriteError<E> {
        WriteError::Content { path: self.path.into(), source }
    }

    /// Returns the next part of the file from `at` on that is stored; the rest are zeros.
    pub(crate) fn next_data<C: ContentSource>(
        &self,
        contents: &mut C,
        at: u64,
    ) -> Result<Option<Range<u64>>, WriteError<C::Error>> {
        if at >= self.size {
            return Ok(None);
        }
        let data = contents.next_data(self.content, at).map_err(|source| self.failed(source))?;
        Ok(data.filter(|data| data.start < self.size).map(|data| {
            // An answer that begins too early, or does not get on, must not make this go round for ever.
            let start = data.start.max(at);
            start..data.end.clamp(start.saturating_add(1), self.size)
        }))
    }

    fn length(&self, found: u64) -> TreeError {
        TreeError::entry(self.path, EntryFault::ContentLength { size: self.size, found })
    }
}
