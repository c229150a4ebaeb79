//! The errors of a log.

use std::io;
use std::path::PathBuf;

use dimsum_source::ErrorKind;

/// An error of the log. Events and counters cannot fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// The log file cannot be used.
    #[error("cannot {action} log {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// The attempted action, as a verb.
        action: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The thread that writes the log cannot be started.
    #[error("cannot start the thread that writes the log")]
    Thread {
        /// The kernel's error.
        source: io::Error,
    },
    /// Somebody writes the traces of this process already.
    #[error("cannot write traces: they are written elsewhere already")]
    Trace,
}

impl EventsError {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Log { source, .. } | Self::Thread { source } => ErrorKind::of_io(source),
            Self::Trace => ErrorKind::Busy,
        }
    }
}
