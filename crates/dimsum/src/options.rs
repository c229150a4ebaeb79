//! The options that all commands share.

use std::path::PathBuf;
use std::str::FromStr as _;

use clap::{Args, ValueEnum};
use dimsum_engine::Platform;
use dimsum_engine::parse_platform;
use dimsum_node::trace::LogLevel;

/// What `check --store` gives in the place of a directory.
pub const DEFAULT_STORE: &str = "-";

/// What all commands share.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Use this store [env: DIMSUM_STORE] [default: /var/lib/dimsum, or $XDG_DATA_HOME/dimsum when not root]
    // Not clap's `env`: `check` must tell a store that was named from one that is set in the environment.
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Authenticate records of local conversions with this key, made at first use [env: DIMSUM_NODE_KEY] [default:
    /// /etc/dimsum/node.key, or $XDG_CONFIG_HOME/dimsum/node.key when not root]
    #[arg(long, global = true, value_name = "FILE")]
    pub node_key: Option<PathBuf>,
    /// Take the image for this platform, such as linux/arm64. Give it several times to convert or copy several images
    /// [default: this machine's; for convert and copy: all]
    #[arg(long, global = true, value_name = "OS/ARCH[/VARIANT]", value_parser = platform, help_heading = "Registries")]
    pub platform: Vec<Platform>,
    /// Read credentials from a file in the form of podman's auth.json or docker's config.json [env: REGISTRY_AUTH_FILE]
    /// [default: where podman, skopeo and docker keep them]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub authfile: Option<PathBuf>,
    /// Trust the CA certificates (PEM) in FILE, besides those of the system
    #[arg(long, global = true, value_name = "FILE", help_heading = "Registries")]
    pub ca_file: Vec<PathBuf>,
    /// Read certificates from DIR/HOST[:PORT]: *.crt are CAs, *.cert with *.key a client's [default:
    /// /etc/containers/certs.d and /etc/docker/certs.d]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Registries")]
    pub cert_dir: Vec<PathBuf>,
    /// Speak HTTP without TLS to registries. Loopback is tried without TLS anyway
    #[arg(long, global = true, help_heading = "Registries")]
    pub plain_http: bool,
    /// Refuse images that are named by a tag: a tag can be moved, a digest cannot
    #[arg(long, global = true, help_heading = "Registries")]
    pub require_digest: bool,
    /// Write results and errors in this format
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub format: Format,
    /// Explain decisions on standard error
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Write records down to this level: error, warn, info, debug or trace. A server that is started for it does the same
    /// [env: DIMSUM_LOG] [default: warn, for the server info]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = LogLevel::from_str, help_heading = "Log")]
    pub log_level: Option<LogLevel>,
    /// Write records in this format, to standard error and to the server's log [env: DIMSUM_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = "Log")]
    pub log_format: Option<Format>,
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
