//! The table of commands.
//!
//! Each command is one struct in one file below [`crate::commands`]. Its fields are its flags, and their comments are
//! its help, its manual page and its completions. Its `run` does the work.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    cat::Cat, check::Check, completions::Completions, convert::Convert, copy::Copy, debug::DebugCommand, diff::Diff,
    estimate::Estimate, export::Export, hook::Hook, info::Info, inspect::Inspect, keeper::Keeper, ls::Ls, man::Man,
    mount::Mount, run::Run, serve::Serve, store::Store, umount::Umount,
};
use crate::context::Context;
use crate::error::Error;
use crate::options::{Common, DEFAULT_STORE};

/// Container images served in small, verified bites.
///
/// An image is mounted or run before it has been fetched: only touched bytes are fetched. Every byte is verified
/// against the image's digest before a process sees it. An ordinary OCI image is converted on the way in.
#[derive(Debug, Parser)]
#[command(name = "dimsum", version, after_help = REFERENCES, disable_help_subcommand = true)]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the arguments, the program's name first.
    ///
    /// # Errors
    /// What the grammar says; help and version are errors of this kind too.
    pub fn from_arguments<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = OsString> + Clone,
    {
        let mut cli = Self::try_parse_from(arguments.clone())?;
        // For the parser `check --store` is the option that all commands share, given again. Without a directory it must not hide the
        // one that was named before the command.
        if cli.common.store.as_deref() == Some(Path::new(DEFAULT_STORE)) {
            cli.common.store = Before::try_parse_from(arguments).ok().and_then(|before| before.common.store);
        }
        Ok(cli)
    }
}

/// The arguments as far as the command's name.
#[derive(Debug, Parser)]
struct Before {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    _command: AnyCommand,
}

#[derive(Debug, Subcommand)]
enum AnyCommand {
    #[command(external_subcommand)]
    Any(#[expect(dead_code, reason = "the parser wants a place for them")] Vec<OsString>),
}

const REFERENCES: &str = "\
IMAGE, SOURCE and TARGET are one of
  [docker://][HOST/]REPO[:TAG]  an image in a registry, with docker's defaults (docker.io/library, latest)
  oci:DIR[:TAG]                 an image in an OCI image layout on this machine
  oci-archive:FILE[:TAG]        an image in a tar of such a layout
  docker-archive:FILE[:NAME]    an image as `docker save` writes it
  dir:PATH                      a directory tree (as SOURCE of convert and of check --against, as TARGET of export)
Instead of a tag, @sha256:… names an image by the digest of its manifest: nothing else is taken for it.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 integrity: bytes do not match the image's digest;
128 + the number of the signal that ended it: 130 after Ctrl-C, 143 after SIGTERM.
`run` ends with the status of the command that ran.";

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "each is described at its struct, from which clap takes the help")]
pub enum Command {
    Run(Run),
    Convert(Convert),
    Copy(Copy),
    Export(Export),
    Mount(Mount),
    Umount(Umount),
    Inspect(Inspect),
    Ls(Ls),
    Cat(Cat),
    Diff(Diff),
    Estimate(Estimate),
    Check(Check),
    Info(Info),
    Debug(DebugCommand),
    Store(Store),
    Serve(Serve),
    Keeper(Keeper),
    Completions(Completions),
    Man(Man),
    Hook(Hook),
}

impl Command {
    /// Says whether its records go to the log of the store.
    #[must_use]
    pub const fn has_log_of_its_own(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Keeper(_))
    }

    /// Says whether bytes that the command fetched are used by its next run: those in the store, and blobs of a copy.
    #[must_use]
    pub const fn keeps_bytes(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Copy(_)
                | Self::Mount(_)
                | Self::Inspect(_)
                | Self::Ls(_)
                | Self::Cat(_)
                | Self::Diff(_)
                | Self::Store(_)
        )
    }

    /// Does what was asked for and returns the exit status.
    ///
    /// # Errors
    /// What went wrong, for the one place that renders it.
    pub fn run(self, context: &Context) -> Result<ExitCode, Error> {
        match self {
            Self::Run(run) => run.run(context),
            Self::Convert(convert) => convert.run(context).map(done),
            Self::Copy(copy) => copy.run(context).map(done),
            Self::Export(export) => export.run(context).map(done),
            Self::Mount(mount) => mount.run(context).map(done),
            Self::Umount(umount) => umount.run(context).map(done),
            Self::Inspect(inspect) => inspect.run(context).map(done),
            Self::Ls(ls) => ls.run(context).map(done),
            Self::Cat(cat) => cat.run(context).map(done),
            Self::Diff(diff) => diff.run(context).map(done),
            Self::Estimate(estimate) => estimate.run(context).map(done),
            Self::Check(check) => check.run(context).map(done),
            Self::Info(info) => info.run(context).map(done),
            Self::Debug(debug) => debug.run(context).map(done),
            Self::Store(store) => store.run(context).map(done),
            Self::Serve(serve) => serve.run(context).map(done),
            Self::Keeper(keeper) => keeper.run(context).map(done),
            Self::Completions(completions) => completions.run(context).map(done),
            Self::Man(man) => man.run(context).map(done),
            Self::Hook(hook) => hook.run(context).map(done),
        }
    }
}

const fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn store(words: &str) -> Option<PathBuf> {
        let words = words.split(' ').map(OsString::from);
        Cli::from_arguments(words.collect::<Vec<_>>()).unwrap().common.store
    }

    #[test]
    fn check_proves_the_store_that_was_named_wherever_it_was_named() {
        assert_eq!(store("dimsum --store A check IMAGE --store"), Some("A".into()));
        assert_eq!(store("dimsum --verbose --store=A check --store IMAGE"), Some("A".into()));
        assert_eq!(store("dimsum --store A check IMAGE --store=B"), Some("B".into()));
        assert_eq!(store("dimsum check IMAGE --store"), None);
        assert_eq!(store("dimsum ls --store A IMAGE"), Some("A".into()));
    }
}
