//! The engine of Dimsum: from the name of an image to its files, every byte proven.
//!
//! ```text
//!   EngineConfig ─→ Engine ── "HOST/REPO:TAG" ─→ Located ─→ Opened ─→ read a file, list, check
//!                     │             │               └─→ a server mounts it (dimsum-node)
//!                     │             └─ an ordinary image is converted into the store first
//!                     └─ shares connections, tokens, the store and its caches among clones
//! ```
//!
//! - [`EngineConfig`] says where the store, the node key and temporary files are and how registries are reached.
//! - [`Engine`] is cheap to clone. [`Engine::with_progress`] and [`Engine::with_cancel`] make one for a single job.
//! - [`Progress`] hears phases, notes and explanations; [`CancelToken`] ends work early.
//! - [`EngineError`] has a [`kind`](EngineError::kind) for programs, an object and causes for people.
//!
//! The engine never prints, never reads the environment, never exits and knows no terminal.

#![forbid(unsafe_code)]

pub mod analysis;
mod cancel;
pub mod check;
mod config;
mod engine;
mod error;
pub mod image;
pub mod listing;
mod origin;
mod progress;
pub mod text;
mod transports;

pub use cancel::{CancelReason, CancelToken};
pub use config::EngineConfig;
pub use engine::Engine;
pub use error::{EngineError, ErrorKind, chain, convert_kind, io_kind, source_kind, store_kind};
pub use origin::ImageOrigin;
pub use progress::{Progress, ProgressPhase, Quiet};
pub use transports::built_in_transports;
