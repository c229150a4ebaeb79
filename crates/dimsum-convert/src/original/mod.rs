//! The originals of an image: a recipe for each layer of the source, kept beside the image as a referrer (`docs/format.md`, section 10).
//!
//! ```text
//!   layers, while they are read ─ dimsum_recipe::Recording ─▸ notes ┐
//!   places of contents ─────────────────────────────────────────────┴ cook ─▸ recipes ┐
//!   manifest, config, packs that the image does not list ────────────────────────────┴─▸ artifact
//! ```
//!
//! What a recipe is, and how it is followed, is in [`dimsum_recipe`]. A recipe is not trusted: the Dimsum image's manifest names the
//! source's manifest, that names config and layers, and what comes out must have their digests.

mod artifact;
mod keep;
mod recipe_builder;

use dimsum_recipe::RecipeError;

pub use self::keep::{Gives, KeptLayer, KeptOriginal};

pub(crate) use self::artifact::{Artifact, Piece};
pub(crate) use self::keep::{Keeping, Kept};

use crate::error::Error;

/// The error of a recipe that is being made.
pub(crate) fn unkept(error: RecipeError) -> Error {
    match error {
        RecipeError::Temporary(error) => error.into(),
        error => Error::Recipe { reason: error.to_string() },
    }
}
