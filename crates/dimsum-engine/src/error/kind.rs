//! What kind of error it is: the one classification that texts, JSON, exit status and wire protocols map from.

use dimsum_source::ErrorKind;

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
            Self::Convert { source, .. } => source.kind(),
            Self::Format { source, .. } => ErrorKind::of_format(source),
            Self::Store { source, .. } => source.kind(),
            Self::Read { source, .. } => source.kind(),
            Self::Erofs { source, .. } => match &**source {
                dimsum_erofs::ErofsError::Read { source, .. } => source.kind(),
                // Proven bytes that make no sense: the image was made so.
                _ => ErrorKind::Internal,
            },
            Self::Path { .. } | Self::NotInStore { .. } => ErrorKind::NotFound,
            Self::Mount { source, .. } => source.kind(),
            Self::Run { source, .. } => source.kind(),
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Io { source, .. } | Self::Output { source, .. } => ErrorKind::of_io(source),
        }
    }
}
