//! `dimsum mount`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dimsum_engine::Digest;
use dimsum_node::{DriverKind, umount};
use serde::Serialize;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use crate::node::{client, mount};
use crate::output::Report;
use dimsum_engine::image;

/// Mount an image: only read bytes are fetched, and all are verified
///
/// Returns when the first file can be read. The mount outlives this command; `dimsum umount` takes it away. An ordinary image
/// is converted into the store first, once.
#[derive(Debug, Args)]
pub struct Mount {
    #[command(flatten)]
    image: ImageArg,
    /// The directory to mount on
    directory: PathBuf,
    /// Mount with this driver
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    driver: Driver,
    /// Fetch the rest of the image behind the readers, while it is mounted
    #[arg(long)]
    fill: bool,
    /// Stay until a signal comes (INT, TERM, HUP, QUIT), then unmount
    #[arg(long)]
    foreground: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Driver {
    /// The best that this machine allows; in this version always fuse.
    Auto,
    /// A FUSE file system.
    Fuse,
}

impl Mount {
    /// Mounts.
    ///
    /// # Errors
    /// If the image cannot be had or mounted.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (context, interrupts) = context.with_interrupts()?;
        if self.driver == Driver::Auto {
            context.engine.progress().explain("driver fuse: the only one of this version");
        }
        let target = std::path::absolute(&self.directory);
        let target = target.map_err(|source| Error::io("find", &self.directory, source))?;
        let mounted = mount(&context, &client(&context)?, &self.image.image, &target, self.fill)?;
        interrupts.check()?;
        mounted.attach(&target).map_err(Error::node(target.display().to_string()))?;
        let (id, image) = (mounted.id(), mounted.image().clone());
        drop(mounted);
        context.output.write(&Mounted {
            image: image::parse(&context.engine, &self.image.image)?.to_string(),
            digest: image.digest,
            directory: &target,
            driver: image.driver,
            id,
        })?;
        if self.foreground {
            let waited = interrupts.wait_for_end();
            waited.map_err(|source| Error::io("wait for", Path::new("signals"), source))?;
            umount(&target, false).map_err(Error::node(target.display().to_string()))?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Mounted<'a> {
    image: String,
    digest: Digest,
    directory: &'a Path,
    driver: DriverKind,
    id: u64,
}

impl Report for Mounted<'_> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {} on {} ({})", self.image, self.digest, self.directory.display(), self.driver)
    }
}
