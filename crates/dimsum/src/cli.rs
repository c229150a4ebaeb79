//! The table of commands and the options that all of them share.
//!
//! Each command is one struct in one file below [`crate::commands`]: its fields are its flags, their comments are its
//! help, its manual page and its completions, and its `run` is what it does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    cat::Cat, check::Check, completions::Completions, convert::Convert, hook::Hook, info::Info, inspect::Inspect,
    keeper::Keeper, ls::Ls, man::Man, mount::Mount, run::Run, serve::Serve, umount::Umount,
};
use crate::context::Context;
use crate::error::Error;

/// Container images served in small, verified bites.
///
/// An image is mounted or run before it has been fetched: only what is read is fetched, and every byte is verified
/// against the image's digest before anybody sees it. An ordinary OCI image is converted on the way in.
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

const REFERENCES: &str = "\
IMAGE, SOURCE and TARGET are one of
  oci:DIR[:TAG]   an image in an OCI image layout on this machine
  dir:PATH        a directory tree (as SOURCE of convert and of check --against)

Exit status: 0 done, 1 failed, 2 wrong usage, 3 integrity: bytes do not match the image's digest.
`run` ends with the status of the command that ran (128 + the number of the signal that ended it).";

/// What all commands share.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// The node's store [env: DIMSUM_STORE] [default: /var/lib/dimsum, or $XDG_DATA_HOME/dimsum when not root]
    // Not clap's `env`: `check` must tell a store that was named from one that is set in the environment.
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The key that authenticates records of local conversions, made at first use [env: DIMSUM_NODE_KEY] [default:
    /// /etc/dimsum/node.key, or $XDG_CONFIG_HOME/dimsum/node.key when not root]
    #[arg(long, global = true, value_name = "FILE")]
    pub node_key: Option<PathBuf>,
    /// How results and errors are written
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub format: Format,
    /// Say on standard error what is decided and why
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// How results and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object, or one per line where there are many.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "each is described at its struct, from which clap takes the help")]
pub enum Command {
    Run(Run),
    Convert(Convert),
    Mount(Mount),
    Umount(Umount),
    Inspect(Inspect),
    Ls(Ls),
    Cat(Cat),
    Check(Check),
    Info(Info),
    Serve(Serve),
    Keeper(Keeper),
    Completions(Completions),
    Man(Man),
    Hook(Hook),
}

impl Command {
    /// Does what was asked for and returns the exit status.
    ///
    /// # Errors
    /// What went wrong, for the one place that renders it.
    pub fn run(self, context: &Context) -> Result<ExitCode, Error> {
        match self {
            Self::Run(run) => run.run(context),
            Self::Convert(convert) => convert.run(context).map(done),
            Self::Mount(mount) => mount.run(context).map(done),
            Self::Umount(umount) => umount.run(context).map(done),
            Self::Inspect(inspect) => inspect.run(context).map(done),
            Self::Ls(ls) => ls.run(context).map(done),
            Self::Cat(cat) => cat.run(context).map(done),
            Self::Check(check) => check.run(context).map(done),
            Self::Info(info) => info.run(context).map(done),
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
