//! The server process, and the client that finds or starts it.
//!
//! ```text
//! command ─ Client ──► <store>/socket ──► server: engine, mounts, FUSE pool ◄── Link ──► keeper
//!    │   mount fd ◄───────────────────────┘                                             holds the sessions
//!    └ attaches it in its own mount namespace
//! ```
//!
//! - [`server`] is what `dimsum serve` runs as the keeper's child: an engine, and the mounts of its images;
//! - [`Client`] is what every command uses: it starts a keeper where none is;
//! - [`wire`] is the protocol between them, versioned and described in `docs/wire.md`;
//! - [`umount`] takes a mount away, or says who uses it.
//!
//! Knows stores, images and mounts; does not know the command line: programs and paths are given.

#![forbid(unsafe_code)]

mod attach;
mod busy;
mod client;
mod error;
mod mountinfo;
mod notes;
mod record;
pub mod server;
pub mod wire;

pub use attach::MountHandle;
pub use busy::{Holder, Use, umount};
pub use client::{Client, MountAnswer};
pub use dimsum_events::{LogHandle, log, trace};
pub use dimsum_mount::DriverKind;
pub use dimsum_mount::keeper::{self, Program};
pub use error::{Error, ServerFailure};
pub use wire::{
    FillStatus, FlightReport, FlightState, MountInfo, MountRequest, MountStats, MountedImage, ServerInfo, WireFailure,
    WireNote,
};
