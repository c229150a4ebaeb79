//! The bit-exact way back: a recipe gives the tar and the blob of a layer again (`docs/format.md`, section 10).
//!
//! ```text
//!   tar ─ recording ─▸ bytes that are not content, and where content stood ┐
//!   places of contents (known to the caller) ──────────────────────────────┴ operations ─▸ operations, literals ┐
//!   blob, read again ─ note ─▸ choices of its compressor that the model does not predict ────────────────────────┴─▸ recipe
//!
//!   recipe ─ restore_tar ─▸ tar ─ restore_blob ─▸ blob
//!   devices ──┘
//! ```
//!
//! Nothing in a recipe is trusted. It describes how to make bytes, and the caller compares their digests with
//! those that it knows. All work, lengths and counts are bounded by [`limits`].
//!
//! This crate does not know packs, stores or manifests. Content comes from [`RecipeDevices`], and bytes go to a
//! callback of the caller.

#![forbid(unsafe_code)]

mod deflate;
mod effort;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
mod note;
mod operations;
mod recipe;
mod recording;
mod restore_blob;
mod restore_tar;
mod section;
pub mod temporary;
mod varint;

pub use error::RecipeError;
pub use note::{UnkeptReason, note};
pub use operations::OperationWriter;
pub use recipe::{BlobForm, Recipe, RecipeParts};
pub use recording::{Recorded, RecordedReader, Recording, RecordingSink, RecordingTar, Segment};
pub use restore_blob::BlobRestorer;
pub use restore_tar::{RecipeDevices, restore_tar};
pub use section::Section;
