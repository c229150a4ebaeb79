//! From an image to a running container.
//!
//! ```text
//! config + flags ─→ process ─┐
//! image's passwd ─→ identity ┼→ spec ─→ bundle ─┐
//! mounted image ──→ rootfs (overlay) ───────────┴→ runc ─→ exit status
//! ```
//!
//! All mounts are made in a mount namespace of the client's own, so the kernel takes them away on every way out,
//! `kill -9` included. [`dirs`] holds what is on disk meanwhile.

pub mod bind;
pub mod config;
pub mod container;
pub mod dirs;
mod error;
pub mod identity;
pub mod process;
pub mod report;
pub mod rootfs;
pub mod session;
pub mod spec;

pub use error::RunError;

/// The container runtime.
pub const RUNC: &str = "runc";
