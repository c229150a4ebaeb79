//! The bit-exact way back: a recipe for each layer of the source, kept beside the image as a referrer (`docs/format.md`, section 10).
//!
//! ```text
//!   tar ─ record ─▸ what is not content ┐
//!   places of contents ─────────────────┴ cook ─▸ operations, literals ┐
//!   blob, read again ─ wrap ─▸ what its compressor chose ──────────────┴─▸ recipe ┐
//!   manifest, config, packs that the image does not list ─────────────────────────┴─▸ artifact
//!
//!   recipe ─ serve ─▸ tar, proven by its diff_id ─ rewrap ─▸ blob, proven by its digest
//!   packs ────┘
//! ```
//!
//! A recipe says how to make bytes, and nothing it says is believed: the Dimsum image's manifest names the source's manifest, that
//! the config and the layers, and what comes out must have their digests.

mod artifact;
mod cook;
mod deflate;
mod effort;
mod error;
pub(crate) mod fuzz;
mod keep;
mod limits;
mod recipe;
mod record;
mod rewrap;
mod section;
mod serve;
mod varint;
mod wrap;

pub use self::error::RecipeError;
pub use self::keep::{Gives, KeptLayer, KeptOriginal};

pub(crate) use self::artifact::{Artifact, Piece};
pub(crate) use self::keep::{Keeping, Kept};
pub(crate) use self::limits::{MAX_RECIPE_BYTES, max_decoded};
pub(crate) use self::recipe::{Form, Recipe};
pub(crate) use self::record::{Recorded, Recording};
pub(crate) use self::section::Part;
pub(crate) use self::serve::{Devices, serve};
