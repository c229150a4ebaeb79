//! What kind of error it is: the one classification that texts, JSON, exit status and wire protocols map from.

use std::io;

use dimsum_format::FormatError;
use dimsum_source::{ErrorKind, SourceError};
use dimsum_store::{ReadError, StoreError};

use super::EngineError;

impl EngineError {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. }
            | Self::FileTree { .. }
            | Self::Tag { .. }
            | Self::SamePlace { .. }
            | Self::Ordinary { .. }
            | Self::Platforms { .. } => ErrorKind::Invalid,
            Self::Against { source, .. } => source.kind(),
            Self::Source { source, .. } | Self::Target { source, .. } => source_kind(source),
            Self::Convert { source, .. } => convert_kind(source),
            Self::Format { source, .. } => format_kind(source),
            Self::Store { source, .. } => store_kind(source),
            Self::Read { source, .. } => read_kind(source),
            Self::Erofs { source, .. } => match &**source {
                dimsum_erofs::Error::Read { source, .. } => read_kind(source),
                // Proven bytes that make no sense: the image was made so.
                _ => ErrorKind::Internal,
            },
            Self::Path { .. } | Self::NotInStore { .. } => ErrorKind::NotFound,
            Self::Cancelled { .. } => ErrorKind::Internal,
            Self::Io { source, .. } => io_kind(source),
        }
    }
}

/// Returns the kind of an error of the operating system.
#[must_use]
pub fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        _ => ErrorKind::Internal,
    }
}

/// Returns the kind of an error of a source or target.
#[must_use]
pub fn source_kind(error: &SourceError) -> ErrorKind {
    match error.innermost() {
        SourceError::AuthNeeded { .. } | SourceError::AuthDenied { .. } | SourceError::Credentials { .. } => {
            ErrorKind::Denied
        }
        SourceError::Digest { .. } => ErrorKind::Integrity,
        SourceError::NotFound { .. } | SourceError::Name { .. } => ErrorKind::NotFound,
        SourceError::Reference { .. } | SourceError::Target { .. } => ErrorKind::Invalid,
        SourceError::Format { source, .. } => format_kind(source),
        SourceError::Io { source, .. } => io_kind(source),
        _ => ErrorKind::Internal,
    }
}

/// Returns the kind of an error of a conversion or export.
#[must_use]
pub fn convert_kind(error: &dimsum_convert::Error) -> ErrorKind {
    use dimsum_convert::Error as E;
    match error {
        _ if error.is_damage() => ErrorKind::Integrity,
        E::LayerDigest { .. } | E::DiffId { .. } => ErrorKind::Integrity,
        E::Registry(source) => source_kind(source),
        E::Option { .. } | E::AlreadyDimsum { .. } => ErrorKind::Invalid,
        E::Temporary { source, .. } | E::Write { source, .. } => io_kind(source),
        E::NotDimsum { .. } => ErrorKind::Invalid,
        E::Tree { source: dimsum_tree::Error::File { source, .. }, .. } => io_kind(source),
        E::Content { source, .. } | E::Sharing { source, .. } => convert_kind(source),
        _ => ErrorKind::Internal,
    }
}

const fn format_kind(error: &FormatError) -> ErrorKind {
    match error {
        FormatError::Digest { .. } => ErrorKind::Integrity,
        _ => ErrorKind::Internal,
    }
}

/// Returns the kind of an error of the store.
#[must_use]
pub fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        _ if error.is_integrity() => ErrorKind::Integrity,
        StoreError::Io { source, .. } => io_kind(source),
        StoreError::Unavailable { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Internal,
    }
}

fn read_kind(error: &ReadError) -> ErrorKind {
    if error.is_integrity() { ErrorKind::Integrity } else { ErrorKind::Internal }
}
