//! The interface that an export needs of an image.

use std::error::Error as StdError;
use std::io::Read;

use dimsum_format::meta::MetaMaps;

/// A Dimsum image that can be read. Everything but packs is proven before it is given.
pub trait ExportImage: Sync {
    /// Returns the name for messages, as the user wrote it.
    fn name(&self) -> &str;

    /// Returns the manifest's bytes, which have the digest that was asked for.
    fn manifest(&self) -> &[u8];

    /// Returns the config's bytes, which have the digest that the manifest names.
    fn config(&self) -> &[u8];

    /// Returns the maps of the meta.
    fn maps(&self) -> &MetaMaps;

    /// Fills `buffer` with proven bytes of the EROFS image at the front of the meta, from `offset` on; the range lies
    /// within it.
    ///
    /// # Errors
    /// If they cannot be had or are not what the root says.
    fn read_meta(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadFailure>;

    /// Fills `buffer` with proven bytes of the flat image from byte `flat` on; the range lies within one device.
    ///
    /// Files are read in path order, each in pieces of at most 256 KiB from its start. The decoded chunk of one file
    /// should be kept for the next, which often lies in the same chunk.
    ///
    /// # Errors
    /// If they cannot be had or are not what the root says.
    fn read(&self, flat: u64, buffer: &mut [u8]) -> Result<(), ReadFailure>;

    /// Opens the blob of pack `index`, counted in the order of the manifest, from its start. It is **not** verified:
    /// the export hashes the bytes that it reads.
    ///
    /// # Errors
    /// If it is not there.
    fn pack(&self, index: usize) -> Result<Box<dyn Read + Send + '_>, ReadFailure>;
}

/// Why bytes of an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// They are not what the root says, and no source has others.
    #[error(transparent)]
    Damaged(Box<dyn StdError + Send + Sync>),
    /// They could not be read.
    #[error(transparent)]
    Unreadable(Box<dyn StdError + Send + Sync>),
}
