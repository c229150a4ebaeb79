//! The whole program, called as a user would.
//!
//! Tests named `privileged_` need root, FUSE, runc and a static busybox; without them they say so and pass, but fail
//! where the environment has CI=true.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails where it stands")]

mod copy;
mod decisions;
mod estimate;
mod help;
mod hostile;
mod images;
mod node;
mod recipes;
mod registry;

mod results;
mod run;
mod sharing;
mod stores;
mod support;
mod traces;
mod views;
