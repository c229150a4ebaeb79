//! Scenarios of the store as a library, on small images and sources in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

mod common;
mod gate;
