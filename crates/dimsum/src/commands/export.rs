//! `dimsum export`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dimsum_engine::export::{ExportGoal, ExportSummary, ImageExport, LayerExport};
use dimsum_engine::{ExportMode, LayerCompression, Owners};

use crate::context::Context;
use crate::error::Error;
use crate::output::{Report, Size, Tame};

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
        let (context, _interrupts) = context.with_interrupts()?;
        self.check_words()?;
        let export = |goal| {
            let hint = "give the ordinary image another name";
            context.engine.export(&self.image, goal).map_err(|error| Error::advised(error, hint))
        };
        let exported = match self.goal() {
            Goal::Image => export(ExportGoal::Image(self.image()))?,
            Goal::Tar(Some(file)) => export(ExportGoal::TarFile(file))?,
            Goal::Directory(path) => {
                let owners = if self.own { Owners::Mine } else { Owners::Keep };
                export(ExportGoal::Directory { path, owners })?
            }
            Goal::Tar(None) => {
                let mut output = BufWriter::new(io::stdout().lock());
                export(ExportGoal::Tar(&mut output))?;
                return output.flush().map_err(|source| Error::Output { source });
            }
        };
        context.output.write(&exported)
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

    fn image(&self) -> ImageExport {
        ImageExport {
            target: self.target.clone(),
            mode: if self.flatten { ExportMode::Flatten } else { ExportMode::PerLayer },
            compression: self.compression.map(|how| match how {
                How::None => LayerCompression::None,
                How::Gzip => LayerCompression::Gzip,
                How::Zstd => LayerCompression::Zstd,
            }),
            level: self.level,
            no_original: self.no_original,
        }
    }
}

impl Report for ExportSummary {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(manifest) = self.manifest {
            writeln!(out, "manifest   {manifest}{}", if self.original { ", the original" } else { "" })?;
        }
        for LayerExport { digest, bytes, pack, reached, .. } in &self.layers {
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
