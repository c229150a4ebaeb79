//! Drivers, and the keeper that holds the mounts.
//!
//! - [`Driver`], [`ServedMount`]: what the server needs of a driver;
//! - [`fuse`]: an image's tree as a FUSE file system, every byte from the store's verified gate;
//! - [`keeper`]: the process that makes and holds mounts so that the server can be replaced under them;
//! - [`passing`]: descriptors over a socket, for keeper, server and client.
//!
//! Knows images and mounts; does not know where blobs come from, nor the command line.

#![forbid(unsafe_code)]

mod driver;
mod error;
pub mod fuse;
pub mod keeper;
pub mod passing;

pub use driver::{Driver, DriverKind, ImageOpener, MountObserver, ServedMount};
pub use error::Error;
