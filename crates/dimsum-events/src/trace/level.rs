//! How much is written.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

use crate::EventSeverity;

/// The least important records that are still written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// Things that were wrong and have been mended, too.
    Warn,
    /// Starts, ends and take-overs, too.
    #[default]
    Info,
    /// The way of each read that waits, too.
    Debug,
    /// Reads that are answered at once, too.
    Trace,
}

/// A text that names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a level is one of error, warn, info, debug and trace")]
pub struct UnknownLevel;

impl LogLevel {
    /// All levels, the most important first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Says whether an event of this severity is written.
    #[must_use]
    pub const fn shows(self, severity: EventSeverity) -> bool {
        match severity {
            EventSeverity::Error | EventSeverity::Critical => true,
            EventSeverity::Warning => !matches!(self, Self::Error),
            EventSeverity::Info => !matches!(self, Self::Error | Self::Warn),
        }
    }

    pub(super) const fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or(UnknownLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_as_it_is_written() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("verbose".parse::<LogLevel>(), Err(UnknownLevel));
    }

    #[test]
    fn a_level_shows_what_is_at_least_as_important() {
        assert!(LogLevel::Error.shows(EventSeverity::Error) && !LogLevel::Error.shows(EventSeverity::Warning));
        assert!(LogLevel::Warn.shows(EventSeverity::Warning) && !LogLevel::Warn.shows(EventSeverity::Info));
        assert!(LogLevel::Trace.shows(EventSeverity::Info));
    }
}
