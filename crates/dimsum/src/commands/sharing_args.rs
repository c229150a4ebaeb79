//! The options that name images to share with: of `convert`, and of `estimate`, which tells what sharing would save.

use clap::{Args, ValueEnum};
use dimsum_engine::PackReuse;
use dimsum_engine::conversion::SharingRequest;

/// What a conversion may take from images that are there already.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sharing")]
pub struct SharingArgs {
    /// Refer to packs of this Dimsum image instead of storing the same bytes again. `auto` is the image that the
    /// target's name stands for now, and its predecessor. Can be given several times, the best first: the same images
    /// in the same order give the same bytes. Packs are mounted or copied into the target, which stays complete by
    /// itself
    #[arg(long, value_name = "REF|auto")]
    dedup_with: Vec<String>,
    /// Reuse packs that exist for the same layers. They are found by a `dimsum-cache-…` tag in the target's repository
    /// or by --reuse-from. A reused pack has the same files, device and tables as a new one; another encoder may have
    /// compressed it. Layers with packs of --dedup-with are not looked for [default: verify; for estimate without
    /// --dedup-with: never]
    #[arg(long, value_enum, value_name = "HOW")]
    reuse: Option<Reuse>,
    /// Reuse packs of this Dimsum image, named by its digest. Can be given several times. Needed only once: that run
    /// also writes the cache tags
    #[arg(long, value_name = "REF@DIGEST")]
    reuse_from: Vec<String>,
}

/// As [`PackReuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reuse {
    /// Take a pack after verification: the layer is read but not compressed, the pack is read and decoded. Both must
    /// have the same device, tree and tables.
    Verify,
    /// Take a pack unseen, without reading the layer: a writer of the tag or the image then decides the bytes of the
    /// files. Leaves no cache tags.
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
