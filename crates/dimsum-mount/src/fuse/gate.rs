//! The meta as the EROFS reader wants it.

use std::sync::Arc;

use dimsum_erofs::MetaRead;
use dimsum_format::BLOCK_U64;
use dimsum_store::{Image, MetaError};

/// The EROFS image at the front of an image's meta, every byte proven by the store when it is read.
#[derive(Debug, Clone)]
pub(super) struct MetaGate {
    image: Arc<Image>,
    /// Length of the EROFS image; the maps behind it are none of the reader's business.
    length: u64,
}

impl MetaGate {
    pub(super) fn new(image: Arc<Image>) -> Self {
        let length = u64::from(image.maps().erofs_blocks) * BLOCK_U64;
        Self { image, length }
    }
}

impl MetaRead for MetaGate {
    type Error = MetaError;

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), MetaError> {
        self.image.meta().read_at(offset, buf)
    }
}
