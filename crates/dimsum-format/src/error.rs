//! The faults of bytes that claim to be in the format.

use crate::digest::{Blake3, DigestError};

/// A part of an image that does not have the form that `docs/format.md` gives it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A structure ends before its last byte.
    #[error("{part}: {have} bytes, but {need} are needed")]
    Truncated {
        /// The structure.
        part: &'static str,
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// The magic at the start of a footer is another.
    #[error("{part}: wrong magic; this is not a Dimsum {part} or it is damaged")]
    Magic {
        /// The structure.
        part: &'static str,
    },
    /// A version that this program does not know.
    #[error("{part}: format version {version}; this program reads version 1")]
    Version {
        /// The structure.
        part: &'static str,
        /// The version found.
        version: u32,
    },
    /// A count or size above its named limit.
    #[error("{part}: {value} is above the limit of {limit}")]
    Limit {
        /// The value's name.
        part: &'static str,
        /// The value found.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Two statements about the same thing differ.
    #[error("{part}: says {said}, but it is {is}")]
    Mismatch {
        /// The field that is stated twice.
        part: &'static str,
        /// The first statement.
        said: u64,
        /// The second.
        is: u64,
    },
    /// Bytes that do not have the digest they must have.
    #[error("{part}: digest is {is}, must be {must}")]
    Digest {
        /// The object.
        part: &'static str,
        /// Digest of the bytes.
        is: Blake3,
        /// Digest that was pinned.
        must: Blake3,
    },
    /// A field that must be zero is not, or has a value without a meaning.
    #[error("{part}: value {value} has no meaning in version 1")]
    Value {
        /// The field.
        part: &'static str,
        /// Its value.
        value: u64,
    },
    /// A zstd frame that does not decode to the bytes it must.
    #[error("zstd frame: {reason}")]
    Frame {
        /// The reason of zstd or of the length check.
        reason: &'static str,
    },
    /// JSON that does not parse.
    #[error("{part}: {source}")]
    Json {
        /// The document.
        part: &'static str,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// A digest string that is none.
    #[error("{part}: {source}")]
    DigestText {
        /// Where it stands.
        part: &'static str,
        /// Why it is none.
        source: DigestError,
    },
    /// A manifest that is not that of a Dimsum image.
    #[error("not a Dimsum image: {reason}")]
    NotDimsum {
        /// The missing part.
        reason: &'static str,
    },
}
