//! Where blobs come from and go to: OCI image layouts on disk (registries later).
//!
//! A [`Source`] gives bytes by blob digest and promises nothing about them: whoever asks verifies. A [`Target`] takes
//! blobs and manifests. Neither knows chunks.

#![forbid(unsafe_code)]

mod error;
mod source;
mod target;

pub use error::SourceError;
pub use source::{BoxFuture, Source};
pub use target::{BlobWriter, Target};
