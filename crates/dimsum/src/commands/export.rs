//! `dimsum export`.

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use dimsum_convert::export::{
    ExportImage, ExportMode, ExportOptions, Exported, LayerCompression, Omission, OmittedEntries, Owners, Reached,
    ReadFailure, export, export_directory, export_original, export_tar,
};
use dimsum_erofs::MetaRead as _;
use dimsum_format::manifest::Descriptor;
use dimsum_format::meta::MetaMaps;
use dimsum_format::{Digest, media};
use dimsum_source::{Place, Prefer, Role, SourceFault, Target};
use dimsum_store::Extent;
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::file::write_whole;
use crate::output::{Report, Size, Tame};
use dimsum_engine::EngineError;
use dimsum_engine::image::convert_in::ConvertProgress;
use dimsum_engine::image::fs::BlockingMeta;
use dimsum_engine::image::{Opened, create_target, open_resolved, parse, refuse_same, resolve};

/// Turn a Dimsum image back into an ordinary image, a tar or a directory
///
/// The result unpacks to the identical tree; every byte of a file is proven on the way. Per layer, images with a common
/// base get equal layers for it. An image that was converted with --keep-original gets the layers of the source: the
/// same blobs where their compression can be repeated, else their tars. If all blobs are the same, so is the manifest.
#[derive(Debug, Args)]
pub struct Export {
    /// The Dimsum image
    image: String,
    /// An ordinary image: [HOST/]REPO:TAG, oci:DIR:TAG, oci-archive:FILE or docker-archive:FILE. A tar of the file
    /// tree: tar:FILE, or - or tar:- for standard output. The file tree itself: dir:PATH, an empty directory
    target: String,
    /// Make one layer with the whole tree, instead of one for each layer of the source
    #[arg(long)]
    flatten: bool,
    /// Compress new layers so [default: gzip]. Layers that recipes rebuild keep their compression: use --no-original
    /// with it for such an image
    #[arg(long, value_enum, value_name = "HOW")]
    compression: Option<How>,
    /// Rebuild the layers even if the image has recipes for those of the source
    #[arg(long)]
    no_original: bool,
    /// Compress with this level of --compression [default: the usual one]
    #[arg(long, value_name = "N")]
    level: Option<u32>,
    /// Give all files to the user who runs this, with dir:PATH; that user need not be root
    #[arg(long)]
    own: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Not at all.
    None,
    /// gzip, which every tool reads.
    Gzip,
    /// zstd.
    Zstd,
}

/// Where an export goes.
enum Goal {
    Image,
    Tar(Option<PathBuf>),
    Directory(PathBuf),
}

