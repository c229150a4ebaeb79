//! Looking at images by their parts: what differs between two, where the bytes of one lie, what it shares with others.
//!
//! ```text
//! meta ─┬─ tree ─ walk ──┬─→ diff: two trees side by side; file data is read only where the maps do not tell
//!       │                └─→ usage: which blocks of which chunk the tree uses ─┐
//!       └─ maps ─ sharing: chunks by digest ───────────────────────────────────┴─→ chunks: the whole picture
//! ```
//!
//! Trees and maps are read through the store's gate, so everything shown is proven. File data is read by [`diff`] alone.
//! The results are plain values: a front turns them into text, JSON or pages.

pub mod chunks;
pub mod content;
pub mod diff;
mod marks;
pub mod sharing;
pub mod usage;
pub mod walk;
