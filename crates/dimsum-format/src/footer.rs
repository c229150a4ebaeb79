//! The common start of all footers: a magic, the version of the format, and flags.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::FormatError;
use crate::limits::MAX_META_BYTES;
use crate::pack::VERSION;
use crate::{BLOCK, BLOCK_U64};

/// The first bytes of a footer.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FooterHead {
    magic: [u8; 8],
    version: U32,
    flags: U32,
}

impl FooterHead {
    /// Returns the head of a footer with this magic, in the version that this program writes.
    pub(crate) fn new(magic: [u8; 8]) -> Self {
        Self { magic, version: VERSION.into(), flags: 0.into() }
    }
}

/// Reads a footer `T`, which starts with a [`FooterHead`], and checks its head.
pub(crate) fn read_footer<'b, T>(part: &'static str, magic: [u8; 8], bytes: &'b [u8]) -> Result<&'b T, FormatError>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let truncated = || FormatError::Truncated { part, need: size_of::<T>() as u64, have: bytes.len() as u64 };
    let footer = T::ref_from_bytes(bytes).map_err(|_| truncated())?;
    let (head, _) = FooterHead::ref_from_prefix(bytes).map_err(|_| truncated())?;
    if head.magic != magic {
        return Err(FormatError::Magic { part });
    }
    if head.version.get() != VERSION {
        return Err(FormatError::Version { part, version: head.version.get() });
    }
    if head.flags.get() != 0 {
        return Err(FormatError::Value { part: "flags", value: u64::from(head.flags.get()) });
    }
    Ok(footer)
}

/// A meta is a whole number of blocks, at least one, and within the limit.
pub(crate) fn check_meta_length(part: &'static str, length: u64) -> Result<(), FormatError> {
    if length > MAX_META_BYTES {
        return Err(FormatError::Limit { part, value: length, limit: MAX_META_BYTES });
    }
    if length == 0 || !length.is_multiple_of(BLOCK_U64) {
        let is = length.next_multiple_of(BLOCK_U64).max(BLOCK as u64);
        return Err(FormatError::Mismatch { part, said: length, is });
    }
    Ok(())
}
