//! The bit-exact way back: a recipe holds everything that is needed to make a layer's tar and blob again (`docs/format.md`, section 10).
//!
//! ```text
//!   tar ─ record ─▸ bytes that are not content, and where content stood ┐
//!   places of contents (known to the caller) ───────────────────────────┴ operations ─▸ operations, literals ┐
//!   blob, read again ─ wrap ─▸ choices of its compressor that the model does not predict ─────────────────────┴─▸ recipe
//!
//!   recipe ─ serve ─▸ tar ─ rewrap ─▸ blob
//!   devices ──┘
//! ```
//!
//! Nothing in a recipe is trusted: it describes how to make bytes, and the caller compares the digests of what it gets with those
//! that it knows. All work, lengths and counts are bounded by [`limits`].
//!
//! This crate does not know packs, stores or manifests: content comes from [`Devices`], bytes go to a callback of the caller.

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
pub use note::{Reason, note};
pub use operations::Operations;
pub use recipe::{Form, Recipe, RecipeParts};
pub use recording::{Recorded, RecordedReader, Recording, RecordingSink, Segment, Tee};
pub use restore_blob::Rewrap;
pub use restore_tar::{Devices, restore_tar};
pub use section::Section;
