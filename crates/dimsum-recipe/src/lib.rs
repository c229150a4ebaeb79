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
mod operations;
mod recipe;
mod record;
mod rewrap;
mod section;
mod serve;
pub mod temporary;
mod varint;
mod wrap;

pub use error::RecipeError;
pub use operations::Operations;
pub use recipe::{Form, Recipe, RecipeParts};
pub use record::{Recorded, RecordedReader, Recording, RecordingSink, Segment, Tee};
pub use rewrap::Rewrap;
pub use section::Section;
pub use serve::{Devices, serve};
pub use wrap::{Reason, note};
