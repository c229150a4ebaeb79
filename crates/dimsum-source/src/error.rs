//! What can go wrong between us and a source or target.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

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
        reason: Cow<'static, str>,
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
    /// A tag that should list what refers to a manifest, and has something else.
    #[error("{source_name}: the tag {tag} has no list of referrers, for which the name is reserved: {source}")]
    Referrers {
        /// The source.
        source_name: String,
        /// The tag.
        tag: String,
        /// What is wrong with what it has.
        source: Box<FormatError>,
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
    /// The registry wants credentials, and there are none for it.
    #[error("{registry}: {repository} is not open to everybody, and there are no credentials for it{detail}")]
    AuthNeeded {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
        /// The registry's own words.
        detail: Box<Detail>,
    },
    /// The registry does not let these credentials (or nobody) do this.
    #[error("{registry}: no permission to {action} {repository}{detail}")]
    AuthDenied {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
        /// What was tried: `pull` or `push`.
        action: &'static str,
        /// Whether there were credentials.
        with_credentials: bool,
        /// The registry's own words.
        detail: Box<Detail>,
    },
    /// Credentials that cannot be had: a malformed file, a helper that fails, a place they must not be sent to.
    #[error("{registry}: credentials from {place}: {reason}")]
    Credentials {
        /// The registry's host.
        registry: String,
        /// The file, the helper program, or the token server.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A secure connection that cannot be trusted, or not be made at all.
    #[error("{host}: TLS: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong, for which the hints differ.
        problem: TlsProblem,
        /// What is wrong, in detail.
        reason: String,
    },
    /// A host whose name nobody knows.
    #[error("{host}: the name of the host is not known: {reason}")]
    UnknownHost {
        /// The host.
        host: String,
        /// The resolver's word.
        reason: String,
    },
    /// A host that does not answer.
    #[error("{host}: cannot be reached: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// A refusal.
    #[error("{host}: {what}: status {status}{detail}")]
    Status {
        /// Who refused: the registry, or a host that it redirected to.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        detail: Box<Detail>,
    },
    /// An answer that breaks the protocol, so that nothing of it can be used.
    #[error("{host}: {what}: {reason}")]
    Answer {
        /// Who answered.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{host}: {what}: redirect to {to}: {reason}")]
    Redirect {
        /// Who redirected.
        host: String,
        /// What was asked for.
        what: String,
        /// Where to: only scheme and host, since addresses of object stores hold secrets.
        to: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// A connection that broke more often than we go on.
    #[error("{host}: {what}: the connection broke: {reason}")]
    Broken {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// How it broke.
        reason: String,
    },
    /// Bytes that do not come, or too slowly.
    #[error("{host}: {what}: {reason} within {} s", after.as_secs_f32())]
    Deadline {
        /// The host.
        host: String,
        /// What was asked for.
        what: String,
        /// What did not happen.
        reason: &'static str,
        /// Time allowed.
        after: Duration,
    },
}

/// What a registry says of an error: code and message of the distribution specification, of bounded length and without
/// control characters; or the first line of a plain text. Nothing if the body had another form: a page for browsers helps nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// For example `DENIED`, `TOOMANYREQUESTS`, `MANIFEST_UNKNOWN`; may be empty.
    pub code: String,
    /// In words; may be empty.
    pub message: String,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.code, &*self.message) {
            ("", "") => Ok(()),
            (code, "") => write!(f, " ({code})"),
            ("", message) => write!(f, " ({message})"),
            (code, message) => write!(f, " ({code}: {message})"),
        }
    }
}

/// What is wrong with TLS, as far as there is something to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The host speaks something else, most often plain HTTP.
    NotSpoken,
    /// No authority that we trust signed its certificate.
    UnknownIssuer,
    /// The certificate is for another name.
    WrongName,
    /// The certificate is outside its time: it has expired, or a clock is wrong.
    OutOfTime,
    /// It wants a certificate of ours, or refuses the one that it got.
    ClientCertificate,
    /// Certificates of ours that cannot be used.
    OwnFiles,
    /// Something else.
    Other,
}

impl SourceError {
    /// Says whether trying again later may help, with nothing changed by anybody here.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.innermost() {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Deadline { .. } => true,
            Self::Status { status, .. } => is_transient_status(*status),
            _ => false,
        }
    }

    /// Returns the error of a source that stands inside the error of a reader, if there is one, else itself.
    #[must_use]
    pub fn innermost(&self) -> &Self {
        let Self::Io { source, .. } = self else { return self };
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<Self>());
        inner.map_or(self, Self::innermost)
    }
}

/// Says whether an HTTP status may be another one later: 429, and what servers say when they are overloaded or in trouble.
/// 501 and its like do not change.
#[must_use]
pub const fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}
