//! What a conversion took from other images.

use dimsum_convert::SharedContent;
use dimsum_format::Digest;
use serde::Serialize;

use crate::text::total;

/// What was taken.
#[derive(Debug, Clone, Serialize)]
pub struct SharingSummary {
    /// Packs of other images that the image lists.
    pub foreign_packs: Vec<SharedPack>,
    /// Bytes of file contents that lie in these.
    pub foreign_content_bytes: u64,
    /// Packs of its own that were there already.
    pub reused_packs: Vec<Digest>,
    /// Bytes of them.
    pub reused_bytes: u64,
    /// Bytes of packs that were mounted into the target from another repository.
    pub mounted_bytes: u64,
    /// Bytes of packs that were copied into the target.
    pub copied_bytes: u64,
    /// Packs and images that were not shared with, and why.
    pub refused: Vec<SharingRefusal>,
}

/// A pack of another image.
#[derive(Debug, Clone, Serialize)]
pub struct SharedPack {
    /// The pack.
    pub pack: Digest,
    /// Its length.
    pub bytes: u64,
    /// The manifest that lists it.
    pub image: Digest,
}

/// A pack or an image that was not shared with.
#[derive(Debug, Clone, Serialize)]
pub struct SharingRefusal {
    /// Its name.
    pub what: String,
    /// Why not.
    pub reason: String,
}

impl SharingSummary {
    pub(crate) fn new(shared: &SharedContent) -> Self {
        let foreign = shared.foreign.iter().map(|pack| SharedPack {
            pack: pack.blob.digest,
            bytes: pack.blob.size,
            image: pack.image,
        });
        let refused = shared
            .refused
            .iter()
            .map(|refused| SharingRefusal { what: refused.what.clone(), reason: refused.reason.clone() });
        Self {
            foreign_packs: foreign.collect(),
            foreign_content_bytes: shared.content_bytes,
            reused_packs: shared.reused.iter().map(|pack| pack.blob.digest).collect(),
            reused_bytes: total(shared.reused.iter().map(|pack| pack.blob.size)),
            mounted_bytes: shared.mounted_bytes,
            copied_bytes: shared.copied_bytes,
            refused: refused.collect(),
        }
    }

    /// Returns the bytes of all packs of other images. One may stand in the place of a layer's own.
    #[must_use]
    pub fn foreign_bytes(&self) -> u64 {
        total(self.foreign_packs.iter().map(|pack| pack.bytes))
    }

    /// Returns the bytes of all packs that were not made.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        self.foreign_bytes().saturating_add(self.reused_bytes)
    }
}
