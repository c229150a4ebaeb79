//! Traces: records of what happens to one read, one mount or one command on its way through threads and processes.
//!
//! ```text
//! crates ──► tracing: spans with ids, records ──► TraceLog ──► one line, with the ids of all spans around it ──► TraceWriter
//! ```
//!
//! Libraries make spans and records with the macros of `tracing`; they never install anything. A program installs a
//! [`TraceLog`], which writes lines of the form of [`crate::log`]. `docs/design/0010-tracing.md` has the names of spans and
//! fields, and the rules.

mod fields;
mod level;
mod log;

use std::io::{self, Write};

use crate::EventsError;
use crate::log::LogFormat;
use crate::{LogHandle, log::LogFile};

pub use self::level::{LogLevel, UnknownLevel};
pub use self::log::TraceLog;

/// Takes lines of traces. Called on threads that readers wait for.
pub trait TraceWriter: Send + Sync + 'static {
    /// Takes one line, with its end. It may be lost.
    fn write(&self, line: String);
}

impl TraceWriter for LogHandle {
    fn write(&self, line: String) {
        self.raw(line.into_bytes());
    }
}

/// Writes on the caller's thread, as [`LogFile`] says.
impl TraceWriter for LogFile {
    fn write(&self, line: String) {
        drop(self.append(line.as_bytes()));
    }
}

/// Standard error, for commands.
#[derive(Debug, Clone, Copy)]
pub struct StandardError;

impl TraceWriter for StandardError {
    fn write(&self, line: String) {
        // That nobody reads it is no reason to fail.
        drop(io::stderr().write_all(line.as_bytes()));
    }
}

/// Writes the traces of this process from now on. For programs only, once: a library has no right to decide it.
///
/// # Errors
/// [`EventsError::Trace`] if traces of this process are written already.
pub fn install(
    level: LogLevel,
    format: LogFormat,
    process: &'static str,
    writer: impl TraceWriter,
) -> Result<(), EventsError> {
    let log = TraceLog::new(level, format, process, writer);
    tracing::subscriber::set_global_default(log).map_err(|_| EventsError::Trace)
}
