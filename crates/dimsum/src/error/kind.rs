//! What kind of error it is, and so the exit status.

use dimsum_engine::ErrorKind;

use super::Error;

/// Returns the word that names a kind in messages, and its exit status. JSON has the kind's own name.
const fn table(kind: ErrorKind) -> (&'static str, u8) {
    match kind {
        ErrorKind::Invalid => ("usage", 2),
        ErrorKind::Integrity => ("integrity", 3),
        ErrorKind::NotFound => ("not found", 1),
        ErrorKind::Denied => ("permission", 1),
        _ => ("failed", 1),
    }
}

/// Returns the word that names a kind in messages.
pub(super) const fn word(kind: ErrorKind) -> &'static str {
    table(kind).0
}

/// Returns the exit status of a kind.
pub(super) const fn status(kind: ErrorKind) -> u8 {
    table(kind).1
}

impl Error {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Usage { .. } | Self::Grammar { .. } => ErrorKind::Invalid,
            Self::Findings { .. } | Self::Unproven { .. } => ErrorKind::Integrity,
            Self::Fill { source, .. } => source.kind(),
            Self::Interrupted { .. } => ErrorKind::Cancelled,
            Self::Said { .. } => ErrorKind::Internal,
            Self::Run { source, .. } => source.kind(),
            Self::Node { source, .. } => source.kind(),
            Self::Server(failure) => failure.kind,
            Self::Output { source } | Self::Io { source, .. } => ErrorKind::of_io(source),
        }
    }
}
