//! What the engine's analysis found, as a person looks at it: text for a terminal, a page with pictures.

pub mod chunks_text;
pub(crate) mod count;
pub mod page;
mod svg;

pub use svg::Cells;
