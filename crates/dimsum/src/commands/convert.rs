//! `dimsum convert`.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use dimsum_convert::{
    Choice, Converted, ConvertedRoot, Gives, Input, KeptOriginal, LeftOut, Options, Reason, SharingFrom, convert_all,
    convert_as,
};
use dimsum_format::{BLOCK_U64, Digest, MetaRoot};
use dimsum_registry::{Place, Reference, Role, platform_text};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::image::convert_in::ConvertProgress;
use crate::image::{create_target, open_place, parse};
use crate::output::{Name, Report, Size};

/// Make a Dimsum image of an ordinary image or a directory tree
///
/// An index becomes an index of converted images. Needs no privileges. The same source and options give the same bytes, whatever the number of jobs. Nothing is visible in
/// the target before the whole source is verified.
#[derive(Debug, Args)]
pub struct Convert {
    /// The source: [HOST/]REPO[:TAG], oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE or dir:PATH
    source: String,
    /// The target: [HOST/]REPO:TAG, oci:DIR[:TAG] or oci-archive:FILE[:TAG], made if it is not there
    target: String,
    /// Make an index in which each original stands before its Dimsum image, so that one name serves everybody
    #[arg(long)]
    with_original: bool,
    /// Keep recipes for the source's layers beside the image, so that `export` gives back the very blobs, or at least the tars. Takes a
    /// second pass over the source. For registries and oci:DIR
    #[arg(long)]
    keep_original: bool,
    /// Bytes of a slice of a large file: a power of two, 64K to 4M
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "256K")]
    slice_size: u32,
    /// Bytes of a bundle of small files on average: a power of two, 32K to 1M
    #[arg(long, value_name = "BYTES", value_parser = size, default_value = "128K")]
    bundle_size: u32,
    /// zstd level, 1 to 19
    #[arg(long, value_name = "N", default_value_t = dimsum_format::codec::DEFAULT_LEVEL)]
    level: i32,
    /// Refer to packs of this Dimsum image where it has what would be stored; `auto` is the image that the target's name stands
    /// for now, and the one it followed. Can be given several times, the best first: the same images in the same order give
    /// the same bytes. Packs are mounted or copied into the target, which stays complete by itself
    #[arg(long, value_name = "REF|auto")]
    dedup_with: Vec<String>,
    /// What to do with packs that exist for the same layers, by a `dimsum-cache-…` tag in the target's repository or by
    /// --reuse-from. Changes no bytes of the result
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Reuse::Verify)]
    reuse: Reuse,
    /// A Dimsum image, named by its digest, whose packs may be re-used. Can be given several times. It is needed once: the packs
    /// that were taken have tags in the target's repository then
    #[arg(long, value_name = "REF@DIGEST")]
    reuse_from: Vec<String>,
    /// Threads that hash and compress [default: all processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// What to do with entries that overlayfs gives a meaning: trusted.overlay.* and user.overlay.* attributes and
    /// character devices 0:0
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OverlayEntries::Refuse)]
    overlay_entries: OverlayEntries,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OverlayEntries {
    /// Refuse the source and name the entry.
    Refuse,
    /// Leave them out and report them.
    Drop,
}

/// As [`dimsum_convert::Reuse`].
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reuse {
    /// Take a pack if its layer, which is read but not compressed, gives the same device and layer meta.
    Verify,
    /// Take a pack unseen, without reading the layer: whoever can write the tag or the image decides what the files hold.
    /// No cache tags are left then.
    Trust,
    /// Make every pack, and leave no cache tags.
    Never,
}

