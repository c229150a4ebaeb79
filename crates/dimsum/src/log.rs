//! Records: how many are written, and where. Only here something is installed that writes them.
//!
//! A command writes to standard error, keeper and server to the log of their store.

use clap::ValueEnum as _;
use dimsum_node::LogHandle;
use dimsum_node::log::{LogFile, LogFormat, LogSettings};
use dimsum_node::trace::{LogLevel, StandardError, TraceWriter, install};

use crate::context::set;
use crate::error::Error;
use crate::options::{Common, Format};

/// What options or environment say of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogWish {
    level: Option<LogLevel>,
    format: Option<Format>,
}

impl LogWish {
    /// Takes the options, and the environment where they say nothing.
    ///
    /// # Errors
    /// If the environment names no level or format.
    pub fn new(common: &Common) -> Result<Self, Error> {
        let level = match common.log_level {
            Some(level) => Some(level),
            None => variable("DIMSUM_LOG", |text| text.parse().ok(), "set it to error, warn, info, debug or trace")?,
        };
        let format = match common.log_format {
            Some(format) => Some(format),
            None => variable("DIMSUM_LOG_FORMAT", |text| Format::from_str(text, false).ok(), "set it to text or json")?,
        };
        Ok(Self { level, format })
    }

    /// Returns the settings of a log whose own level is `level`.
    #[must_use]
    pub fn settings(self, level: LogLevel) -> LogSettings {
        let format = match self.format {
            Some(Format::Json) => LogFormat::Json,
            Some(Format::Text) | None => LogFormat::Text,
        };
        LogSettings { level: self.level.unwrap_or(level), format }
    }

    /// Returns the options that make another of our processes do the same.
    #[must_use]
    pub fn arguments(self) -> Vec<&'static str> {
        let level = self.level.map(|level| ["--log-level", level.name()]);
        let format = self.format.map(|format| match format {
            Format::Text => ["--log-format", "text"],
            Format::Json => ["--log-format", "json"],
        });
        level.into_iter().chain(format).flatten().collect()
    }
}

/// Reads a variable of the environment.
fn variable<T>(name: &str, read: impl Fn(&str) -> Option<T>, hint: &'static str) -> Result<Option<T>, Error> {
    let Some(value) = set(name) else { return Ok(None) };
    let text = value.to_string_lossy();
    read(&text).map(Some).ok_or_else(|| Error::Usage {
        object: name.to_owned(),
        reason: "its value is not known".to_owned(),
        hint,
    })
}

/// Writes records of a command.
pub fn for_command(wish: LogWish) {
    write("dimsum", wish.settings(LogLevel::Warn), StandardError);
}

/// Writes records of the keeper.
pub fn for_keeper(settings: LogSettings, log: LogFile) {
    write("keeper", settings, log);
}

/// Writes records of the server.
pub fn for_server(settings: LogSettings, log: LogHandle) {
    write("server", settings, log);
}

fn write(process: &'static str, settings: LogSettings, writer: impl TraceWriter) {
    // It is the first of this process, so it cannot fail.
    drop(install(settings.level, settings.format, process, writer));
}
