//! The errors of conversions and exports.

use std::io;
use std::path::PathBuf;

use dimsum_erofs::PlanError;
use dimsum_format::{Digest, FormatError};
use dimsum_recipe::RecipeError;
use dimsum_recipe::temporary::TemporaryError;
use dimsum_source::{ErrorKind, SourceError};
use dimsum_tree::{PathName, TreeError};

/// Why there is no image. Nothing of it is visible in the target then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// An option outside of its limits.
    #[error("{option} {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// A blob or manifest of the source or target could not be read or written.
    #[error(transparent)]
    Registry(#[from] SourceError),
    /// A manifest or config of the source is not in its form.
    #[error("{object} {digest}: {source}")]
    Document {
        /// What it is.
        object: &'static str,
        /// Which.
        digest: Digest,
        /// The fault.
        source: Box<FormatError>,
    },
    /// The source is a Dimsum image.
    #[error("{digest} is a Dimsum image already: copy it instead")]
    AlreadyDimsum {
        /// Its manifest.
        digest: Digest,
    },
    /// An image to share with is an ordinary one.
    #[error("{name} ({digest}) is not a Dimsum image, and only converted images share content")]
    NotDimsum {
        /// As it was named.
        name: String,
        /// Its manifest.
        digest: Digest,
    },
    /// An image to share with could not be looked at.
    #[error("cannot share with {name}: {source}")]
    Sharing {
        /// As it was named.
        name: String,
        /// Why.
        source: Box<Self>,
    },
    /// A pack that was to be taken is not what its source layer gives, is damaged, or is gone. All is done
    /// again without it.
    #[error("cannot reuse {what}: {reason}")]
    Reuse {
        /// The cache tag, or the pack and its image.
        what: String,
        /// The fault.
        reason: String,
    },
    /// An index has no image for the platforms that are wanted.
    #[error(
        "index {digest} has no image for {}; it has {}",
        if wanted.is_empty() { "any platform".to_owned() } else { wanted.join(", ") },
        if offered.is_empty() { "none that can be converted".to_owned() } else { offered.join(", ") }
    )]
    NoPlatform {
        /// The index.
        digest: Digest,
        /// Platforms that were wanted; none if it was all.
        wanted: Vec<String>,
        /// Platforms that there are.
        offered: Vec<String>,
    },
    /// The source is something else than a container image.
    #[error("manifest {digest}: {object} has the media type {media_type:?}, which is not that of a container image")]
    MediaType {
        /// The manifest.
        digest: Digest,
        /// What in it.
        object: String,
        /// Its media type.
        media_type: String,
    },
    /// Manifest and config do not have the same number of layers.
    #[error("manifest {digest} has {layers} layers, but its config has {diff_ids} diff_ids")]
    LayerCount {
        /// The manifest.
        digest: Digest,
        /// Layers in the manifest.
        layers: usize,
        /// `diff_ids` in the config.
        diff_ids: usize,
    },
    /// A layer's blob does not have the digest or the length that the manifest gives it.
    #[error(
        "layer {must}: {}; the source is damaged",
        if is_size == must_size {
            format!("the blob has the digest {is}")
        } else {
            format!("the blob is {is_size} bytes, must be {must_size}")
        }
    )]
    LayerDigest {
        /// The layer's digest in the manifest.
        must: Digest,
        /// The blob's.
        is: Digest,
        /// The layer's length in the manifest.
        must_size: u64,
        /// Bytes read.
        is_size: u64,
    },
    /// A layer's tar does not have the diff_id that the config gives it.
    #[error("layer {layer}: the diff_id of its tar is {is}, the config says {must}")]
    DiffId {
        /// The layer.
        layer: Digest,
        /// The config's word.
        must: Digest,
        /// SHA-256 of the tar.
        is: Digest,
    },
    /// The tree of a layer or directory could not be read, or is refused.
    #[error("{origin}: {source}")]
    Tree {
        /// The layer or directory.
        origin: String,
        /// Why, with the entry.
        source: dimsum_tree::TreeError,
    },
    /// The content of a file could not be stored.
    #[error("{origin}: {path}: {source}")]
    Content {
        /// The layer or directory.
        origin: String,
        /// The file.
        path: PathName,
        /// Why.
        source: Box<Self>,
    },
    /// The tree does not fit an EROFS image.
    #[error("{origin}: {source}")]
    Layout {
        /// The layer or directory, or the image.
        origin: String,
        /// Why.
        source: PlanError,
    },
    /// The result is beyond a limit of the format.
    #[error("{origin}: {source}")]
    Format {
        /// The layer or directory, or the image.
        origin: String,
        /// Which limit.
        source: Box<FormatError>,
    },
    /// A temporary file failed.
    #[error("cannot use a temporary file in {}: {source}", dir.display())]
    Temporary {
        /// Where temporary files go.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A tree or its maps could not be written as an EROFS image.
    #[error("cannot write the metadata of {origin}: {source}")]
    Meta {
        /// The layer or directory, or the image.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// The target did not take bytes.
    #[error("cannot write to {target_name}: {source}")]
    Write {
        /// The target.
        target_name: String,
        /// Why.
        source: io::Error,
    },
    /// A Dimsum image to be exported cannot be read.
    #[error("cannot read {object}: {source}")]
    Unreadable {
        /// The image, or a part of it.
        object: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes of a Dimsum image to be exported are not what its root says.
    #[error("{object} is damaged: {source}")]
    Damaged {
        /// The image, or a part of it.
        object: String,
        /// The fault.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system of a Dimsum image to be exported, or of a layer meta, is malformed, though its digest is right.
    #[error("the file system of {object} is malformed: {source}")]
    Malformed {
        /// The image, or its layer meta.
        object: String,
        /// The fault.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An export would have given another tree than the image has.
    #[error("the layers made of {image} do not have its tree; next: report this fault of the program")]
    NotIdentical {
        /// The image.
        image: String,
    },
    /// The records for a recipe, or the recipe, could not be kept.
    #[error("cannot keep the recipe of a layer: {reason}")]
    Recipe {
        /// Why.
        reason: String,
    },
    /// The original cannot be made of its recipes: a lack or fault of these, not of the image.
    #[error("cannot restore the original{}: {source}", layer.map_or_else(String::new, |layer| format!(", layer {layer}")))]
    Original {
        /// The layer, by the digest it had.
        layer: Option<Digest>,
        /// The fault.
        source: Box<RecipeError>,
    },
    /// [`Progress::cancelled`](crate::ConversionProgress::cancelled) said so.
    #[error("the conversion was cancelled")]
    Cancelled,
}

impl ConvertError {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Option { .. } | Self::AlreadyDimsum { .. } | Self::NotDimsum { .. } => ErrorKind::Invalid,
            Self::Registry(source) => source.kind(),
            Self::Document { source, .. } | Self::Format { source, .. } => ErrorKind::of_format(source),
            Self::Sharing { source, .. } | Self::Content { source, .. } => source.kind(),
            Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::MediaType { .. } => ErrorKind::Unsupported,
            Self::LayerCount { .. } | Self::Malformed { .. } => ErrorKind::Malformed,
            Self::LayerDigest { .. } | Self::DiffId { .. } | Self::Damaged { .. } => ErrorKind::Integrity,
            Self::Tree { source, .. } => tree_kind(source),
            Self::Layout { source: PlanError::TooLarge { .. }, .. } => ErrorKind::Limit,
            Self::Layout { .. } => ErrorKind::Unsupported,
            Self::Temporary { source, .. } => ErrorKind::of_io(source),
            Self::Meta { source, .. } | Self::Write { source, .. } => SourceError::kind_inside(source),
            Self::Unreadable { source, .. } => {
                source.downcast_ref().map_or(ErrorKind::Unavailable, |error: &SourceError| error.kind())
            }
            Self::Original { source, .. } => source.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Reuse { .. } | Self::NotIdentical { .. } | Self::Recipe { .. } => ErrorKind::Internal,
        }
    }

    /// Names the layer whose recipe was wrong.
    pub(crate) fn in_layer(self, digest: Digest) -> Self {
        match self {
            Self::Original { layer: None, source } => Self::Original { layer: Some(digest), source },
            error => error,
        }
    }

    /// Wraps a breach of the format's limits.
    pub(crate) fn format(origin: &str, source: FormatError) -> Self {
        Self::Format { origin: origin.to_owned(), source: Box::new(source) }
    }
}

/// Returns the kind of a tree that could not be read. Bytes that do not decompress are the fault of their layer.
#[must_use]
pub fn tree_kind(error: &TreeError) -> ErrorKind {
    match error {
        TreeError::Entry { .. } => ErrorKind::Unsupported,
        TreeError::Archive { .. } => ErrorKind::Malformed,
        TreeError::Read { source, .. } => match SourceError::kind_inside(source) {
            ErrorKind::Storage => ErrorKind::Malformed,
            kind => kind,
        },
        TreeError::File { source, .. } => ErrorKind::of_io(source),
        _ => ErrorKind::Internal,
    }
}

/// Refuses a value above its limit.
pub(crate) fn limit(part: &'static str, value: u64, limit: u64) -> Result<(), ConvertError> {
    if value > limit {
        let source = FormatError::Limit { part, value, limit };
        return Err(ConvertError::format("image", source));
    }
    Ok(())
}

impl From<TemporaryError> for ConvertError {
    fn from(TemporaryError { dir, source }: TemporaryError) -> Self {
        Self::Temporary { dir, source }
    }
}

/// The recipe of an original that is to be made again is wrong.
impl From<RecipeError> for ConvertError {
    fn from(error: RecipeError) -> Self {
        match error {
            RecipeError::Temporary(error) => error.into(),
            error => Self::Original { layer: None, source: Box::new(error) },
        }
    }
}
