//! The sink for the content of files while a source is read.

use crate::types::ContentId;

/// Takes the content of regular files, one after the other, as it streams by.
///
/// For each file: [`begin`](Self::begin), then [`data`](Self::data) and [`hole`](Self::hole) in the order of
/// the file and together as long as announced, then [`end`](Self::end). Files are never interleaved. If reading
/// fails in the middle, `end` is not called. A handle may remain unused: a later entry of the same name
/// replaces the file.
pub trait ContentSink {
    /// Why content could not be stored.
    type Error;

    /// Starts a file of `size` bytes. The size is a claim of the source (within
    /// [`MAX_FILE_SIZE`](crate::limits::MAX_FILE_SIZE)): do not spend memory on it before the data is there.
    ///
    /// # Errors
    ///
    /// As the implementation needs.
    fn begin(&mut self, size: u64) -> Result<(), Self::Error>;

    /// Says that the bytes of the [`data`](Self::data) that follows stand at this offset of the uncompressed
    /// archive; only archives say it.
    fn at(&mut self, offset: u64) {
        let _ = offset;
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// As the implementation needs.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Takes `length` bytes of zeros that the source does not store.
    ///
    /// # Errors
    ///
    /// As the implementation needs.
    fn hole(&mut self, length: u64) -> Result<(), Self::Error>;

    /// Ends the file and names its content.
    ///
    /// # Errors
    ///
    /// As the implementation needs.
    fn end(&mut self) -> Result<ContentId, Self::Error>;
}

/// Throws content away and numbers the files, for those who only want the tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullSink {
    files: u32,
}

impl ContentSink for NullSink {
    type Error = std::convert::Infallible;

    fn begin(&mut self, _size: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn data(&mut self, _bytes: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn hole(&mut self, _length: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn end(&mut self) -> Result<ContentId, Self::Error> {
        let id = ContentId::new(self.files);
        self.files = self.files.wrapping_add(1);
        Ok(id)
    }
}
