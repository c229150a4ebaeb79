//! What kind of error it is: the one classification that texts, JSON, exit status and wire protocols map from.

use dimsum_source::ErrorKind;
use dimsum_store::{FailureReason, ReadError, SourceFailure, StoreError};

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
            | Self::Request { .. }
            | Self::Ordinary { .. }
            | Self::Platforms { .. } => ErrorKind::Invalid,
            Self::Against { source, .. } => source.kind(),
            Self::Source { source, .. } | Self::Target { source, .. } | Self::Copy { source, .. } => source.kind(),
            Self::Convert { source, .. } => convert_kind(source),
            Self::Format { source, .. } => ErrorKind::of_format(source),
            Self::Store { source, .. } => store_kind(source),
            Self::Read { source, .. } => read_kind(source),
            Self::Erofs { source, .. } => match &**source {
                dimsum_erofs::ErofsError::Read { source, .. } => read_kind(source),
                // Proven bytes that make no sense: the image was made so.
                _ => ErrorKind::Internal,
            },
            Self::Path { .. } | Self::NotInStore { .. } => ErrorKind::NotFound,
            Self::Mount { source, .. } => mount_kind(source),
            Self::Run { source, .. } => source.kind(),
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Io { source, .. } | Self::Output { source, .. } => ErrorKind::of_io(source),
        }
    }
}

fn mount_kind(error: &dimsum_mount::Error) -> ErrorKind {
    match error {
        dimsum_mount::Error::Fuse(dimsum_fuse::Error::Mount { source, .. }) => ErrorKind::of_io(&(*source).into()),
        _ => ErrorKind::Internal,
    }
}

/// Returns the kind of an error of a conversion or export.
#[must_use]
pub fn convert_kind(error: &dimsum_convert::ConvertError) -> ErrorKind {
    use dimsum_convert::ConvertError as E;
    match error {
        _ if error.is_damage() => ErrorKind::Integrity,
        E::LayerDigest { .. } | E::DiffId { .. } => ErrorKind::Integrity,
        E::Registry(source) => source.kind(),
        E::Option { .. } | E::AlreadyDimsum { .. } => ErrorKind::Invalid,
        E::Temporary { source, .. } | E::Write { source, .. } => ErrorKind::of_io(source),
        E::NotDimsum { .. } => ErrorKind::Invalid,
        E::Tree { source: dimsum_tree::TreeError::File { source, .. }, .. } => ErrorKind::of_io(source),
        E::Content { source, .. } | E::Sharing { source, .. } => convert_kind(source),
        _ => ErrorKind::Internal,
    }
}

/// Returns the kind of an error of the store.
#[must_use]
pub fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        _ if error.is_integrity() => ErrorKind::Integrity,
        StoreError::Io { source, .. } => ErrorKind::of_io(source),
        StoreError::Unavailable { failures, .. } => failures_kind(failures),
        StoreError::Meta { source, .. } => read_kind(source),
        StoreError::Format { source, .. } => ErrorKind::of_format(source),
        StoreError::Version { .. } => ErrorKind::Unsupported,
        StoreError::Disagree { .. } => ErrorKind::Malformed,
        StoreError::Openings { .. } => ErrorKind::Busy,
        _ => ErrorKind::Internal,
    }
}

fn read_kind(error: &ReadError) -> ErrorKind {
    match error {
        _ if error.is_integrity() => ErrorKind::Integrity,
        ReadError::Unavailable { failures, .. } => failures_kind(failures),
        ReadError::Deadline { .. } => ErrorKind::Unavailable,
        ReadError::TooLong { .. } | ReadError::TooManyExtents { .. } => ErrorKind::Limit,
        ReadError::OutOfRange { .. } => ErrorKind::Malformed,
        ReadError::Busy { .. } | ReadError::NoRoom { .. } => ErrorKind::Busy,
        ReadError::Closed => ErrorKind::Cancelled,
        _ => ErrorKind::Internal,
    }
}

/// What the last source said, since the first is the store itself; without sources there is nowhere to look.
fn failures_kind(failures: &[SourceFailure]) -> ErrorKind {
    match failures.last().map(|failure| &failure.reason) {
        None => ErrorKind::NotFound,
        Some(FailureReason::Source(source)) => source.kind(),
        Some(_) => ErrorKind::Unavailable,
    }
}
