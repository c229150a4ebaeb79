//! Looking at images by their parts: what differs between two, where the bytes of one lie, what it shares with others.
//!
//! ```text
//! meta ─┬─ tree ─ walk ──┬─→ diff: two trees side by side, contents by their place in devices, read only where that does not tell
//!       │                └─→ usage: which blocks of which chunk the tree uses ─┐
//!       └─ maps ─ sharing: chunks by digest ──────────────────────────────────┴─→ chunks: the whole picture ─→ text, JSON, page
//! ```
//!
//! Trees and maps are read through the store's gate, so everything shown is proven. File data is read by `diff` alone.

pub mod chunks;
pub mod chunks_text;
pub mod content;
pub(crate) mod count;
pub mod diff;
mod marks;
pub mod page;
pub mod sharing;
mod svg;
pub mod usage;
pub mod walk;

pub use svg::Cells;
