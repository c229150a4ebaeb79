//! The image that is exported, read through the node's store.

use std::io::{self, Read};

use dimsum_convert::export::{ExportImage, ReadFailure};
use dimsum_erofs::MetaRead as _;
use dimsum_format::meta::MetaMaps;
use dimsum_source::{ErrorKind, Place};
use dimsum_store::{Extent, ReadError};

use crate::image::Opened;
use crate::image::fs::BlockingMeta;

/// An image as it is read through the node's store: every byte of the meta and of files comes through the gate.
pub(super) struct StoreImage<'a> {
    pub(super) name: &'a str,
    pub(super) manifest: &'a [u8],
    pub(super) opened: &'a Opened,
    pub(super) place: &'a dyn Place,
}

impl ExportImage for StoreImage<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn manifest(&self) -> &[u8] {
        self.manifest
    }

    fn config(&self) -> &[u8] {
        self.opened.image.config()
    }

    fn maps(&self) -> &MetaMaps {
        self.opened.image.maps()
    }

    fn read_meta(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadFailure> {
        BlockingMeta::new(&self.opened.image).read_at(offset, buffer).map_err(failure)
    }

    fn read(&self, flat: u64, buffer: &mut [u8]) -> Result<(), ReadFailure> {
        let range = flat..flat.saturating_add(buffer.len() as u64);
        let bytes = self.opened.image.read_blocking(&[Extent::Flat { range }]).map_err(failure)?;
        // The gate gives what was asked for or an error; a buffer that is not filled must never pass for content.
        let short = || ReadFailure::Unreadable(Box::new(io::Error::from(io::ErrorKind::UnexpectedEof)));
        if bytes.len() != buffer.len() {
            return Err(short());
        }
        let mut rest = buffer;
        for slice in bytes.slices() {
            let (here, behind) = rest.split_at_mut_checked(slice.len()).ok_or_else(short)?;
            here.copy_from_slice(slice);
            rest = behind;
        }
        Ok(())
    }

    fn pack(&self, index: usize) -> Result<Box<dyn Read + Send + '_>, ReadFailure> {
        let unreadable = |error| ReadFailure::Unreadable(Box::new(error));
        let Some(pack) = self.opened.image.manifest().packs.get(index) else {
            return Err(unreadable(io::Error::from(io::ErrorKind::NotFound)));
        };
        self.place.open(pack.digest).map_err(|error| ReadFailure::Unreadable(Box::new(error)))
    }
}

fn failure(error: ReadError) -> ReadFailure {
    if error.kind() == ErrorKind::Integrity {
        ReadFailure::Damaged(Box::new(error))
    } else {
        ReadFailure::Unreadable(Box::new(error))
    }
}
