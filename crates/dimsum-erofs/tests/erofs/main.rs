//! Scenarios of the whole crate: trees are written, read, validated, damaged, and shown to others that know EROFS.

mod common;
mod kernel;
mod oracles;
mod roundtrip;
mod validator;
