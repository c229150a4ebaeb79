//! Where blobs come from and go to, whatever the transport.
//!
//! A [`Source`] gives bytes by blob digest and promises nothing about them: the caller verifies. A [`Place`] is a source
//! that also resolves its name. A [`Target`] takes blobs and manifests. None of them knows chunks. The transports
//! implement these traits in crates of their own; this crate knows neither HTTP nor disk layouts.
//!
//! ```text
//!   text → Reference ─→ Transports ─┬─ open   → Place:  resolve → manifest; Source::read_range, open, …
//!                                   └─ create → Target: has, mount_blob, copy_blob | start_blob … commit, put_manifest
//! ```

#![forbid(unsafe_code)]

mod causes;
mod copy;
mod error;
mod kind;
mod partial_blob;
mod place;
mod platform;
mod reference;
pub mod referrers;
mod regular_file;
mod runtime;
mod source;
mod target;
mod transport;

pub use causes::{causes, with_causes};
pub use copy::{
    Copied, CopiedReferrer, CopyProgress, LeftReferrer, Outcome, Plan, Referrers, Selection, Tally, Wanted, copy_image,
    copy_manifest, copy_with_referrers,
};
pub use error::{SourceError, SourceFault};
pub use kind::ErrorKind;
pub use partial_blob::{PartialBlob, PartialFailure, remove_unwritten};
pub use place::{Document, Place, Prefer, is_twin, resolve};
pub use platform::{fits, host_platform, parse_platform, text as platform_text};
pub use reference::{ImageName, Reference, Repository, parse_image_name};
pub use referrers::fallback_tag;
pub use regular_file::{open_regular, open_without_waiting};
pub use runtime::{MAX_BLOCKING_READS, Runtime};
pub use source::{BoxFuture, Source};
pub use target::{BlobWriter, Role, Shape, Target, check, copy_through};
pub use transport::{Scheme, Schemes, Transport, Transports};
