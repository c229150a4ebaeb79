//! What keeps a container from starting.

use std::io;
use std::path::{Path, PathBuf};

use dimsum_source::ErrorKind;

/// A container that could not be started or waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Neither the image nor the user names a command.
    #[error("the image names no command and none was given")]
    NoCommand,
    /// A name that the image's account files do not have.
    #[error("the image has no {what} {name:?} in {file}")]
    NoAccount {
        /// User or group.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it should be.
        file: &'static str,
    },
    /// The image's config does not describe a process.
    #[error("cannot read the config of the image")]
    Config {
        /// The parser's word.
        source: serde_json::Error,
    },
    /// A text that cannot stand in the runtime's configuration.
    #[error("{what} is not UTF-8: {text:?}")]
    NotUtf8 {
        /// Which.
        what: &'static str,
        /// The text.
        text: std::ffi::OsString,
    },
    /// An account file above the limit.
    #[error("{file} of the image is larger than {limit} bytes")]
    AccountFile {
        /// The file.
        file: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Not enough rights to start a container.
    #[error("cannot make the mounts of a container")]
    Privileges {
        /// What the kernel says.
        source: io::Error,
    },
    /// A mount that the kernel refuses.
    #[error("cannot mount {what} on {path}")]
    Mount {
        /// What was to be mounted.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The runtime is not there.
    #[error("cannot start the container runtime {program:?}")]
    Runtime {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A signal asked to end before the container was started.
    #[error("{}", dimsum_sys::signal::interruption(*signal))]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// The operating system's word.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl RunError {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCommand | Self::NoAccount { .. } | Self::NotUtf8 { .. } => ErrorKind::Invalid,
            Self::Config { .. } => ErrorKind::Malformed,
            Self::AccountFile { .. } => ErrorKind::Limit,
            Self::Privileges { .. } => ErrorKind::Denied,
            Self::Interrupted { .. } => ErrorKind::Cancelled,
            Self::Mount { source, .. } | Self::Runtime { source, .. } | Self::Io { source, .. } => {
                ErrorKind::of_io(source)
            }
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}
