//! From a mounted image to a running container.
//!
//! ```text
//! config + overrides ─→ process ─┐
//! image's passwd ─────→ identity ┼→ spec ─→ bundle ─┐
//! mounted image ──────→ rootfs (overlay) ───────────┴→ runc ─→ exit status
//! ```
//!
//! All mounts are made in a mount namespace of the caller's own. The kernel takes them away on every way out,
//! `kill -9` included. [`dirs`] holds what is on disk meanwhile.
//!
//! The caller brings the mounted image, its config and the signals. This crate knows no registry, build, terminal or
//! environment variable.

#![forbid(unsafe_code)]

pub mod bind;
pub mod config;
pub mod container;
pub mod dirs;
mod error;
pub mod identity;
pub mod process;
pub mod rootfs;
pub mod spec;

pub use error::RunError;

/// The container runtime.
pub const RUNC: &str = "runc";
