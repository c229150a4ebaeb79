//! What kind of error it is, and so the exit status.

use std::io;

use dimsum_format::FormatError;
use dimsum_source::SourceError;
use dimsum_store::{ReadError, StoreError};

use super::Error;
use crate::check::against::AgainstError;
use crate::run::RunError;

/// What went wrong, as far as a script needs to know. Decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line does not make sense.
    Usage,
    /// Something that was named is not there.
    NotFound,
    /// This user may not do that.
    Permission,
    /// Bytes do not match the digest they must have.
    Integrity,
    /// Anything else.
    Failed,
}

impl Kind {
    /// The word that names the kind in messages and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not found",
            Self::Permission => "permission",
            Self::Integrity => "integrity",
            Self::Failed => "failed",
        }
    }

    /// The exit status.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Integrity => 3,
            Self::NotFound | Self::Permission | Self::Failed => 1,
        }
    }
}

impl Error {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Usage { .. } | Self::Grammar { .. } | Self::Name { .. } => Kind::Usage,
            Self::Source { source, .. } | Self::Target { source, .. } | Self::Copy { source, .. } => {
                source_kind(source)
            }
            Self::Convert { source, .. } => convert_kind(source),
            Self::Format { source, .. } => format_kind(source),
            Self::Store { source, .. } => store_kind(source),
            Self::Read { source, .. } => read_kind(source),
            Self::Erofs { source, .. } => match &**source {
                dimsum_erofs::Error::Read { source, .. } => read_kind(source),
                // Proven bytes that make no sense: the image was made so.
                _ => Kind::Failed,
            },
            Self::Against { source, .. } => match &**source {
                AgainstError::Digest { .. } | AgainstError::Chunk { .. } => Kind::Integrity,
                _ => Kind::Failed,
            },
            Self::Findings { .. } | Self::Unproven { .. } => Kind::Integrity,
            Self::Fill { .. } | Self::Said { .. } => Kind::Failed,
            Self::Path { .. } | Self::NotInStore { .. } => Kind::NotFound,
            Self::Run { source, .. } => run_kind(source),
            Self::Node { source, .. } => node_kind(source),
            Self::Interrupted { .. } => Kind::Failed,
            Self::Output { source } | Self::Io { source, .. } => io_kind(source),
        }
    }
}

fn io_kind(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Permission,
        _ => Kind::Failed,
    }
}

fn source_kind(error: &SourceError) -> Kind {
    match error.innermost() {
        SourceError::AuthNeeded { .. } | SourceError::AuthDenied { .. } | SourceError::Credentials { .. } => {
            Kind::Permission
        }
        SourceError::Digest { .. } => Kind::Integrity,
        SourceError::NotFound { .. } | SourceError::Name { .. } => Kind::NotFound,
        SourceError::Reference { .. } | SourceError::Target { .. } => Kind::Usage,
        SourceError::Format { source, .. } => format_kind(source),
        SourceError::Io { source, .. } => io_kind(source),
        _ => Kind::Failed,
    }
}

pub(super) fn convert_kind(error: &dimsum_convert::Error) -> Kind {
    use dimsum_convert::Error as E;
    match error {
        _ if error.is_damage() => Kind::Integrity,
        E::LayerDigest { .. } | E::DiffId { .. } => Kind::Integrity,
        E::Registry(source) => source_kind(source),
        E::Option { .. } | E::AlreadyDimsum { .. } => Kind::Usage,
        E::Temporary { source, .. } | E::Write { source, .. } => io_kind(source),
        E::NotDimsum { .. } => Kind::Usage,
        E::Tree { source: dimsum_tree::Error::File { source, .. }, .. } => io_kind(source),
        E::Content { source, .. } | E::Sharing { source, .. } => convert_kind(source),
        _ => Kind::Failed,
    }
}

const fn format_kind(error: &FormatError) -> Kind {
    match error {
        FormatError::Digest { .. } => Kind::Integrity,
        _ => Kind::Failed,
    }
}

fn store_kind(error: &StoreError) -> Kind {
    match error {
        _ if error.is_integrity() => Kind::Integrity,
        StoreError::Io { source, .. } => io_kind(source),
        StoreError::Unavailable { .. } => Kind::NotFound,
        _ => Kind::Failed,
    }
}

fn read_kind(error: &ReadError) -> Kind {
    if error.is_integrity() { Kind::Integrity } else { Kind::Failed }
}

fn node_kind(error: &dimsum_node::Error) -> Kind {
    use dimsum_node::Error as E;
    match error {
        _ if error.is_integrity() => Kind::Integrity,
        E::Store { source, .. } => store_kind(source),
        E::Target { .. } => Kind::Usage,
        E::System { source, .. } => io_kind(source),
        _ => Kind::Failed,
    }
}

fn run_kind(error: &RunError) -> Kind {
    match error {
        RunError::NoCommand | RunError::NoAccount { .. } | RunError::NotUtf8 { .. } => Kind::Usage,
        RunError::Privileges { .. } => Kind::Permission,
        RunError::Runtime { source, .. } | RunError::Io { source, .. } => io_kind(source),
        _ => Kind::Failed,
    }
}
