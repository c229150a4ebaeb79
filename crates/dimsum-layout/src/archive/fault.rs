//! The failure that only archives have.

use dimsum_source::{ErrorKind, SourceError};

/// An archive that is not one, or has a member that is refused. The archive stands in the [`SourceError`] around it.
#[derive(Debug, thiserror::Error)]
#[error("member {member:?} at byte {offset}: {reason}")]
#[non_exhaustive]
pub struct ArchiveFault {
    /// Name of the member, as far as it is known.
    pub member: String,
    /// Position of its header.
    pub offset: u64,
    /// The fault.
    pub reason: &'static str,
}

impl ArchiveFault {
    /// Names the archive.
    pub(super) fn at(self, archive: impl Into<String>) -> SourceError {
        SourceError::new(ErrorKind::Malformed, archive, self)
    }
}
