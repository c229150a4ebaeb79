//! What the tests of all crates share. Only tests depend on this crate, and it panics where a test would.
//!
//! - [`skip`] and its like: skips that somebody sees.
//! - [`conformance`]: the contract of sources, places and targets, for every implementation.
//! - [`images`]: small images, made here.
//! - [`memory`]: a transport in memory.
//! - [`outage`]: a registry on a loopback port that fails as it is told, kind of request by kind of request.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the failure of a test")]
#![expect(clippy::print_stdout, reason = "a test says why it is skipped")]

pub mod conformance;
mod fault;
pub mod images;
pub mod memory;
pub mod outage;
mod skips;

pub use fault::fault;
pub use skips::{SKIPS_VARIABLE, path_or_skip, program_or_skip, root_or_skip, skip, skip_anywhere};