impl Convert {
    /// Converts and prints a summary.
    ///
    /// # Errors
    /// If the source cannot be read or is refused, or the target cannot be written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let started = Instant::now();
        let (context, _interrupts) = context.with_interrupts()?;
        let source = Reference::parse(&self.source);
        let source =
            source.map_err(|source| Error::Source { object: self.source.clone(), source: Box::new(source) })?;
        let options = self.options(&context);
        let shown = ConvertProgress::new(&context, &self.source);
        let others = Others::open(&context, &self)?;
        if let Reference::Directory { path } = source {
            let target = create_target(&context, &self.target)?;
            let input = Input::Directory { path: &path };
            let sharing = others.sharing(self.reuse).resolve(&*target, None).map_err(|error| shown.error(error))?;
            let converted = convert_as(input, &*target, Role::Root, &options, &sharing, &shown);
            let converted = converted.map_err(|error| shown.error(error))?;
            let (written, seconds) = (shown.written(), started.elapsed().as_secs_f64());
            drop(shown);
            return context.output.write(&Summary::new(&self, &converted, written, seconds));
        }
        let place = open_place(&context, &parse(&self.source)?)?;
        let target = create_target(&context, &self.target)?;
        let sharing = others.sharing(self.reuse);
        let choice = Choice { platforms: context.platforms.clone(), with_original: self.with_original, sharing };
        let converted = convert_all(&*place, &*target, &choice, &options, &shown);
        let converted = converted.map_err(|error| shown.error(error))?;
        let (written, seconds) = (shown.written(), started.elapsed().as_secs_f64());
        drop(shown);
        match &*converted.images {
            [only] if only.converted.manifest == converted.root.digest => {
                context.output.write(&Summary::new(&self, &only.converted, written, seconds))
            }
            _ => context.output.write(&IndexSummary::new(&self, &converted, written, seconds)),
        }
    }

    fn options(&self, context: &Context) -> Options {
        Options {
            slice_size: self.slice_size,
            bundle_size: self.bundle_size,
            level: self.level,
            jobs: self.jobs.unwrap_or_else(|| Options::default().jobs),
            overlay_entries: match self.overlay_entries {
                OverlayEntries::Refuse => dimsum_convert::OverlayEntries::Refuse,
                OverlayEntries::Drop => dimsum_convert::OverlayEntries::Drop,
            },
            keep_original: self.keep_original,
            temp_dir: context.temp_dir.clone(),
        }
    }
}

/// Images to share with, as they were named.
struct Others {
    auto: bool,
    with: Vec<Arc<dyn Place>>,
    reuse_from: Vec<Arc<dyn Place>>,
}

impl Others {
    fn open(context: &Context, command: &Convert) -> Result<Self, Error> {
        let open = |text: &String| open_place(context, &parse(text)?);
        let named = command.dedup_with.iter().filter(|text| *text != AUTO);
        for text in &command.reuse_from {
            if !parse(text)?.is_pinned() {
                return Err(Error::Usage {
                    object: text.clone(),
                    reason: "--reuse-from takes an image by its digest, since a tag may be moved".to_owned(),
                    hint: "name it by @sha256:… as `dimsum inspect` shows it",
                });
            }
        }
        Ok(Self {
            auto: command.dedup_with.iter().any(|text| text == AUTO),
            with: named.map(open).collect::<Result<_, _>>()?,
            reuse_from: command.reuse_from.iter().map(open).collect::<Result<_, _>>()?,
        })
    }

    fn sharing(&self, reuse: Reuse) -> SharingFrom<'_> {
        SharingFrom {
            with: self.with.iter().map(|place| &**place).collect(),
            auto: self.auto,
            reuse: match reuse {
                Reuse::Verify => dimsum_convert::Reuse::Verify,
                Reuse::Trust => dimsum_convert::Reuse::Trust,
                Reuse::Never => dimsum_convert::Reuse::Never,
            },
            reuse_from: self.reuse_from.iter().map(|place| &**place).collect(),
        }
    }
}

/// In the place of an image to share with: what the target's name stands for.
const AUTO: &str = "auto";

