//! The only unsafe code of Dimsum: system calls that no safe wrapper covers.
//!
//! Every other crate forbids `unsafe`. Crates use the safe functions of `rustix` directly; they are not wrapped again.
//! This crate holds the rest, each item small enough that its contract fits beside it:
//!
//! - [`child`]: start a child in its own session, tied to the life of its parent, with chosen inherited fds;
//! - [`fd`]: become the owner of an fd that was inherited over `exec`;
//! - [`signal`]: block signals and read them from an fd;
//! - [`namespace`]: leave the mount namespace;
//! - [`privilege`]: give up every capability for good; ask for the one to mount;
//! - [`writeback`]: have a file written to disk, without waiting.
//!
//! Nothing here knows of images, FUSE or stores. Errors are [`std::io::Error`]: each function is one or two
//! system calls, and the caller knows which object it spoke of.

#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

pub mod child;
pub mod fd;
pub mod namespace;
pub mod privilege;
pub mod signal;
pub mod writeback;
