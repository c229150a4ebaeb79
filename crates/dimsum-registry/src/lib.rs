//! Where blobs come from and go to: OCI image layouts on disk (registries later).
//!
//! A [`Source`] gives bytes by blob digest and promises nothing about them: whoever asks verifies. A [`Target`] takes
//! blobs and manifests. Neither knows chunks.
//!
//! ```text
//!   text → Reference → OciLayout ─┬─ resolve → manifest digest → Source::read_small, open, read_range
//!                                 └─ Target::start_blob … commit, put_manifest
//! ```

#![forbid(unsafe_code)]

mod error;
mod layout;
mod platform;
mod reference;
mod source;
mod target;

pub use error::SourceError;
pub use layout::{OciLayout, ResolvedImage};
pub use platform::host_platform;
pub use reference::{ImageName, Reference};
pub use source::{BoxFuture, Source};
pub use target::{BlobWriter, Target};