/// Parses `256K`, `1M` or plain bytes.
pub(crate) fn size(text: &str) -> Result<u32, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.get(..text.len() - 1), 10),
        Some(b'M' | b'm') => (text.get(..text.len() - 1), 20),
        _ => (Some(text), 0),
    };
    let number: u32 = digits.unwrap_or_default().parse().map_err(|_| "a number of bytes, such as 256K".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// What came out.
#[derive(Serialize)]
struct Summary<'a> {
    source: &'a str,
    target: &'a str,
    manifest: Digest,
    root: MetaRoot,
    layers: Vec<Layer>,
    inodes: u64,
    /// Bytes of the source's blobs, or of a directory's files.
    bytes_in: u64,
    /// Bytes of file contents in all layers.
    content_bytes: u64,
    /// Of these, stored already in a lower layer or elsewhere in the same one.
    shared_bytes: u64,
    /// Of these, only zeros.
    null_bytes: u64,
    /// Bytes of all blobs of the image.
    stored_bytes: u64,
    /// Of these, the compressed meta.
    meta_stored_bytes: u64,
    /// Bytes of the uncompressed meta.
    meta_bytes: u64,
    /// Bytes of the flat image.
    flat_bytes: u64,
    /// Bytes that had to be written: blobs that the target had are not.
    written_bytes: u64,
    /// Peak of temporary files.
    temp_bytes: u64,
    /// Packs of other images that the image lists.
    foreign_packs: Vec<Foreign>,
    /// Bytes of file contents that lie in these.
    foreign_content_bytes: u64,
    /// Packs of its own that were there already.
    reused_packs: Vec<Digest>,
    /// Bytes of packs that were mounted into the target from another repository.
    mounted_bytes: u64,
    /// Bytes of packs that were copied into the target.
    copied_bytes: u64,
    /// What was not shared with, and why.
    refused: Vec<RefusedSharing>,
    dropped_xattrs: u64,
    dropped_overlay: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Original>,
    /// The first things left out.
    dropped: Vec<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct Foreign {
    pack: Digest,
    bytes: u64,
    image: Digest,
}

#[derive(Serialize)]
struct RefusedSharing {
    what: String,
    reason: String,
}

/// What was kept of the source.
#[derive(Serialize)]
struct Original {
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
    fn new(kept: &KeptOriginal) -> Self {
        let recipes = kept.layers.iter().map(|layer| {
            let (gives, reason) = match layer.gives {
                Gives::Blob => ("blob", None),
                Gives::Tar(reason) => ("tar", Some(reason)),
            };
            Recipe { layer: layer.source, bytes: layer.recipe.size, gives, reason }
        });
        let pack_bytes = kept.packs.iter().map(|pack| pack.size).sum();
        Self { manifest: kept.manifest, recipes: recipes.collect(), pack_bytes }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "original   {}, packs beside it {}", self.manifest, Size(self.pack_bytes))?;
        for Recipe { layer, bytes, gives, reason } in &self.recipes {
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            writeln!(out, "  recipe   {layer} {}, gives the {gives}{reason}", Size(*bytes))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Layer {
    source: Option<Digest>,
    diff_id: Option<Digest>,
    blob_bytes: u64,
    tar_bytes: u64,
    content_bytes: u64,
    shared_bytes: u64,
    null_bytes: u64,
    pack: Option<Digest>,
    pack_bytes: u64,
    layer_meta_bytes: u64,
    device_bytes: u64,
    chunks: u64,
}

impl<'a> Summary<'a> {
    fn new(command: &'a Convert, converted: &Converted, written_bytes: u64, seconds: f64) -> Self {
        let layers: Vec<Layer> = converted.layers.iter().map(Layer::new).collect();
        let sum = |bytes: fn(&Layer) -> u64| layers.iter().map(bytes).sum();
        let packs: u64 = sum(|layer| layer.pack_bytes);
        let shared = &converted.shared;
        let foreign = |pack: &dimsum_convert::ForeignPack| Foreign {
            pack: pack.blob.digest,
            bytes: pack.blob.size,
            image: pack.image,
        };
        let refused = |refused: &dimsum_convert::Refused| RefusedSharing {
            what: refused.what.clone(),
            reason: refused.reason.clone(),
        };
        let foreign_packs: Vec<Foreign> = shared.foreign.iter().map(foreign).collect();
        let unlisted = foreign_packs.iter().filter(|pack| layers.iter().all(|layer| layer.pack != Some(pack.pack)));
        let foreign_bytes: u64 = unlisted.map(|pack| pack.bytes).sum();
        let reports = || converted.layers.iter().map(|layer| &layer.report);
        let dropped = reports().flat_map(|report| &report.dropped).map(|dropped| match &dropped.what {
            dimsum_tree::What::Xattr { name } => format!("{}: {name}", dropped.path),
            _ => format!("{}: character device 0:0", dropped.path),
        });
        Summary {
            source: &command.source,
            target: &command.target,
            manifest: converted.manifest,
            root: converted.root,
            inodes: converted.inodes,
            bytes_in: sum(|layer| if layer.source.is_some() { layer.blob_bytes } else { layer.tar_bytes }),
            content_bytes: sum(|layer| layer.content_bytes),
            shared_bytes: sum(|layer| layer.shared_bytes),
            null_bytes: sum(|layer| layer.null_bytes),
            stored_bytes: packs + foreign_bytes + converted.meta.size + converted.config.size,
            meta_stored_bytes: converted.meta.size,
            meta_bytes: converted.meta_bytes,
            flat_bytes: u64::from(converted.flat_blocks) * BLOCK_U64,
            written_bytes,
            temp_bytes: converted.temp_bytes,
            foreign_content_bytes: shared.content_bytes,
            reused_packs: shared.reused.iter().map(|blob| blob.digest).collect(),
            mounted_bytes: shared.mounted_bytes,
            copied_bytes: shared.copied_bytes,
            refused: shared.refused.iter().map(refused).collect(),
            foreign_packs,
            dropped_xattrs: reports().map(|report| report.dropped_xattrs).sum(),
            dropped_overlay: reports().map(|report| report.dropped_overlay).sum(),
            original: converted.original.as_ref().map(Original::new),
            dropped: dropped.collect(),
            layers,
            seconds,
        }
    }
}

impl Summary<'_> {
    /// What came from other images; nothing if nothing did.
    fn sharing_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.foreign_packs.is_empty() {
            let bytes = self.foreign_packs.iter().map(|pack| pack.bytes).sum();
            let (count, contents) = (self.foreign_packs.len(), Size(self.foreign_content_bytes));
            writeln!(out, "others     {count} packs of other images ({}), with {contents} of contents", Size(bytes))?;
        }
        if !self.reused_packs.is_empty() {
            writeln!(out, "re-used    {} packs", self.reused_packs.len())?;
        }
        if self.mounted_bytes + self.copied_bytes > 0 {
            let (mounted, copied) = (Size(self.mounted_bytes), Size(self.copied_bytes));
            writeln!(out, "moved      {mounted} mounted from other repositories, {copied} copied")?;
        }
        for RefusedSharing { what, reason } in &self.refused {
            writeln!(out, "refused    {}: {}", Name(what.as_bytes()), Name(reason.as_bytes()))?;
        }
        Ok(())
    }
}

impl Layer {
    fn new(layer: &dimsum_convert::LayerSummary) -> Self {
        Self {
            source: layer.source,
            diff_id: layer.diff_id,
            blob_bytes: layer.blob_bytes,
            tar_bytes: layer.tar_bytes,
            content_bytes: layer.content_bytes,
            shared_bytes: layer.shared_bytes,
            null_bytes: layer.null_bytes,
            pack: layer.pack.map(|pack| pack.digest),
            pack_bytes: layer.pack.map_or(0, |pack| pack.size),
            layer_meta_bytes: layer.layer_meta_bytes,
            device_bytes: layer.device_bytes,
            chunks: layer.chunks,
        }
    }
}

impl Report for Summary<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "manifest   {}", self.manifest)?;
        writeln!(out, "root       {}", self.root)?;
        let listed = self.layers.iter().filter(|layer| layer.pack.is_some()).count();
        writeln!(out, "layers     {} ({listed} packs), {} inodes", self.layers.len(), self.inodes)?;
        writeln!(out, "read       {}, contents {}", Size(self.bytes_in), Size(self.content_bytes))?;
        writeln!(out, "shared     {}, zeros {}", Size(self.shared_bytes), Size(self.null_bytes))?;
        let (meta, uncompressed) = (Size(self.meta_stored_bytes), Size(self.meta_bytes));
        writeln!(out, "stored     {}, of this meta {meta} ({uncompressed} uncompressed)", Size(self.stored_bytes))?;
        self.sharing_text(out)?;
        writeln!(out, "temporary  {}", Size(self.temp_bytes))?;
        if let Some(original) = &self.original {
            original.text(out)?;
        }
        if self.dropped_xattrs + self.dropped_overlay > 0 {
            let (xattrs, overlay) = (self.dropped_xattrs, self.dropped_overlay);
            writeln!(out, "left out   {xattrs} extended attributes, {overlay} entries of overlayfs")?;
            for dropped in &self.dropped {
                writeln!(out, "           {}", Name(dropped.as_bytes()))?;
            }
        }
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}

