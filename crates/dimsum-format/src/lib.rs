//! The Dimsum format (`docs/format.md`), without I/O.
//!
//! Every type is parsed once from bytes and checked against the limits. After that its shape is right: maps sum
//! up, offsets are in range, digests have their length. Whether its content is *true* is decided elsewhere, by
//! proofs from the meta root ([`group`]) and by chunk digests. Converters, the store and fuzz targets share
//! this code.

#![forbid(unsafe_code)]

pub mod codec;
mod digest;
mod error;
mod footer;
pub mod group;
pub mod index;
pub mod limits;
pub mod manifest;
pub mod map;
pub mod media;
pub mod meta;
pub mod pack;

pub use digest::{Blake3, DeviceId, Digest, DigestError, MetaRoot};
pub use error::FormatError;

/// Bytes of a block, the unit of every address.
pub const BLOCK: usize = 4096;
/// [`BLOCK`] for 64-bit arithmetic.
pub const BLOCK_U64: u64 = 4096;
