//! `dimsum inspect`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use dimsum_engine::analysis::chunks::ChunkMap;
use dimsum_engine::analysis::sharing::MAX_IMAGES;
use dimsum_engine::image::{self, Opened};
use dimsum_engine::inspect::{InodeCounts, InspectedMeta, InspectedPack, Inspection};
use dimsum_engine::write_whole;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Name, Report, Size};
use crate::views::Cells;
use crate::views::page::page;

/// Show the structure of an image: digests, packs, meta, file system, options, positions of its bytes
///
/// With --chunks it shows for each pack its chunks, the units of fetching and verification, and the bytes of them that
/// the image's tree uses. It also shows bytes that a layer above deleted or replaced, and the directories that cost
/// most. With --with it shows the chunks that other images share. Only metas are read, never file data. An ordinary
/// image is converted into the store first, once. For this node it shows the packs that are whole in the store, and the
/// share of the others, in images that were opened there.
#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    image: ImageArg,
    /// Show where the image's bytes lie, chunk by chunk: a summary as text, everything as JSON
    #[arg(long)]
    chunks: bool,
    /// Also show the chunks that this image shares; may be given up to 31 times
    #[arg(long, value_name = "IMAGE", requires = "chunks")]
    with: Vec<String>,
    /// Also write the picture to FILE: one page of HTML and SVG that needs nothing from outside. To standard output
    /// instead of the text if FILE is -
    #[arg(long, value_name = "FILE", requires = "chunks")]
    html: Option<PathBuf>,
}

impl Inspect {
    /// Prints it.
    ///
    /// # Errors
    /// If the image cannot be read or is not valid.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let opened = image::open(&context.engine, &self.image.image)?;
        if self.chunks { self.chunks(context, &opened) } else { context.output.write(&opened.inspect()?) }
    }

    fn chunks(&self, context: &Context, opened: &Opened) -> Result<(), Error> {
        if self.with.len() > MAX_IMAGES {
            return Err(Error::Usage {
                object: "--with".to_owned(),
                reason: format!("at most {MAX_IMAGES} images can be compared with"),
                hint: "leave some out",
            });
        }
        let with = self.with.iter().map(|with| image::open(&context.engine, with)).collect::<Result<Vec<_>, _>>()?;
        let mut cells = Cells::new(opened.image.maps());
        let map = ChunkMap::new(&context.engine, opened, &with, &mut cells)?;
        if let Some(file) = &self.html {
            let page = page(&map, &cells);
            if file.as_os_str() == "-" {
                return context.output.with(|out| out.write_all(page.as_bytes()));
            }
            const ACTION: &str = "write the picture to";
            let failed = |source| Error::io(ACTION, file, source);
            write_whole(ACTION, file, |out| out.write_all(page.as_bytes()).map_err(failed))?;
        }
        context.output.write(&map)
    }
}

impl Report for Inspection {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        // Annotations are what somebody wrote.
        let or_none = |text: &Option<String>| Name(text.as_deref().unwrap_or("-").as_bytes()).to_string();
        writeln!(out, "image      {}", self.image)?;
        writeln!(out, "manifest   {}", self.manifest)?;
        writeln!(out, "root       {}", self.root)?;
        writeln!(out, "config     {}", self.config)?;
        let from = self.converted_from.map(|digest| digest.to_string()).or_else(|| self.source_manifest.clone());
        writeln!(out, "source     {}", or_none(&from))?;
        writeln!(out, "options    {}, encoder {}", or_none(&self.options), or_none(&self.encoder))?;
        let InodeCounts { all, directories, files, symlinks, specials, names } = &self.inodes;
        writeln!(
            out,
            "inodes     {all}: {files} files, {directories} directories, {symlinks} symlinks, {specials} special; {names} names"
        )?;
        let (files, flat, stored) = (Size(self.file_bytes), Size(self.flat_bytes), Size(self.stored_bytes));
        writeln!(out, "bytes      files {files}, flat image {flat}, stored {stored}")?;
        let InspectedMeta { digest, bytes, uncompressed_bytes, erofs_bytes } = &self.meta;
        let (uncompressed, erofs) = (Size(*uncompressed_bytes), Size(*erofs_bytes));
        writeln!(out, "meta       {digest} {}, uncompressed {uncompressed}, EROFS {erofs}", Size(*bytes))?;
        for (index, pack) in self.packs.iter().enumerate() {
            let InspectedPack { digest, bytes, device, chunks, blocks, source_diff_id, foreign } = pack;
            writeln!(out, "pack {index:<5} {digest} {}, {chunks} chunks, {blocks} blocks", Size(*bytes))?;
            writeln!(out, "           device {device}, layer {}", or_none(source_diff_id))?;
            if foreign.is_some() {
                writeln!(out, "           of another image, {}", or_none(foreign))?;
            }
        }
        Ok(())
    }
}
