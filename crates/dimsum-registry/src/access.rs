//! How registries are reached: credentials, certificates, plain HTTP.
//!
//! A library reads no environment: whoever makes an [`Access`] has looked there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where blobs wait for their upload unless told otherwise. It is a place for large files that outlive nothing, and not
/// `/tmp`, which is memory on many machines.
pub const DEFAULT_TEMP_DIR: &str = "/var/tmp";

/// Settings for all registries of a command. Serializable, since a command hands them to the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Talk HTTP without TLS, to every host. To loopback addresses it is tried anyway when TLS is not spoken there.
    pub plain_http: bool,
    /// Files in the form of podman's `auth.json` and docker's `config.json`, the first that knows a registry counts.
    /// Those that do not exist are passed over.
    pub auth_files: Vec<PathBuf>,
    /// Directories with a directory `HOST[:PORT]` for a registry, as docker and podman have them. In such a directory,
    /// `*.crt` are CAs and `*.cert` with `*.key` are client certificates.
    pub cert_dirs: Vec<PathBuf>,
    /// CA certificates (PEM) that count besides those of the system, for every host.
    pub ca_files: Vec<PathBuf>,
    /// Where a blob whose digest is not known yet waits, in a file without a name, until it can be uploaded.
    pub temp_dir: PathBuf,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            plain_http: false,
            auth_files: Vec::new(),
            cert_dirs: Vec::new(),
            ca_files: Vec::new(),
            temp_dir: PathBuf::from(DEFAULT_TEMP_DIR),
        }
    }
}
