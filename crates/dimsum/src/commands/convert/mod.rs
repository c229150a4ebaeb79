//! `dimsum convert`.
//!
//! ```text
//! arguments ─→ place, target, images to share with ─→ dimsum_convert ─┬─ one image ─→ summary (with original: what was kept)
//!                                                                     └─ an index ──→ index: a line for each image
//! ```

mod decisions;
mod index;
mod original;
mod summary;

use std::time::Instant;

use clap::Args;
use dimsum_convert::{Choice, ConvertOptions, Converted, Input, convert_all, convert_as};
use dimsum_source::{Role, Target};

use self::decisions::decisions;
use self::index::IndexSummary;
use self::summary::Summary;
use super::conversion_args::ConversionArgs;
use super::sharing_args::{Others, SharingArgs};
use crate::context::Context;
use crate::error::Error;
use crate::progress::note;
use dimsum_engine::EngineError;
use dimsum_engine::image::convert_in::ConvertProgress;
use dimsum_engine::image::{create_target, open_place, parse, refuse_same};

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
    #[command(flatten)]
    conversion: ConversionArgs,
    #[command(flatten)]
    sharing: SharingArgs,
}

impl Convert {
    /// Converts and prints a summary.
    ///
    /// # Errors
    /// If the source cannot be read or is refused, or the target cannot be written.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let started = Instant::now();
        let (context, _interrupts) = context.with_interrupts()?;
        let source = context.engine.schemes().parse(&self.source);
        let source =
            source.map_err(|source| EngineError::Name { object: self.source.clone(), source: Box::new(source) })?;
        let options = ConvertOptions { keep_original: self.keep_original, ..self.conversion.options(&context) };
        let others = self.sharing.open(&context)?;
        let shown = ConvertProgress::new(&context.engine, &self.source);
        if let Some(path) = source.tree() {
            if self.with_original {
                return Err(Error::Usage {
                    object: self.source.clone(),
                    reason:
                        "--with-original is for images: a directory has no image that could stand beside the new one"
                            .to_owned(),
                    hint: "leave the option out",
                });
            }
            let target = self.target(&context, &others)?;
            let input = Input::Directory { path };
            let sharing = others.sharing().resolve(&*target, None, None, &options);
            let sharing = sharing.map_err(|error| shown.error(error))?;
            let converted = convert_as(input, &*target, Role::Root, &options, &sharing, &shown);
            let converted = converted.map_err(|error| shown.error(error))?;
            let (written, seconds) = (shown.written(), started.elapsed().as_secs_f64());
            drop(shown);
            self.explain(&context, &others, &converted);
            return context.output.write(&Summary::new(&self, &converted, written, seconds));
        }
        let place = open_place(&context.engine, &parse(&context.engine, &self.source)?)?;
        if !self.with_original {
            let hint = "--with-original puts both under one name; else give the image another";
            refuse_same(&context.engine, &self.source, &self.target).map_err(|error| Error::advised(error, hint))?;
        }
        let target = self.target(&context, &others)?;
        let sharing = others.sharing();
        let choice =
            Choice { platforms: context.engine.config().platforms.clone(), with_original: self.with_original, sharing };
        let converted = convert_all(&*place, &*target, &choice, &options, &shown);
        let converted = converted.map_err(|error| shown.error(error))?;
        let (written, seconds) = (shown.written(), started.elapsed().as_secs_f64());
        drop(shown);
        converted.images.iter().for_each(|image| self.explain(&context, &others, &image.converted));
        match &*converted.images {
            [only] if only.converted.manifest == converted.root.digest => {
                context.output.write(&Summary::new(&self, &only.converted, written, seconds))
            }
            _ => context.output.write(&IndexSummary::new(&self, &converted, written, seconds)),
        }
    }

    fn target(&self, context: &Context, others: &Others) -> Result<Box<dyn Target>, Error> {
        let target = create_target(&context.engine, &self.target)?;
        if let Some(line) = others.in_vain(&*target) {
            note(line);
        }
        Ok(target)
    }

    fn explain(&self, context: &Context, others: &Others, converted: &Converted) {
        for line in decisions(others, converted) {
            context.engine.progress().explain(&format!("{}: {line}", self.source));
        }
    }
}
