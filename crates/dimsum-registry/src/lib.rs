//! Where blobs come from and go to: registries, OCI image layouts, archives.
//!
//! A [`Source`] gives bytes by blob digest and promises nothing about them: whoever asks verifies. A [`Place`] is a source
//! that also knows what its name stands for. A [`Target`] takes blobs and manifests. None of them knows chunks.
//!
//! ```text
//!   text → Reference ─→ Network ─┬─ open   → Place:  resolve → manifest; Source::read_range, open, …
//!                                └─ create → Target: has, mount_blob, copy_blob | start_blob … commit, put_manifest
//! ```

#![forbid(unsafe_code)]

mod access;
mod archive;
mod copy;
mod error;
mod layout;
mod network;
mod place;
mod platform;
mod reference;
mod referrers;
mod remote;
mod runtime;
mod source;
mod target;

pub use access::{Access, DEFAULT_TEMP_DIR};
pub use archive::{Archive, ArchiveTarget, Members};
pub use copy::{
    Copied, CopiedReferrer, CopyProgress, LeftReferrer, Outcome, Referrers, Selection, Tally, copy_image,
    copy_manifest, copy_with_referrers,
};
pub use error::{Detail, SourceError, TlsProblem};
pub use layout::OciLayout;
pub use network::Network;
pub use place::{Document, Place, Prefer, is_twin, resolve};
pub use platform::{fits, host_platform, parse_platform, text as platform_text};
pub use reference::{ImageName, Reference, Repository};
pub use referrers::fallback_tag;
pub use remote::Timing;
#[doc(hidden)]
pub use remote::fuzz;
pub use runtime::Runtime;
pub use source::{BoxFuture, Source};
pub use target::{BlobWriter, Role, Shape, Target};
