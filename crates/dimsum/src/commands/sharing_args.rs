//! The options that name images to share with: of `convert`, and of `estimate`, which tells what sharing would save.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use dimsum_convert::SharingFrom;
use dimsum_source::{Place, Target};

use crate::context::Context;
use crate::error::Error;
use dimsum_engine::image::{open_place, parse};

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

/// As [`dimsum_convert::PackReuse`].
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
    /// Whether anything was asked for.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.dedup_with.is_empty() || !self.reuse_from.is_empty() || self.reuse.is_some()
    }

    /// Returns the option that makes no sense without a target, if one is given.
    #[must_use]
    pub fn needs_target(&self) -> Option<&'static str> {
        let looks_for_tags = self.reuse.is_some_and(|reuse| reuse != Reuse::Never) && self.reuse_from.is_empty();
        if self.dedup_with.iter().any(|text| text == AUTO) {
            return Some("--dedup-with auto");
        }
        looks_for_tags.then_some("--reuse")
    }

    /// Opens the images that were named.
    ///
    /// # Errors
    /// If one is not there, or one to re-use packs of is not named by its digest.
    pub fn open(&self, context: &Context) -> Result<Others, Error> {
        let open = |text: &String| open_place(&context.engine, &parse(&context.engine, text)?);
        if self.reuse == Some(Reuse::Never) && !self.reuse_from.is_empty() {
            return Err(Error::Usage {
                object: "--reuse-from".to_owned(),
                reason: "nothing is taken from it with --reuse never".to_owned(),
                hint: "leave one of the two out",
            });
        }
        for text in &self.reuse_from {
            if !parse(&context.engine, text)?.is_pinned() {
                return Err(Error::Usage {
                    object: text.clone(),
                    reason: "--reuse-from takes an image by its digest, since a tag may be moved".to_owned(),
                    hint: "name it by @sha256:… as `dimsum inspect` shows it",
                });
            }
        }
        let named = self.dedup_with.iter().filter(|text| *text != AUTO);
        Ok(Others {
            auto: self.dedup_with.iter().any(|text| text == AUTO),
            with: named.map(open).collect::<Result<_, _>>()?,
            reuse: match self.reuse {
                None | Some(Reuse::Verify) => dimsum_convert::PackReuse::Verify,
                Some(Reuse::Trust) => dimsum_convert::PackReuse::Trust,
                Some(Reuse::Never) => dimsum_convert::PackReuse::Never,
            },
            reuse_from: self.reuse_from.iter().map(open).collect::<Result<_, _>>()?,
        })
    }
}

/// Images to share with, opened.
#[derive(Debug)]
pub struct Others {
    auto: bool,
    with: Vec<Arc<dyn Place>>,
    reuse: dimsum_convert::PackReuse,
    reuse_from: Vec<Arc<dyn Place>>,
}

impl Others {
    /// Whether the image that the target's name stands for is one of them.
    #[must_use]
    pub const fn is_auto(&self) -> bool {
        self.auto
    }

    /// Says why packs of the same layers are not looked for, if so; `shares` if there are images to share with.
    #[must_use]
    pub fn no_reuse(&self, shares: bool) -> Option<&'static str> {
        match self.reuse {
            dimsum_convert::PackReuse::Never => Some("--reuse never"),
            _ if shares => Some("the packs of the images to share with are referred to instead"),
            _ => None,
        }
    }

    /// Returns what a target makes impossible that was asked for.
    #[must_use]
    pub fn in_vain(&self, target: &dyn Target) -> Option<&'static str> {
        let archive = self.auto && target.place().is_none();
        archive.then_some(
            "--dedup-with auto shares nothing here: an archive is written anew, without what it had before; name the image instead",
        )
    }

    /// Returns them as a conversion takes them.
    #[must_use]
    pub fn sharing(&self) -> SharingFrom<'_> {
        SharingFrom {
            with: self.with.iter().map(|place| &**place).collect(),
            auto: self.auto,
            reuse: self.reuse,
            reuse_from: self.reuse_from.iter().map(|place| &**place).collect(),
        }
    }
}
