//! Why the engine could not do what was asked: object, cause, and a kind for programs.

mod kind;

use std::io;
use std::path::{Path, PathBuf};

use dimsum_format::FormatError;
use dimsum_run::RunError;
use dimsum_source::SourceError;
use dimsum_store::{ReadError, StoreError};

use crate::cancel::CancelReason;
use crate::check::fault::AgainstError;
use crate::request::RequestFault;
use crate::text::Name;

pub use dimsum_source::ErrorKind;

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A text that names no image.
    #[error("{} is not an image name", shown_text(object))]
    Name {
        /// The text.
        object: String,
        /// Why not.
        source: Box<SourceError>,
    },
    /// A reference that names a file tree where an image is wanted.
    #[error("{object} is a file tree, not an image")]
    FileTree {
        /// The text.
        object: String,
    },
    /// An image that is named by a tag where only digests are allowed.
    #[error("{object} is named by a tag, and only digests are allowed")]
    Tag {
        /// The reference.
        object: String,
    },
    /// A source and a target that are the same.
    #[error("the source and the target are the same, {object}, so the image would be replaced")]
    SamePlace {
        /// The target.
        object: String,
    },
    /// A request that contradicts itself, or that the image cannot fulfil.
    #[error("{fault}")]
    Request {
        /// The part of the request, or the image.
        object: String,
        /// Why.
        fault: RequestFault,
    },
    /// Several platforms where one is wanted.
    #[error("the platforms are too many: {count}, and this command takes one")]
    Platforms {
        /// How many were asked for.
        count: usize,
    },
    /// An image or source cannot be read.
    #[error("cannot read image {object}")]
    Source {
        /// The reference.
        object: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A place cannot be written to.
    #[error("cannot write image {object}")]
    Target {
        /// The reference.
        object: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A copy that did not come to its end.
    #[error("cannot copy {object} to {target}")]
    Copy {
        /// The source.
        object: String,
        /// The target.
        target: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// A conversion or an export failed.
    #[error("cannot {action} {object}")]
    Convert {
        /// What was to be done: `convert`, `export` or `estimate`.
        action: &'static str,
        /// The source.
        object: String,
        /// Why.
        source: Box<dimsum_convert::ConvertError>,
    },
    /// A document or blob that is not in the format.
    #[error("image {object} is not in its form")]
    Format {
        /// The image.
        object: String,
        /// Why.
        source: Box<FormatError>,
    },
    /// An ordinary image where a Dimsum image is wanted.
    #[error("{object} is an ordinary image, not a Dimsum image")]
    Ordinary {
        /// The image.
        object: String,
    },
    /// A source that cannot be compared with.
    #[error("cannot compare with {object}")]
    Against {
        /// The source.
        object: String,
        /// Why.
        source: Box<AgainstError>,
    },
    /// The store, or an image in it, cannot be used.
    #[error("cannot {action} {object}")]
    Store {
        /// What was tried: `open store`, `read the record of`.
        action: &'static str,
        /// The image, or a path of the store.
        object: String,
        /// Why.
        source: Box<StoreError>,
    },
    /// An image that the store was asked about, and does not have.
    #[error("{object} is not in the store {}", store.display())]
    NotInStore {
        /// The image.
        object: String,
        /// The store's directory.
        store: PathBuf,
    },
    /// Data that cannot be read.
    #[error("cannot read {object}")]
    Read {
        /// The file in the image.
        object: String,
        /// Why.
        source: Box<ReadError>,
    },
    /// The image's file system cannot be read.
    #[error("cannot read the file system of {object}")]
    Erofs {
        /// The image or the file in it.
        object: String,
        /// Why.
        source: Box<dimsum_erofs::ErofsError<ReadError>>,
    },
    /// An image that cannot be mounted.
    #[error("cannot mount an image on {}", directory.display())]
    Mount {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: Box<dimsum_mount::Error>,
    },
    /// A container that cannot be started.
    #[error("cannot run a container of {object}")]
    Run {
        /// The image.
        object: String,
        /// Why.
        source: Box<RunError>,
    },
    /// The caller's writer failed.
    #[error("cannot write the bytes of {object}")]
    Output {
        /// The file in the image.
        object: String,
        /// Why.
        source: io::Error,
    },
    /// A path that the image does not have, or that is something else.
    #[error("{}: {reason}", Name(path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Work that was cancelled by its [`CancelToken`](crate::CancelToken).
    #[error("{reason}")]
    Cancelled {
        /// Why.
        reason: CancelReason,
    },
    /// The operating system's word.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl EngineError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Returns what it is about: an image, a file in it, a path.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::Name { object, .. } => shown_text(object).to_owned(),
            Self::FileTree { object }
            | Self::Tag { object }
            | Self::SamePlace { object }
            | Self::Request { object, .. }
            | Self::Ordinary { object }
            | Self::Against { object, .. }
            | Self::Source { object, .. }
            | Self::Target { object, .. }
            | Self::Copy { object, .. }
            | Self::Run { object, .. }
            | Self::Convert { object, .. }
            | Self::Format { object, .. }
            | Self::Store { object, .. }
            | Self::NotInStore { object, .. }
            | Self::Read { object, .. }
            | Self::Output { object, .. }
            | Self::Erofs { object, .. } => object.clone(),
            Self::Mount { directory, .. } => directory.display().to_string(),
            Self::Platforms { .. } => "the platforms".to_owned(),
            Self::Path { path, .. } => Name(path).to_string(),
            Self::Cancelled { .. } => "this command".to_owned(),
            Self::Io { path, .. } => path.display().to_string(),
        }
    }
}

/// An empty text is not seen.
fn shown_text(text: &str) -> &str {
    if text.is_empty() { "an empty word" } else { text }
}
