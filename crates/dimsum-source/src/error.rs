//! Failures of sources and targets, whatever the transport.
//!
//! A [`SourceError`] says four things: its kind, whether asking again may help, the object, and a detail. The detail is
//! an error of any type: [`SourceFault`] for failures that every transport knows, or a type of the transport itself.
//! Callers decide by kind; few look at the detail.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use dimsum_format::{Digest, FormatError};

use crate::ErrorKind;

/// A blob or manifest that could not be read or written.
#[derive(Debug)]
pub struct SourceError(Box<SourceErrorParts>);

/// On the heap, so that a result is small.
#[derive(Debug)]
struct SourceErrorParts {
    kind: ErrorKind,
    is_passing: bool,
    object: String,
    detail: Box<dyn StdError + Send + Sync>,
}

impl SourceError {
    /// Makes an error about `object`: a source, a target, a host or a file. It is passing if its kind usually is.
    #[must_use]
    pub fn new(kind: ErrorKind, object: impl Into<String>, detail: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let (object, detail) = (object.into(), detail.into());
        Self(Box::new(SourceErrorParts { kind, is_passing: kind.is_passing(), object, detail }))
    }

    /// Makes an error of one of the operating system. If a [`SourceError`] stands inside of that, as readers of blobs
    /// return it, its kind counts.
    #[must_use]
    pub fn io(object: impl Into<String>, source: io::Error) -> Self {
        let inner = inside(&source).map(|inner| (inner.kind(), inner.is_passing()));
        let (kind, is_passing) = inner.unwrap_or_else(|| {
            let kind = ErrorKind::of_io(&source);
            (kind, kind.is_passing())
        });
        Self::new(kind, object, SourceFault::Io { source }).with_passing(is_passing)
    }

    /// Returns the kind of an error of the operating system, or of the [`SourceError`] that stands inside of it.
    #[must_use]
    pub fn kind_inside(error: &io::Error) -> ErrorKind {
        inside(error).map_or_else(|| ErrorKind::of_io(error), Self::kind)
    }

    /// Says that asking again later may help, or that it does not.
    #[must_use]
    pub fn with_passing(mut self, is_passing: bool) -> Self {
        self.0.is_passing = is_passing;
        self
    }

    /// Names the kind of document that was not found: a source that opens blobs does not know what they are.
    pub(crate) fn of_document(mut self, document: &'static str) -> Self {
        if let Some(SourceFault::NotFound { object, .. }) = self.0.detail.downcast_mut() {
            *object = document;
        }
        self
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Says whether the same request may succeed later, with nothing changed on this side.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.0.is_passing
    }

    /// Returns the source, target, host or file that it is about.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Returns the detail if it is a `T`: that of the innermost error, if readers have wrapped it.
    #[must_use]
    pub fn detail<T: StdError + 'static>(&self) -> Option<&T> {
        self.innermost().0.detail.downcast_ref()
    }

    /// Returns the error of a source that stands inside the error of a reader, if there is one, else itself.
    #[must_use]
    pub fn innermost(&self) -> &Self {
        match self.0.detail.downcast_ref() {
            Some(SourceFault::Io { source }) => inside(source).map_or(self, Self::innermost),
            _ => self,
        }
    }
}

fn inside(error: &io::Error) -> Option<&SourceError> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.object, self.0.detail)
    }
}

impl StdError for SourceError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0.detail)
    }
}

