//! An open image: the gate for its data.

use std::ops::Range;

use dimsum_format::Digest;
use dimsum_format::manifest::DimsumManifest;
use dimsum_format::meta::MetaMaps;

use crate::buf::ReadBuf;
use crate::error::ReadError;
use crate::meta::Meta;
use crate::stats::Stats;

/// A part of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Zeros.
    Hole {
        /// How many.
        length: u64,
    },
    /// Bytes of the flat image, in the meta or in devices; may cross chunks and devices.
    Flat {
        /// Byte range in the flat image.
        range: Range<u64>,
    },
}

/// An image whose manifest, config and maps are proven and in memory.
#[derive(Debug)]
pub struct Image {
    manifest: DimsumManifest,
    maps: MetaMaps,
    meta: Meta,
}

impl Image {
    /// Returns the digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.manifest.config.digest
    }

    /// Returns what the manifest says.
    #[must_use]
    pub const fn manifest(&self) -> &DimsumManifest {
        &self.manifest
    }

    /// Returns the bytes of the image config.
    #[must_use]
    pub const fn config(&self) -> &[u8] {
        &[]
    }

    /// Returns the maps of all devices.
    #[must_use]
    pub const fn maps(&self) -> &MetaMaps {
        &self.maps
    }

    /// Returns the gate of the meta.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Reads extents in order, together at most [`crate::limits::MAX_READ`] bytes.
    ///
    /// `done` is called exactly once: on this thread before `read` returns if everything is in the store and good, else later on a
    /// thread of the store, which it must not block. This call itself reads files and hashes, and never waits.
    pub fn read(&self, extents: &[Extent], done: impl FnOnce(Result<ReadBuf, ReadError>) + Send + 'static) {
        let _ = extents;
        done(Err(ReadError::Closed));
    }

    /// Reads like [`Image::read`] and waits for the result.
    ///
    /// # Errors
    /// As given to `done`.
    pub fn read_blocking(&self, extents: &[Extent]) -> Result<ReadBuf, ReadError> {
        let _ = extents;
        Err(ReadError::Closed)
    }
}
