//! The table of commands and the options that all of them share.
//!
//! Each command is one struct in one file below [`crate::commands`]: its fields are its flags, their comments are its
//! help, its manual page and its completions, and its `run` is what it does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dimsum_format::manifest::Platform;
use dimsum_source::parse_platform;

use crate::commands::{
    cat::Cat, check::Check, completions::Completions, convert::Convert, copy::Copy, diff::Diff, estimate::Estimate,
    export::Export, hook::Hook, info::Info, inspect::Inspect, keeper::Keeper, ls::Ls, man::Man, mount::Mount, run::Run,
    serve::Serve, store::Store, umount::Umount,
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

/// What `check --store` gives in the place of a directory.
pub const DEFAULT_STORE: &str = "-";

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
    /// Take the image for this platform, such as linux/arm64 [default: this machine's; for convert and copy: all]. May be
    /// given more than once where several images are made or moved
    #[arg(long, global = true, value_name = "OS/ARCH[/VARIANT]", value_parser = platform, help_heading = "Registries")]
    pub platform: Vec<Platform>,
    /// Credentials in the form of podman's auth.json or docker's config.json [env: REGISTRY_AUTH_FILE] [default: where
    /// podman, skopeo and docker keep them]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub authfile: Option<PathBuf>,
    /// Trust the CA certificates (PEM) in FILE, besides those of the system
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub ca_file: Vec<PathBuf>,
    /// Directory with a directory HOST[:PORT] for a registry's certificates: *.crt are CAs, *.cert with *.key a client's
    /// [default: /etc/containers/certs.d and /etc/docker/certs.d]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Registries")]
    pub cert_dir: Vec<PathBuf>,
    /// Talk HTTP without TLS to registries. Needed for none on this machine: loopback is tried without TLS anyway
    #[arg(long, global = true, help_heading = "Registries")]
    pub plain_http: bool,
    /// Refuse images that are named by a tag: a tag can be moved, a digest cannot
    #[arg(long, global = true, help_heading = "Registries")]
    pub require_digest: bool,
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

fn platform(text: &str) -> Result<Platform, String> {
    parse_platform(text).ok_or_else(|| "a platform is OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64".to_owned())
}

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
    Store(Store),
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
