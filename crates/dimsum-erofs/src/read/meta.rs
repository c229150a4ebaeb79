//! The source of the bytes of an image.

/// Gives bytes of an EROFS image by position.
///
/// The reader never looks beyond [`len`](Self::len) and makes no assumption on what two reads of the same place give.
pub trait MetaRead {
    /// Why bytes could not be given; passes through to the caller of the reader.
    type Error: std::error::Error + 'static;

    /// Returns the length of the EROFS image in bytes (without what may follow it in a meta).
    fn len(&self) -> u64;

    /// Returns whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes from `offset` on; the range lies within [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// Whatever the source finds; `buf` is of no meaning then.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;
}

/// A range outside of a byte slice was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range is not in the buffer")]
pub struct OutOfRange;

impl MetaRead for [u8] {
    type Error = OutOfRange;

    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        let start = usize::try_from(offset).map_err(|_| OutOfRange)?;
        let end = start.checked_add(buf.len()).ok_or(OutOfRange)?;
        buf.copy_from_slice(self.get(start..end).ok_or(OutOfRange)?);
        Ok(())
    }
}

impl MetaRead for Vec<u8> {
    type Error = OutOfRange;

    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        self.as_slice().read_at(offset, buf)
    }
}

impl<M: MetaRead + ?Sized> MetaRead for &M {
    type Error = M::Error;

    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), M::Error> {
        (**self).read_at(offset, buf)
    }
}
