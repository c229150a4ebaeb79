//! Progress on standard error: bars on a terminal, else one line per phase, nothing beside JSON.

use std::io::{self, IsTerminal, Write};

use dimsum_engine::ProgressPhase;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::options::Format;
use dimsum_engine::text::Tame;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not at all.
    Silent,
    /// One line per phase.
    Lines,
    /// Bars.
    Bars,
}

impl Progress {
    /// Looks at standard error.
    #[must_use]
    pub fn new(format: Format) -> Self {
        match (format, io::stderr().is_terminal()) {
            (_, true) => Self::Bars,
            (Format::Text, false) => Self::Lines,
            (Format::Json, false) => Self::Silent,
        }
    }

    /// Starts a phase of `total` bytes, if that is known.
    #[must_use]
    pub fn phase(self, what: &str, total: Option<u64>) -> Phase {
        match self {
            Self::Silent => Phase { bar: None },
            Self::Lines => {
                note(what);
                Phase { bar: None }
            }
            Self::Bars => Phase { bar: Some(bar(what, total)) },
        }
    }
}

/// Shows what the engine says.
#[derive(Debug, Clone, Copy)]
pub struct Narrator {
    /// How phases are shown.
    pub progress: Progress,
    /// Whether decisions are explained.
    pub verbose: bool,
}

impl dimsum_engine::Progress for Narrator {
    fn phase(&self, what: &str, total: Option<u64>) -> Box<dyn ProgressPhase> {
        Box::new(self.progress.phase(what, total))
    }

    fn note(&self, line: &str) {
        note(line);
    }

    fn explain(&self, line: &str) {
        if self.verbose {
            note(line);
        }
    }
}

impl ProgressPhase for Phase {
    fn set(&self, done: u64) {
        Self::set(self, done);
    }
}

/// Phases under way at the same time, one bar below the other.
#[derive(Debug)]
pub struct Group {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Starts a group of phases.
    #[must_use]
    pub fn group(self) -> Group {
        Group { bars: (self == Self::Bars).then(MultiProgress::new) }
    }
}

impl Group {
    /// Starts a phase in the group.
    #[must_use]
    pub fn phase(&self, what: &str, total: Option<u64>) -> Phase {
        Phase { bar: self.bars.as_ref().map(|bars| bars.add(bar(what, total))) }
    }

    /// Writes a line above the bars.
    pub fn line(&self, line: &str) {
        match &self.bars {
            // Not shown is not worse than a line that nobody reads.
            Some(bars) => drop(bars.println(format!("dimsum: {}", Tame(line)))),
            None => note(line),
        }
    }
}

/// Writes one line to standard error. That nobody reads it is no reason to fail.
pub fn note(line: &str) {
    let _unread = writeln!(io::stderr(), "dimsum: {}", Tame(line));
}

fn bar(what: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}")
        }
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}"),
    };
    // A template of ours parses; if not, the default bar will do.
    let bar = match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    bar.set_message(Tame(what).to_string());
    bar
}

/// A phase under way. It vanishes when dropped.
#[derive(Debug)]
pub struct Phase {
    bar: Option<ProgressBar>,
}

impl Phase {
    /// Says how many bytes are done.
    pub fn set(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
