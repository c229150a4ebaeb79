//! What was kept of the source, for `--keep-original`.

use std::io::{self, Write};

use dimsum_convert::{Gives, KeptOriginal};
use dimsum_format::Digest;
use serde::Serialize;

use crate::output::{Size, total};

/// What was kept of the source.
#[derive(Serialize)]
pub(super) struct Original {
    /// The referrer's manifest.
    manifest: Digest,
    recipes: Vec<Recipe>,
    /// Bytes of packs that only recipes need.
    pack_bytes: u64,
}

#[derive(Serialize)]
struct Recipe {
    layer: Digest,
    bytes: u64,
    gives: &'static str,
    /// Why not the blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Original {
    pub(super) fn new(kept: &KeptOriginal) -> Self {
        let recipes = kept.layers.iter().map(|layer| {
            let (gives, reason) = match layer.gives {
                Gives::Blob => ("blob", None),
                Gives::Tar(reason) => ("tar", Some(reason)),
            };
            Recipe { layer: layer.source, bytes: layer.recipe.size, gives, reason }
        });
        let pack_bytes = total(kept.packs.iter().map(|pack| pack.size));
        Self { manifest: kept.manifest, recipes: recipes.collect(), pack_bytes }
    }

    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "original   {}, packs beside it {}", self.manifest, Size(self.pack_bytes))?;
        for Recipe { layer, bytes, gives, reason } in &self.recipes {
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            writeln!(out, "  recipe   {layer} {}, gives the {gives}{reason}", Size(*bytes))?;
        }
        Ok(())
    }
}
