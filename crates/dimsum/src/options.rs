//! The options that all commands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dimsum_format::manifest::Platform;
use dimsum_source::parse_platform;

/// What `check --store` gives in the place of a directory.
pub const DEFAULT_STORE: &str = "-";

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
