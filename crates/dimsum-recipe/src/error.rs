//! The errors of writing a recipe, and of making a layer from it.

use std::io;

use dimsum_format::{DeviceId, Digest, FormatError};
use dimsum_source::{ErrorKind, SourceError};

use crate::temporary::TemporaryError;

/// Why an original layer cannot be put together from its recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// It does not start as a recipe of this version.
    #[error("not a recipe of version 1")]
    Magic,
    /// A part ends too early.
    #[error("{part} ends too early")]
    Short {
        /// The part.
        part: &'static str,
    },
    /// A number of more than 64 bits.
    #[error("{part}: a number is too long")]
    Number {
        /// The part.
        part: &'static str,
    },
    /// A part cannot be decoded.
    #[error("{part}: {source}")]
    Read {
        /// The part.
        part: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A count or length above its limit.
    #[error("{part}: {value} is above the limit {limit}")]
    Limit {
        /// The counted object.
        part: &'static str,
        /// The value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Two things that must agree do not.
    #[error("{part}: the recipe says {said}, but it is {is}")]
    Mismatch {
        /// The values that are compared.
        part: &'static str,
        /// The value in the recipe.
        said: u64,
        /// What it is.
        is: u64,
    },
    /// A value that has no meaning.
    #[error("{part}: unknown value {value}")]
    Value {
        /// What it is.
        part: &'static str,
        /// The value.
        value: u64,
    },
    /// Bytes outside of a device.
    #[error("bytes {offset} to {} of device {device} are outside of it", offset.saturating_add(*length))]
    Outside {
        /// The device.
        device: DeviceId,
        /// Where they start.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// A device that neither the image nor the recipes' manifest lists.
    #[error("device {device} is in no pack that is listed")]
    NoDevice {
        /// The device.
        device: DeviceId,
    },
    /// A blob that comes with the recipes, or their manifest, cannot be had.
    #[error("cannot read {blob}: {source}")]
    Fetch {
        /// The blob.
        blob: Digest,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The rebuilt bytes are not those of the source.
    #[error("{part}: the digest is {is}, must be {must}")]
    Digest {
        /// The rebuilt object.
        part: &'static str,
        /// Its digest.
        is: Digest,
        /// The digest it must have.
        must: Digest,
    },
    /// The notes of the compression give no blob.
    #[error("cannot repeat the compression: {source}")]
    Compression {
        /// Why.
        source: Box<Self>,
    },
    /// Corrections of a DEFLATE stream that make no sense.
    #[error("the corrections of the compression are malformed")]
    Corrections,
    /// A pack that the image does not list is not in its form.
    #[error("pack {pack}: {source}")]
    Pack {
        /// The pack.
        pack: Digest,
        /// The fault.
        source: Box<FormatError>,
    },
    /// A temporary file failed.
    #[error(transparent)]
    Temporary(#[from] TemporaryError),
    /// A part of a recipe could not be compressed.
    #[error("cannot write a part of a recipe: {source}")]
    Write {
        /// The compressor's error.
        source: io::Error,
    },
    /// The tar reader called other bytes content than it takes next.
    #[error("the tar reader hands on bytes in another order than it reads them")]
    Order,
    /// A document of the referrer does not fit the image.
    #[error("{reason}")]
    Document {
        /// The part that does not fit.
        reason: &'static str,
    },
}

impl RecipeError {
    /// Returns the kind. A recipe whose result has the wrong digest is malformed: the digests of its own blobs, and those
    /// of the image, are right.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Limit { .. } => ErrorKind::Limit,
            Self::Fetch { source, .. } => {
                source.downcast_ref().map_or(ErrorKind::Unavailable, |error: &SourceError| error.kind())
            }
            Self::Compression { source } => source.kind(),
            Self::Pack { source, .. } => ErrorKind::of_format(source),
            Self::Temporary(TemporaryError { source, .. }) | Self::Write { source } => ErrorKind::of_io(source),
            Self::Order => ErrorKind::Internal,
            _ => ErrorKind::Malformed,
        }
    }

    /// Says whether only the compression cannot be repeated: the tar may be right.
    #[must_use]
    pub const fn is_compression(&self) -> bool {
        matches!(self, Self::Compression { .. })
    }
}

/// Refuses a value above its limit.
pub(crate) const fn limit(part: &'static str, value: u64, limit: u64) -> Result<(), RecipeError> {
    if value > limit { Err(RecipeError::Limit { part, value, limit }) } else { Ok(()) }
}
