//! Registries: where images come from and go to over HTTP.
//!
//! A client of the OCI distribution protocol of our own: each repository is a [`Place`](dimsum_source::Place) and a
//! [`Target`](dimsum_source::Target).

#![forbid(unsafe_code)]

mod access;
mod fault;
mod network;
mod remote;
mod scheme;

pub use access::{Access, DEFAULT_TEMP_DIR};
pub use fault::{RegistryFault, RegistryMessage, RegistryReason, TlsProblem};
pub use network::Network;
pub use remote::Timing;
#[doc(hidden)]
pub use remote::fuzz;
pub use scheme::REGISTRY;
