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
mod bundle;
pub mod config;
mod container;
pub mod dirs;
mod error;
mod exec_time;
pub mod identity;
pub mod process;
mod request;
mod rootfs;
mod session;
pub mod signals;
mod spec;

pub use bind::Bind;
pub use dirs::RunDir;
pub use error::RunError;
pub use exec_time::note_exec_time;
pub use request::{ContainerRequest, check_privileges};
pub use session::{ContainerEnd, run_container};
pub use signals::{ProcessSignals, SignalFeed};

/// The container runtime.
pub const RUNC: &str = "runc";
