//! How registries are reached: credentials, certificates, plain HTTP.
//!
//! A library reads no environment: whoever makes an [`Access`] has looked there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings for all registries of a command. Serializable, since a command hands them to the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Talk HTTP without TLS, to every host. To loopback addresses it is tried anyway when TLS is not spoken there.
    pub plain_http: bool,
    /// Files in the form of podman's `auth.json` and docker's `config.json`, the first that knows a registry counts.
    /// Those that do not exist are passed over.
    pub auth_files: Vec<PathBuf>,
    /// Directories with a directory `HOST[:PORT]` for a registry, in which `*.crt` are CAs and `*.cert` with `*.key` are
    /// client certificates, as docker and podman have them.
    pub cert_dirs: Vec<PathBuf>,
    /// CA certificates (PEM) that count besides those of the system, for every host.
    pub ca_files: Vec<PathBuf>,
}
