//! Why a comparison could not be made, and why a chunk cannot be had.

use std::convert::Infallible;

use dimsum_convert::tree_kind;
use dimsum_format::{Blake3, Digest, FormatError};
use dimsum_source::{ErrorKind, SourceError};
use dimsum_tree::LayerReadError;

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgainstError {
    /// A layer of the source cannot be read.
    #[error("cannot read layer {layer}")]
    Layer {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: LayerReadError<Infallible>,
    },
    /// A layer of the source cannot be decompressed.
    #[error("cannot decompress layer {layer}")]
    Decode {
        /// Its digest.
        layer: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// A layer of the source does not have its digest.
    #[error("layer {must} has the digest {is} instead")]
    Digest {
        /// Digest of the bytes.
        is: Digest,
        /// Digest in the manifest.
        must: Digest,
    },
    /// The directory cannot be read.
    #[error("cannot read the directory")]
    Directory {
        /// Why.
        source: LayerReadError<Infallible>,
    },
    /// The trees cannot be merged.
    #[error("cannot merge the layers")]
    Merge {
        /// Why.
        source: dimsum_tree::TreeError,
    },
    /// The image's own tree cannot be read.
    #[error("cannot read the file system of the image: {reason}")]
    Image {
        /// Why.
        reason: String,
    },
    /// A file of the image cannot be read.
    #[error("cannot read a file of the image")]
    Chunk {
        /// Why.
        source: Box<ChunkError>,
    },
    /// The source is a Dimsum image: the comparison wants the image that was converted.
    #[error("the source is a Dimsum image")]
    IsDimsum,
    /// The source has no layers.
    #[error("the source has no layers")]
    NoLayers,
}

impl AgainstError {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Digest { .. } | Self::Chunk { .. } => ErrorKind::Integrity,
            Self::IsDimsum | Self::NoLayers => ErrorKind::Invalid,
            Self::Decode { source, .. } => match SourceError::kind_inside(source) {
                ErrorKind::Storage => ErrorKind::Malformed,
                kind => kind,
            },
            Self::Layer { source: LayerReadError::Tree(source), .. }
            | Self::Directory { source: LayerReadError::Tree(source) }
            | Self::Merge { source } => tree_kind(source),
            Self::Image { .. } | Self::Layer { .. } | Self::Directory { .. } => ErrorKind::Internal,
        }
    }
}

/// A chunk that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{pack}: chunk {chunk} at byte {offset}: {reason}")]
pub struct ChunkError {
    /// The pack.
    pub pack: String,
    /// Index of the chunk.
    pub chunk: u32,
    /// Where its frame starts in the pack.
    pub offset: u64,
    /// What is wrong.
    pub reason: ChunkFault,
}

/// Why a chunk cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkFault {
    /// The pack cannot be read there.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// Its frame does not decode.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// It decodes to other bytes.
    #[error("digest is {is}, must be {must}")]
    Digest {
        /// Digest of the bytes.
        is: Blake3,
        /// Digest in the device map.
        must: Blake3,
    },
    /// The address is not in the image.
    #[error("there is no such chunk")]
    Missing,
}
