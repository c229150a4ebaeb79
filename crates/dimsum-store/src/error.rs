//! What the store cannot do, and why.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use dimsum_events::ReadObject;
use dimsum_format::{Blake3, Digest, FormatError};
use dimsum_source::{ErrorKind, SourceError};

/// A store, image or record that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system's word about a file of the store.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store was made by a program of another version.
    #[error("{}: store version {found:?}; this program knows version {known:?}", path.display())]
    Version {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program knows.
        known: &'static str,
    },
    /// No place has a right copy of a part of an image.
    #[error("cannot get {object} {digest}: {}", Failures(failures))]
    Unavailable {
        /// Manifest or config.
        object: &'static str,
        /// Its digest.
        digest: Digest,
        /// What each source said.
        failures: Vec<SourceFailure>,
    },
    /// The meta, or a part of it, cannot be read.
    #[error("cannot read the meta of image {image}: {source}")]
    Meta {
        /// The image's manifest.
        image: Digest,
        /// Why.
        source: Box<ReadError>,
    },
    /// Bytes that are proven and still do not have the form of an image.
    #[error("image {image}: {source}")]
    Format {
        /// The image's manifest.
        image: Digest,
        /// Why.
        source: Arc<FormatError>,
    },
    /// Manifest and meta of an image do not fit each other.
    #[error("image {image}: {what}: the manifest says {manifest}, the meta {meta}")]
    Disagree {
        /// The image's manifest.
        image: Digest,
        /// What they disagree on.
        what: &'static str,
        /// The manifest's value.
        manifest: u64,
        /// The meta's value.
        meta: u64,
    },
    /// The maps of an image do not fit into the memory that all open images may have for them.
    #[error(
        "cannot hold the maps of image {image}: they have {length} bytes, {free} are free; next: unmount other images"
    )]
    Maps {
        /// The image's manifest.
        image: Digest,
        /// Bytes of its maps.
        length: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Other images of the same source were opened all the time that this one waited for its turn.
    #[error(
        "cannot open image {image}: no turn within {after:?}, {limit} images are opened already; next: open it again later"
    )]
    Openings {
        /// The image's manifest.
        image: Digest,
        /// How many images are opened at the same time.
        limit: usize,
        /// How long it waited.
        after: Duration,
    },
    /// The node key is not one that only its owner can read.
    #[error("cannot use {} as node key: {reason}", path.display())]
    NodeKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The options text of a conversion is above its limit.
    #[error("the options of a conversion record have {length} bytes, the limit is {limit}")]
    Options {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }

    /// Returns the same error for another who waited for the same outcome.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Io { path, source } => Self::Io { path: path.clone(), source: io_again(source) },
            Self::Version { path, found, known } => Self::Version { path: path.clone(), found: found.clone(), known },
            Self::Unavailable { object, digest, failures } => {
                Self::Unavailable { object, digest: *digest, failures: failures.clone() }
            }
            Self::Meta { image, source } => Self::Meta { image: *image, source: source.clone() },
            Self::Format { image, source } => Self::Format { image: *image, source: source.clone() },
            Self::Disagree { image, what, manifest, meta } => {
                Self::Disagree { image: *image, what, manifest: *manifest, meta: *meta }
            }
            Self::Maps { image, length, free } => Self::Maps { image: *image, length: *length, free: *free },
            Self::Openings { image, limit, after } => Self::Openings { image: *image, limit: *limit, after: *after },
            Self::NodeKey { path, reason } => Self::NodeKey { path: path.clone(), reason },
            Self::Options { length, limit } => Self::Options { length: *length, limit: *limit },
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => ErrorKind::of_io(source),
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::Unavailable { failures, .. } => failures_kind(failures),
            Self::Meta { source, .. } => source.kind(),
            Self::Format { source, .. } => ErrorKind::of_format(source),
            Self::Disagree { .. } => ErrorKind::Malformed,
            Self::Maps { .. } | Self::Options { .. } => ErrorKind::Limit,
            Self::NodeKey { .. } => ErrorKind::Denied,
            Self::Openings { .. } => ErrorKind::Busy,
        }
    }
}

/// Returns an equal error of the operating system, or one of its kind with its text.
fn io_again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

/// A read that gets no bytes. Cloned to every reader that waited for the same chunk.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No source gave the right bytes.
    #[error("{object}: {}", Failures(failures))]
    Unavailable {
        /// What was wanted.
        object: ReadObject,
        /// What each source said, in the order they were asked.
        failures: Arc<[SourceFailure]>,
    },
    /// The sources did not answer in time.
    #[error("{object}: {source_name} did not answer within {after:?}")]
    Deadline {
        /// What was wanted.
        object: ReadObject,
        /// The source that was asked last.
        source_name: String,
        /// How long it had.
        after: Duration,
    },
    /// The read is longer than [`crate::limits::MAX_READ`].
    #[error("the read has {length} bytes, the limit is {limit}")]
    TooLong {
        /// Bytes asked for.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// The read has more extents than [`crate::limits::MAX_EXTENTS`].
    #[error("the read has {extents} extents, the limit is {limit}")]
    TooManyExtents {
        /// Extents asked for.
        extents: usize,
        /// The limit.
        limit: usize,
    },
    /// The range is not in the image.
    #[error("bytes {range:?} are outside of an image of {length} bytes")]
    OutOfRange {
        /// What was asked for.
        range: Range<u64>,
        /// Length of the flat image or meta.
        length: u64,
    },
    /// As many reads wait already as may.
    #[error("{limit} reads of this image are waiting already")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// Other reads of the image held all the memory that it may have, and none of them ended.
    #[error("no memory for this read within {after:?}: other reads of the image hold it")]
    NoRoom {
        /// How long it waited.
        after: Duration,
    },
    /// The store was closed while the read waited.
    #[error("the store was closed")]
    Closed,
}

