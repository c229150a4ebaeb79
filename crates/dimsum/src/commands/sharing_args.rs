//! The options that name images to share with: of `convert`, and of `estimate`, which tells what sharing would save.

use clap::{Args, ValueEnum};
use dimsum_engine::PackReuse;
use dimsum_engine::conversion::SharingRequest;

/// What a conversion may take from images that are there already.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sharing")]
pub struct SharingArgs {
    /// Refer to packs of this Dimsum image where it has what would be stored; `auto` is the image that the target's name stands
    /// for now, and the one it followed. Can be given several times, the best first: the same images in the same order give
    /// the same bytes. Packs are mounted or copied into the target, which stays complete by itself
    #[arg(long, value_name = "REF|auto")]
    dedup_with: Vec<String>,
    /// What to do with packs that exist for the same layers, by a `dimsum-cache-…` tag in the target's repository or by
    /// --reuse-from. What is taken has the same files, device and tables as what would be made; another encoder may have compressed
    /// it, else the result has the same bytes. Not looked for where packs of --dedup-with are [default: verify; for estimate without
    /// --dedup-with: never]
    #[arg(long, value_enum, value_name = "HOW")]
    reuse: Option<Reuse>,
    /// A Dimsum image, named by its digest, whose packs may be re-used. Can be given several times. It is needed once: the packs
    /// that were taken have tags in the target's repository then
    #[arg(long, value_name = "REF@DIGEST")]
    reuse_from: Vec<String>,
}

/// As [`PackReuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reuse {
    /// Take a pack if it holds what its layer gives: the layer is read, not compressed; the pack is read and decoded, and must have the
    /// same device, tree and tables.
    Verify,
    /// Take a pack unseen, without reading the layer: whoever can write the tag or the image decides what the files hold.
    /// No cache tags are left then.
    Trust,
    /// Make every pack, and leave no cache tags.
    Never,
}

/// In the place of an image to share with: what the target's name stands for.
const AUTO: &str = "auto";

impl SharingArgs {
    /// Returns the images as the engine takes them.
    #[must_use]
    pub fn request(&self) -> SharingRequest {
        SharingRequest {
            with: self.dedup_with.iter().filter(|text| *text != AUTO).cloned().collect(),
            auto: self.dedup_with.iter().any(|text| text == AUTO),
            reuse: self.reuse.map(|reuse| match reuse {
                Reuse::Verify => PackReuse::Verify,
                Reuse::Trust => PackReuse::Trust,
                Reuse::Never => PackReuse::Never,
            }),
            reuse_from: self.reuse_from.clone(),
        }
    }
}
