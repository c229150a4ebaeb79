//! What a conversion took from other images, for people: as `convert` tells it, and as `estimate` foretells it.

use std::io::{self, Write};

use dimsum_engine::conversion::{SharingRefusal, SharingSummary};

use crate::output::{Name, Size};
use crate::views::count::Count;

/// Writes it; nothing if nothing came from other images.
///
/// # Errors
/// What the writer says.
pub fn write_sharing(sharing: &SharingSummary, out: &mut dyn Write) -> io::Result<()> {
    if !sharing.foreign_packs.is_empty() {
        let packs = Count(sharing.foreign_packs.len() as u64, "pack");
        let (bytes, contents) = (Size(sharing.foreign_bytes()), Size(sharing.foreign_content_bytes));
        writeln!(out, "others     {packs} of other images ({bytes}), with {contents} of contents")?;
    }
    if !sharing.reused_packs.is_empty() {
        let packs = Count(sharing.reused_packs.len() as u64, "pack");
        writeln!(out, "re-used    {packs} of the same layers ({})", Size(sharing.reused_bytes))?;
    }
    if sharing.mounted_bytes > 0 || sharing.copied_bytes > 0 {
        let (mounted, copied) = (Size(sharing.mounted_bytes), Size(sharing.copied_bytes));
        writeln!(out, "moved      {mounted} mounted from other repositories, {copied} copied")?;
    }
    for SharingRefusal { what, reason } in &sharing.refused {
        writeln!(out, "refused    {}: {}", Name(what.as_bytes()), Name(reason.as_bytes()))?;
    }
    Ok(())
}
