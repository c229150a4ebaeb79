//! The originals of an image: one recipe per layer of the source, kept beside the image as a referrer
//! (`docs/format.md`, section 10).
//!
//! ```text
//!   layers, while they are read ─ dimsum_recipe::Recording ─▸ notes ┐
//!   places of contents ─────────────────────────────────────────────┴ recipe_builder ─▸ recipes ┐
//!   manifest, config, packs that the image does not list ──────────────────────────────────────┴─▸ artifact
//! ```
//!
//! [`dimsum_recipe`] defines recipes and how to follow them. A recipe is not trusted. The Dimsum image's
//! manifest names the source's manifest, which names config and layers, and the result must have their digests.

mod artifact;
mod keep;
mod recipe_builder;

use dimsum_recipe::RecipeError;

pub use self::keep::{Gives, KeptLayer, KeptOriginal};

pub(crate) use self::artifact::{OriginalArtifact, RecipeEntry};
pub(crate) use self::keep::{Keeping, Kept};

use crate::error::ConvertError;

/// The error of a recipe that is being made.
pub(crate) fn unkept(error: RecipeError) -> ConvertError {
    match error {
        RecipeError::Temporary(error) => error.into(),
        error => ConvertError::Recipe { reason: error.to_string() },
    }
}
