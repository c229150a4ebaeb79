//! The Dimsum format (`docs/format.md`), free of I/O.
//!
//! Every type here is parsed from bytes once, checked against the limits, and from then on cannot be wrong in shape:
//! maps sum up, offsets are in range, digests have their length. What is *true* is decided by proofs from the meta root
//! ([`group`]) and by the chunk digests, not here. Converters, the store and fuzz targets share this code.

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