impl ReadError {
    /// Returns the part of the image that could not be had, if it was one.
    #[must_use]
    pub const fn object(&self) -> Option<ReadObject> {
        match self {
            Self::Unavailable { object, .. } | Self::Deadline { object, .. } => Some(*object),
            _ => None,
        }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { failures, .. } => failures_kind(failures),
            Self::Deadline { .. } => ErrorKind::Unavailable,
            Self::TooLong { .. } | Self::TooManyExtents { .. } => ErrorKind::Limit,
            Self::OutOfRange { .. } => ErrorKind::Malformed,
            Self::Busy { .. } | Self::NoRoom { .. } => ErrorKind::Busy,
            Self::Closed => ErrorKind::Cancelled,
        }
    }
}

/// Returns the kind of an object that no source gave: integrity if one gave wrong bytes, else that of the last failure.
/// The first source is the store itself. Without sources the object is not found.
fn failures_kind(failures: &[SourceFailure]) -> ErrorKind {
    if failures.iter().any(SourceFailure::is_integrity) {
        return ErrorKind::Integrity;
    }
    failures.last().map_or(ErrorKind::NotFound, SourceFailure::kind)
}

/// Why a fill did not bring everything.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// No source gave the rest of a pack, however often it was asked.
    #[error("cannot get pack {pack}: {}", Failures(failures))]
    Unavailable {
        /// The pack.
        pack: Digest,
        /// What each source said last.
        failures: Arc<[SourceFailure]>,
    },
    /// A file of the store could not be written.
    #[error("cannot write {}: {kind}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        kind: io::ErrorKind,
    },
    /// It was cancelled.
    #[error("the fill was cancelled")]
    Ended,
}

impl FillError {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { failures, .. } => failures_kind(failures),
            Self::Write { kind, .. } => ErrorKind::of_io(&(*kind).into()),
            Self::Ended => ErrorKind::Cancelled,
        }
    }
}

/// What one source did wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{source_name}: {reason}")]
pub struct SourceFailure {
    /// The source.
    pub source_name: String,
    /// What it did.
    pub reason: FailureReason,
}

impl SourceFailure {
    /// Returns the kind. Bytes of a wrong length or form are wrong bytes.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.reason {
            FailureReason::Source(error) => error.kind(),
            FailureReason::Deadline(_) => ErrorKind::Unavailable,
            FailureReason::Length { .. }
            | FailureReason::Frame(_)
            | FailureReason::Digest { .. }
            | FailureReason::Group { .. } => ErrorKind::Integrity,
        }
    }

    /// Says whether it gave wrong bytes.
    #[must_use]
    pub fn is_integrity(&self) -> bool {
        self.kind() == ErrorKind::Integrity
    }
}

/// How a source failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FailureReason {
    /// It said so.
    #[error("{0}")]
    Source(Arc<SourceError>),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// It gave more or fewer bytes than it was asked for.
    #[error("{is} bytes instead of {must}")]
    Length {
        /// Bytes given.
        is: u64,
        /// Bytes asked for.
        must: u64,
    },
    /// Its bytes are not in the format.
    #[error("{0}")]
    Frame(Arc<FormatError>),
    /// Its bytes decode, but to others than the digest names.
    #[error("digest is {is}, must be {must}")]
    Digest {
        /// Digest of the bytes.
        is: Blake3,
        /// Digest from the map.
        must: Blake3,
    },
    /// Its bytes decode, but to others than the meta root proves.
    #[error("group {group} does not match the meta root")]
    Group {
        /// The group.
        group: u64,
    },
}

/// A part of the meta that is not in memory or on disk in its right form.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// The group has to be fetched first; a flight for it is under way. See [`crate::Meta::when_ready`].
    #[error("group {group} of the meta is being fetched")]
    Pending {
        /// The group.
        group: u64,
    },
    /// The range is not in the meta.
    #[error("bytes {range:?} are outside of a meta of {length} bytes")]
    OutOfRange {
        /// What was asked for.
        range: Range<u64>,
        /// Length of the meta.
        length: u64,
    },
}

/// Prints failures in one line.
struct Failures<'a>(&'a [SourceFailure]);

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no source is known");
        }
        for (at, failure) in self.0.iter().enumerate() {
            write!(f, "{}{failure}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