/// A failure that every transport knows. Its object stands in the [`SourceError`] around it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceFault {
    /// The source does not have the document or blob.
    #[error("no {object} {digest}")]
    NotFound {
        /// The kind of document: `manifest`, `config`, `blob`.
        object: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// The range ends behind the end of the blob.
    #[error("blob {digest} has no bytes {range:?}")]
    Range {
        /// The blob.
        digest: Digest,
        /// Bytes asked for.
        range: Range<u64>,
    },
    /// Bytes that do not have the digest by which they were asked for.
    #[error("{object}: digest is {is}, must be {must}")]
    Digest {
        /// The kind of document: `manifest`, `blob`.
        object: &'static str,
        /// Digest of the bytes.
        is: Digest,
        /// Digest that was asked for.
        must: Digest,
    },
    /// An object above its limit.
    #[error("{object} {digest} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The kind of document: `manifest`, `config`.
        object: &'static str,
        /// Its digest.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A tag that is not there, or a name that stands for several images.
    #[error("{reason}")]
    Name {
        /// The mismatch, and the names that there are instead.
        reason: String,
    },
    /// A text that is not a reference. The text is the object.
    #[error("{reason}")]
    Reference {
        /// The breach of the grammar.
        reason: Cow<'static, str>,
    },
    /// A target that may not be written so.
    #[error("{reason}")]
    Target {
        /// Why not.
        reason: &'static str,
    },
    /// A document that is not in its form.
    #[error("{source}")]
    Format {
        /// Why.
        source: FormatError,
    },
    /// A tag that should list the referrers of a manifest, and has something else.
    #[error("the tag {tag} has no list of referrers, for which the name is reserved: {source}")]
    Referrers {
        /// The tag.
        tag: String,
        /// The fault of the document that it has.
        source: Box<FormatError>,
    },
    /// The operating system's word about a file or connection.
    #[error("{source}")]
    Io {
        /// Why.
        source: io::Error,
    },
    /// Bytes that do not come, or too slowly.
    #[error("{what}: {reason} within {} s", after.as_secs_f32())]
    Deadline {
        /// The request.
        what: String,
        /// The event that did not happen.
        reason: &'static str,
        /// Time allowed.
        after: Duration,
    },
    /// The runtime that reads in the background has ended, or the caller asked to end.
    #[error("reading was cancelled")]
    Cancelled,
}

impl SourceFault {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::Name { .. } => ErrorKind::NotFound,
            Self::Range { .. } | Self::Referrers { .. } => ErrorKind::Malformed,
            Self::Digest { .. } => ErrorKind::Integrity,
            Self::TooLarge { .. } => ErrorKind::Limit,
            Self::Reference { .. } | Self::Target { .. } => ErrorKind::Invalid,
            Self::Format { source } => ErrorKind::of_format(source),
            Self::Io { source } => ErrorKind::of_io(source),
            Self::Deadline { .. } => ErrorKind::Unavailable,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Names the object: a source, a target, a host or a file.
    #[must_use]
    pub fn at(self, object: impl Into<String>) -> SourceError {
        match self {
            Self::Io { source } => SourceError::io(object, source),
            fault => SourceError::new(fault.kind(), object, fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("carrier {number} is down")]
    struct PigeonFault {
        number: u32,
    }

    #[test]
    fn a_transport_makes_errors_of_its_own_and_callers_find_kind_and_detail_through_a_reader() {
        let own = SourceError::new(ErrorKind::Unavailable, "pigeon:loft", PigeonFault { number: 7 });
        assert!(own.is_passing(), "as its kind usually is");
        let read = SourceError::io("layer", io::Error::other(own.with_passing(false)));
        assert_eq!((read.kind(), read.is_passing()), (ErrorKind::Unavailable, false));
        assert_eq!(read.detail().map(|fault: &PigeonFault| fault.number), Some(7));
        assert!(read.detail::<SourceFault>().is_none());
        assert_eq!(read.to_string(), "layer: pigeon:loft: carrier 7 is down");
        assert_eq!(crate::with_causes(&read), read.to_string(), "no cause is said twice");
    }

    #[test]
    fn a_wrong_digest_stays_one_behind_a_reader() {
        let (is, must) = (Digest::of(b"is"), Digest::of(b"must"));
        let inner = SourceFault::Digest { object: "blob", is, must }.at("oci:x");
        let outer = SourceError::io("oci:x layer", io::Error::other(inner));
        assert_eq!(outer.kind(), ErrorKind::Integrity);
        assert_eq!(outer.innermost().object(), "oci:x");
    }
}
