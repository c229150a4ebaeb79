//! `dimsum check`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use dimsum_engine::check::{CheckRequest, Finding, ImageCheck, check_image, check_stored_image};
use serde::Serialize;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use crate::options::DEFAULT_STORE;
use crate::output::{Report, Tame};

/// Prove an image at its source, compare it with an ordinary image, or prove this node's store
///
/// Without options: digests and lengths of all blobs, the meta from its root, all maps, and the whole file system. Each
/// finding has file and offset. With findings the exit status is 3.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    image: ImageArg,
    /// Also compare the image's tree with that of an ordinary image or of dir:PATH: type, mode, owner, size, device, links, time, xattrs,
    /// content
    #[arg(long, value_name = "SOURCE")]
    against: Option<String>,
    /// Also decode every chunk of every pack and prove it
    #[arg(long)]
    data: bool,
    /// Prove this node's copies instead: every file of the store, or of the store in DIR
    // Takes the place of the option that all commands share: a check of the source uses no store, so naming one can only
    // mean this.
    #[arg(long, conflicts_with_all = ["against", "data"], num_args = 0..=1, require_equals = true)]
    #[arg(value_name = "DIR", default_missing_value = DEFAULT_STORE)]
    store: Option<PathBuf>,
    /// List so many differences
    #[arg(long, value_name = "N", default_value_t = 20)]
    list: usize,
}

impl Check {
    /// Checks and prints what was found.
    ///
    /// # Errors
    /// If anything is wrong, or the check cannot be made.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let image = &self.image.image;
        // The grammar refuses both behind the command, but does not see an option before it.
        if self.store.is_some() && (self.data || self.against.is_some()) {
            return Err(Error::Usage {
                object: "--store".to_owned(),
                reason: "it checks this node's copy, --data and --against check the source".to_owned(),
                hint: "leave --store out: a check of the source uses no store; DIMSUM_STORE names one for all commands",
            });
        }
        let request = CheckRequest { data: self.data, against: self.against.as_deref(), list: self.list };
        let found = match self.store {
            Some(_) => check_stored_image(&context.engine, image),
            None => check_image(&context.engine, image, request),
        };
        let found = CheckReport(found?);
        context.output.write(&found)?;
        match found.0.problems() {
            0 => Ok(()),
            count => Err(Error::Findings { object: found.0.image, count }),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct CheckReport(ImageCheck);

impl Report for CheckReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for Finding { object, offset, what } in &self.0.findings.listed {
            let (object, what) = (Tame(object), Tame(what));
            match offset {
                Some(offset) => writeln!(out, "{object}: at byte {offset}: {what}")?,
                None => writeln!(out, "{object}: {what}")?,
            }
        }
        if let Some(comparison) = &self.0.comparison {
            for each in &comparison.listed {
                let (source, image) = (Tame(&each.source), Tame(&each.image));
                writeln!(out, "{}: {}: source {source}, image {image}", each.path, each.what)?;
            }
            writeln!(out, "names compared: {}, differences: {}", comparison.names, comparison.differences)?;
        }
        let (bytes, chunks, count) = (self.0.bytes, self.0.chunks, self.0.findings.count);
        writeln!(
            out,
            "{} {}: {bytes} bytes read, {chunks} chunks proven, findings: {count}",
            self.0.image, self.0.digest
        )
    }
}
