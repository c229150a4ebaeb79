//! What can go wrong between us and a source or target.

use std::io;
use std::ops::Range;

use dimsum_format::{Digest, FormatError};

/// A blob or manifest that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source does not have the blob.
    #[error("{source_name}: no blob {digest}")]
    NotFound {
        /// The source.
        source_name: String,
        /// The blob.
        digest: Digest,
    },
    /// The range ends behind the end of the blob.
    #[error("{source_name}: blob {digest} has no bytes {range:?}")]
    Range {
        /// The source.
        source_name: String,
        /// The blob.
        digest: Digest,
        /// Bytes asked for.
        range: Range<u64>,
    },
    /// Bytes that do not have the digest by which they were asked for.
    #[error("{source_name}: {object}: digest is {is}, must be {must}")]
    Digest {
        /// The source.
        source_name: String,
        /// What was read.
        object: &'static str,
        /// Digest of the bytes.
        is: Digest,
        /// Digest that was asked for.
        must: Digest,
    },
    /// An object above its limit.
    #[error("{source_name}: {object} {digest} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The source.
        source_name: String,
        /// What was asked for.
        object: &'static str,
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// An archive that is not one, or has a member that is refused.
    #[error("{source_name}: member {member:?} at byte {offset}: {reason}")]
    Member {
        /// The archive.
        source_name: String,
        /// Name of the member, as far as it is known.
        member: String,
        /// Where its header stands.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A tag that is not there, or a name that stands for several images.
    #[error("{source_name}: {reason}")]
    Name {
        /// The source.
        source_name: String,
        /// What does not fit; names what there is instead.
        reason: String,
    },
    /// A text that is no reference.
    #[error("{text:?}: {reason}")]
    Reference {
        /// The text.
        text: String,
        /// Why it is none.
        reason: &'static str,
    },
    /// A target that may not be written so.
    #[error("{target_name}: {reason}")]
    Target {
        /// The target.
        target_name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A document that is not in its form.
    #[error("{source_name}: {source}")]
    Format {
        /// The source.
        source_name: String,
        /// Why.
        source: FormatError,
    },
    /// The operating system's word.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The runtime that reads in the background has ended.
    #[error("{source_name}: reading was cancelled")]
    Cancelled {
        /// The source.
        source_name: String,
    },
}