impl Export {
    /// Exports and prints what came out.
    ///
    /// # Errors
    /// If the image cannot be read or is damaged, or the target cannot be written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let started = Instant::now();
        let (context, _interrupts) = context.with_interrupts()?;
        self.check_words()?;
        if matches!(self.goal(), Goal::Image) {
            let hint = "give the ordinary image another name";
            refuse_same(&context.engine, &self.image, &self.target).map_err(|error| Error::advised(error, hint))?;
        }
        let resolved = resolve(&context.engine, &parse(&context.engine, &self.image)?, Prefer::Dimsum)?;
        if !resolved.manifest.is_dimsum() {
            return Err(Error::Usage {
                object: self.image.clone(),
                reason: "this is an ordinary image already".to_owned(),
                hint: "`dimsum copy SOURCE TARGET` copies it as it is",
            });
        }
        let failed = |source| EngineError::Source { object: self.image.clone(), source: Box::new(source) };
        let manifest = resolved.place.read_manifest(resolved.digest).map_err(failed)?;
        let place = Arc::clone(&resolved.place);
        let opened = open_resolved(&context.engine, resolved)?;
        let source = StoreImage { name: &self.image, manifest: &manifest, opened: &opened, place: &*place };
        let shown = ConvertProgress::of(&context.engine, "export", &self.image);
        let exported = self.export(&context, &source, &shown)?;
        drop(shown);
        let seconds = started.elapsed().as_secs_f64();
        match exported {
            // Standard output has the tar.
            Done { image: None, .. } if matches!(self.goal(), Goal::Tar(None)) => Ok(()),
            done => context.output.write(&Summary::new(&self, done, seconds)),
        }
    }

    fn goal(&self) -> Goal {
        match self.target.split_once(':') {
            _ if self.target == "-" => Goal::Tar(None),
            Some(("tar", "-")) => Goal::Tar(None),
            Some(("tar", file)) => Goal::Tar(Some(file.into())),
            Some(("dir", path)) => Goal::Directory(path.into()),
            _ => Goal::Image,
        }
    }

    /// Refuses what would be ignored.
    fn check_words(&self) -> Result<(), Error> {
        let refuse = |object: &str, reason: &str, hint| {
            Err(Error::Usage { object: object.to_owned(), reason: reason.to_owned(), hint })
        };
        if matches!(&*self.target, "tar:" | "dir:") {
            return refuse(&self.target, "the path is empty", "write tar:FILE, tar:- or dir:PATH");
        }
        match (self.goal(), self.names_compression()) {
            (Goal::Image, _) | (_, None) => Ok(()),
            (_, Some(option)) => {
                refuse(option, "a tar or a directory has no layers that could be compressed", "leave the option out")
            }
        }
    }

    /// Returns the option that asks for layers of a certain kind.
    fn names_compression(&self) -> Option<&'static str> {
        let compression = self.compression.map(|_| "--compression");
        compression.or_else(|| self.level.map(|_| "--level"))
    }

    fn export(&self, context: &Context, source: &StoreImage<'_>, shown: &ConvertProgress) -> Result<Done, Error> {
        let options = self.options(context);
        let whole = |left_out| Done { image: None, left_out, no_original: None };
        match self.goal() {
            Goal::Image => {
                let (referrers, unread) = self.referrers(source, &options)?;
                let target = create_target(&context.engine, &self.target)?;
                let no_original = match self.original(source, &referrers, &*target, &options, shown)? {
                    Ok(exported) => return Ok(Done::of(exported, None)),
                    Err(reason) => reason.or(unread),
                };
                let exported = export(source, &*target, &options, shown).map_err(|error| shown.error(error))?;
                Ok(Done::of(exported, no_original))
            }
            Goal::Tar(file) => {
                let tar = |output: &mut dyn Write| {
                    let left_out = export_tar(source, output, options.sparse_from, shown);
                    left_out.map_err(|error| Error::from(shown.error(error)))
                };
                let left_out = match &file {
                    Some(file) => write_whole("write the tar to", file, tar)?,
                    None => {
                        let mut output = BufWriter::new(io::stdout().lock());
                        let left_out = tar(&mut output)?;
                        output.flush().map_err(|source| Error::Output { source })?;
                        left_out
                    }
                };
                Ok(whole(left_out))
            }
            Goal::Directory(path) => {
                let owners = if self.own { Owners::Mine } else { Owners::Keep };
                let left_out = export_directory(source, &path, owners, shown);
                Ok(whole(left_out.map_err(|error| shown.error(error))?))
            }
        }
    }

    /// Looks for recipes of the source's layers, if they are wanted. What stands in the place of their list and is none, whoever put it
    /// there, keeps nobody from the image: it is said.
    fn referrers(
        &self,
        source: &StoreImage<'_>,
        options: &ExportOptions,
    ) -> Result<(Vec<Descriptor>, Option<String>), Error> {
        if self.no_original || options.mode != ExportMode::PerLayer {
            return Ok((Vec::new(), None));
        }
        let referrers = match source.place.referrers(Digest::of(source.manifest), Some(media::ORIGINAL)) {
            Ok(referrers) => referrers,
            Err(error) if matches!(error.detail(), Some(SourceFault::Referrers { .. })) => {
                return Ok((Vec::new(), Some(error.to_string())));
            }
            Err(error) => {
                return Err(EngineError::Source { object: self.image.clone(), source: Box::new(error) }.into());
            }
        };
        // Two wishes that exclude each other: the very layers, whoever converted the image, and other ones, whoever exports it.
        match self.names_compression() {
            Some(option) if !referrers.is_empty() => Err(Error::Usage {
                object: option.to_owned(),
                reason: "the image has recipes for the layers of its source, which are compressed as they were"
                    .to_owned(),
                hint: "add --no-original to rebuild the layers and compress them so, or leave the option out",
            }),
            _ => Ok((referrers, None)),
        }
    }

    /// Gives the source's layers back, if there are recipes for them; else says why not, if there are some.
    fn original(
        &self,
        source: &StoreImage<'_>,
        referrers: &[Descriptor],
        target: &dyn Target,
        options: &ExportOptions,
        shown: &ConvertProgress,
    ) -> Result<Result<Exported, Option<String>>, Error> {
        let mut reason = None;
        for referrer in referrers.iter().take(MAX_REFERRERS) {
            match export_original(source, source.place, referrer.digest, target, options, shown) {
                Ok(exported) => return Ok(Ok(exported)),
                Err(error @ dimsum_convert::ConvertError::Original { .. }) => reason = Some(error.to_string()),
                Err(error) => return Err(shown.error(error).into()),
            }
        }
        Ok(Err(reason))
    }

    fn options(&self, context: &Context) -> ExportOptions {
        ExportOptions {
            mode: if self.flatten { ExportMode::Flatten } else { ExportMode::PerLayer },
            compression: match self.compression {
                Some(How::None) => LayerCompression::None,
                None | Some(How::Gzip) => LayerCompression::Gzip,
                Some(How::Zstd) => LayerCompression::Zstd,
            },
            level: self.level,
            role: Role::Root,
            temp_dir: context.engine.config().temp_dir.clone(),
            ..ExportOptions::default()
        }
    }
}

