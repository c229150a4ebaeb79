//! Scenarios of the whole crate: trees are written, read, validated, damaged, and shown to others that know EROFS.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;
mod generate;
mod golden;
mod hostile;
mod kernel;
mod oracles;
mod roundtrip;
mod rules;
mod sources;
mod validator;
