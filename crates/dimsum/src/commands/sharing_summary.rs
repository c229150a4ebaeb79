//! What a conversion took from other images: as `convert` tells it, and as `estimate` foretells it.

use std::io::{self, Write};

use dimsum_convert::SharedContent;
use dimsum_format::Digest;
use serde::Serialize;

use crate::output::{Name, Size, total};
use crate::views::count::Count;

/// What was taken.
#[derive(Debug, Clone, Serialize)]
pub struct SharingSummary {
    /// Packs of other images that the image lists.
    foreign_packs: Vec<Foreign>,
    /// Bytes of file contents that lie in these.
    foreign_content_bytes: u64,
    /// Packs of its own that were there already.
    reused_packs: Vec<Digest>,
    /// Bytes of them.
    reused_bytes: u64,
    /// Bytes of packs that were mounted into the target from another repository.
    mounted_bytes: u64,
    /// Bytes of packs that were copied into the target.
    copied_bytes: u64,
    /// What was not shared with, and why.
    refused: Vec<Refused>,
}

#[derive(Debug, Clone, Serialize)]
struct Foreign {
    pack: Digest,
    bytes: u64,
    image: Digest,
}

#[derive(Debug, Clone, Serialize)]
struct Refused {
    what: String,
    reason: String,
}

impl SharingSummary {
    /// Takes what a conversion says.
    #[must_use]
    pub fn new(shared: &SharedContent) -> Self {
        let foreign = shared.foreign.iter().map(|pack| Foreign {
            pack: pack.blob.digest,
            bytes: pack.blob.size,
            image: pack.image,
        });
        let refused =
            shared.refused.iter().map(|refused| Refused { what: refused.what.clone(), reason: refused.reason.clone() });
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

    /// Returns the packs of other images with their bytes. One may stand in the place of a layer's own.
    pub fn foreign_packs(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        self.foreign_packs.iter().map(|pack| (pack.pack, pack.bytes))
    }

    /// Returns the bytes of all packs that were not made.
    #[must_use]
    pub fn taken_bytes(&self) -> u64 {
        total(self.foreign_packs().map(|(_, bytes)| bytes)).saturating_add(self.reused_bytes)
    }

    /// Returns the bytes of packs that are mounted into the target.
    #[must_use]
    pub const fn mounted_bytes(&self) -> u64 {
        self.mounted_bytes
    }

    /// Writes it for people; nothing if nothing came from other images.
    ///
    /// # Errors
    /// What the writer says.
    pub fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.foreign_packs.is_empty() {
            let bytes = total(self.foreign_packs.iter().map(|pack| pack.bytes));
            let packs = Count(self.foreign_packs.len() as u64, "pack");
            let contents = Size(self.foreign_content_bytes);
            writeln!(out, "others     {packs} of other images ({}), with {contents} of contents", Size(bytes))?;
        }
        if !self.reused_packs.is_empty() {
            let packs = Count(self.reused_packs.len() as u64, "pack");
            writeln!(out, "re-used    {packs} of the same layers ({})", Size(self.reused_bytes))?;
        }
        if self.mounted_bytes > 0 || self.copied_bytes > 0 {
            let (mounted, copied) = (Size(self.mounted_bytes), Size(self.copied_bytes));
            writeln!(out, "moved      {mounted} mounted from other repositories, {copied} copied")?;
        }
        for Refused { what, reason } in &self.refused {
            writeln!(out, "refused    {}: {}", Name(what.as_bytes()), Name(reason.as_bytes()))?;
        }
        Ok(())
    }
}