/// Referrers that are tried: there is one, unless somebody else puts others beside it.
const MAX_REFERRERS: usize = 4;

/// What an export did.
struct Done {
    image: Option<Exported>,
    left_out: OmittedEntries,
    /// Why the source's layers could not be given back, though there are recipes.
    no_original: Option<String>,
}

impl Done {
    fn of(exported: Exported, no_original: Option<String>) -> Self {
        Self { left_out: exported.left_out.clone(), image: Some(exported), no_original }
    }
}

/// An image as it is read through the node's store: every byte of the meta and of files comes through the gate.
struct StoreImage<'a> {
    name: &'a str,
    manifest: &'a [u8],
    opened: &'a Opened,
    place: &'a dyn Place,
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

fn failure(error: dimsum_store::ReadError) -> ReadFailure {
    if error.is_integrity() { ReadFailure::Damaged(Box::new(error)) } else { ReadFailure::Unreadable(Box::new(error)) }
}

#[derive(Serialize)]
struct Summary<'a> {
    image: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Digest>,
    /// The manifest is the source's, byte for byte.
    original: bool,
    /// Why the source's layers could not be given back, though there are recipes.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_original: Option<String>,
    layers: Vec<Layer>,
    /// What the target cannot hold.
    left_out: u64,
    /// The first of it.
    left_out_first: Vec<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct Layer {
    digest: Digest,
    diff_id: Digest,
    bytes: u64,
    tar_bytes: u64,
    /// The pack it was made of.
    pack: Option<Digest>,
    /// What of the source it is.
    reached: &'static str,
}

impl<'a> Summary<'a> {
    fn new(command: &'a Export, done: Done, seconds: f64) -> Self {
        let Done { image: exported, left_out, no_original } = done;
        let layers = exported.iter().flat_map(|exported| &exported.layers).map(|layer| Layer {
            digest: layer.blob.digest,
            diff_id: layer.diff_id,
            bytes: layer.blob.size,
            tar_bytes: layer.tar_bytes,
            pack: layer.pack,
            reached: match layer.reached {
                Reached::Blob => "original blob",
                Reached::Tar => "original tar",
                _ => "rebuilt",
            },
        });
        Self {
            image: &command.image,
            target: &command.target,
            manifest: exported.as_ref().map(|exported| exported.manifest),
            original: exported.as_ref().is_some_and(|exported| exported.original),
            no_original,
            layers: layers.collect(),
            left_out: left_out.count,
            left_out_first: left_out
                .first
                .iter()
                .map(|(path, omission)| format!("{path}: {}", omitted(omission)))
                .collect(),
            seconds,
        }
    }
}

fn omitted(omission: &Omission) -> String {
    match omission {
        Omission::Socket => "socket".to_owned(),
        Omission::Xattr { name } => format!("extended attribute {name}"),
        Omission::Device => "device node".to_owned(),
        _ => "cannot be there".to_owned(),
    }
}

impl Report for Summary<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(manifest) = self.manifest {
            writeln!(out, "manifest   {manifest}{}", if self.original { ", the original" } else { "" })?;
        }
        for Layer { digest, bytes, pack, reached, .. } in &self.layers {
            let from = match (*reached, pack) {
                ("rebuilt", Some(pack)) => format!("from pack {pack}"),
                ("rebuilt", None) => "from the image's tree".to_owned(),
                (reached, _) => reached.to_owned(),
            };
            writeln!(out, "layer      {digest} {}, {from}", Size(*bytes))?;
        }
        if let Some(reason) = &self.no_original {
            writeln!(out, "rebuilt    {}", Tame(reason))?;
        }
        if self.left_out > 0 {
            writeln!(out, "left out   {} entries", self.left_out)?;
            for each in &self.left_out_first {
                // Paths come escaped.
                writeln!(out, "           {}", Tame(each))?;
            }
        }
        writeln!(out, "time       {:.2} s", self.seconds)
    }
}
