//! `dimsum mount`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dimsum_format::Digest;
use dimsum_node::{Client, DriverKind, MountHandle, MountRequest, umount};
use serde::Serialize;

use super::image_arg::ImageArg;
use crate::context::Context;
use crate::error::Error;
use crate::node::client;
use crate::output::Report;
use dimsum_engine::image::{Located, locate};

/// Mount an image: what is read is fetched and verified, nothing else
///
/// Returns when the first file can be read. The mount outlives this command; `dimsum umount` takes it away. An ordinary image
/// is converted into the store first, once.
#[derive(Debug, Args)]
pub struct Mount {
    #[command(flatten)]
    image: ImageArg,
    /// The directory to mount on
    directory: PathBuf,
    /// How the image is mounted
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
        let located = locate(&context.engine, &self.image.image)?;
        interrupts.check()?;
        if self.driver == Driver::Auto {
            context.engine.progress().explain("driver fuse: the only one of this version");
        }
        let target = std::path::absolute(&self.directory);
        let target = target.map_err(|source| Error::io("find", &self.directory, source))?;
        let client = client(&context)?;
        let (handle, id) = mount(&client, &located, &target, self.fill)?;
        handle
            .attach(&target)
            .map_err(|source| Error::Node { object: target.display().to_string(), source: Box::new(source) })?;
        drop(handle);
        let image = located.name();
        context.output.write(&Mounted {
            image,
            digest: located.digest,
            directory: &target,
            driver: DriverKind::Fuse,
            id,
        })?;
        if self.foreground {
            let waited = interrupts.wait_for_end();
            waited.map_err(|source| Error::io("wait for", Path::new("signals"), source))?;
            let done = umount(&target, false);
            done.map_err(|source| Error::Node { object: target.display().to_string(), source: Box::new(source) })?;
        }
        Ok(())
    }
}

/// Lets the server mount an image; it is not attached yet.
///
/// # Errors
/// If the server cannot be started or cannot mount it.
pub fn mount(client: &Client, located: &Located, target: &Path, fill: bool) -> Result<(MountHandle, u64), Error> {
    let request = MountRequest {
        image: located.digest,
        origins: located.origins.clone(),
        source_name: located.name(),
        target: target.display().to_string(),
        suid: false,
        dev: false,
        fill,
        driver: DriverKind::Fuse,
    };
    let handle =
        client.mount(&request).map_err(|source| Error::Node { object: located.name(), source: Box::new(source) })?;
    let id = handle.id();
    Ok((handle, id))
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