/// What came out of an index.
#[derive(Serialize)]
struct IndexSummary<'a> {
    source: &'a str,
    target: &'a str,
    index: Digest,
    images: Vec<Image<'a>>,
    left_out: Vec<Left>,
    written_bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Image<'a> {
    platform: Option<String>,
    original: Digest,
    #[serde(flatten)]
    summary: Summary<'a>,
}

#[derive(Serialize)]
struct Left {
    digest: Digest,
    platform: Option<String>,
    reason: &'static str,
}

impl<'a> IndexSummary<'a> {
    fn new(command: &'a Convert, converted: &ConvertedRoot, written_bytes: u64, seconds: f64) -> Self {
        let images = converted.images.iter().map(|image| Image {
            platform: image.platform.as_ref().map(platform_text),
            original: image.source,
            summary: Summary::new(command, &image.converted, written_bytes, seconds),
        });
        Self {
            source: &command.source,
            target: &command.target,
            index: converted.root.digest,
            images: images.collect(),
            left_out: converted.left_out.iter().map(Left::new).collect(),
            written_bytes,
            seconds,
        }
    }
}

impl Left {
    fn new(left: &LeftOut) -> Self {
        let reason = match left.reason {
            Reason::Platform => "its platform was not asked for",
            Reason::NoImage => "it is no image",
            Reason::Dimsum => "it is a Dimsum image already",
            Reason::Windows => "it is for Windows",
            _ => "it cannot be converted",
        };
        Self { digest: left.digest, platform: left.platform.as_ref().map(platform_text), reason }
    }
}

impl Report for IndexSummary<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "index      {}", self.index)?;
        for Image { platform, original, summary } in &self.images {
            let platform = platform.as_deref().unwrap_or("-");
            let (manifest, stored) = (summary.manifest, Size(summary.stored_bytes));
            writeln!(out, "{platform:<10} {manifest} of {original}, stored {stored}")?;
        }
        for Left { digest, platform, reason } in &self.left_out {
            writeln!(out, "left out   {digest} {}: {reason}", platform.as_deref().unwrap_or("-"))?;
        }
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_an_optional_unit() {
        assert_eq!(size("256K"), Ok(256 << 10));
        assert_eq!(size("1m"), Ok(1 << 20));
        assert_eq!(size("65536"), Ok(65536));
        for text in ["", "K", "-1", "4096M", "1G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
