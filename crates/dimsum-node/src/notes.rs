//! Who hears the engine of a server: the client of a request, or the log.

use dimsum_engine::{Progress, ProgressPhase, Quiet};
use dimsum_events::LogHandle;
use parking_lot::Mutex;

use crate::wire::{WireNote, add_note};

/// Collects notes for the answer to a client.
#[derive(Debug, Default)]
pub(crate) struct CallerNotes(Mutex<Vec<WireNote>>);

impl CallerNotes {
    /// Returns what was collected, and forgets it.
    pub(crate) fn take(&self) -> Vec<WireNote> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Progress for CallerNotes {
    fn phase(&self, _what: &str, _total: Option<u64>) -> Box<dyn ProgressPhase> {
        Box::new(Quiet)
    }

    fn note(&self, line: &str) {
        add_note(&mut self.0.lock(), line, false);
    }

    fn explain(&self, line: &str) {
        add_note(&mut self.0.lock(), line, true);
    }
}

/// Writes notes into the log, where no client waits.
#[derive(Debug)]
pub(crate) struct LogNotes(pub(crate) LogHandle);

impl Progress for LogNotes {
    fn phase(&self, _what: &str, _total: Option<u64>) -> Box<dyn ProgressPhase> {
        Box::new(Quiet)
    }

    fn note(&self, line: &str) {
        self.0.line(line);
    }

    fn explain(&self, line: &str) {
        self.0.line(line);
    }
}

/// Gives the notes of an answer to somebody of this process.
pub(crate) fn pass_on(notes: &[WireNote], to: &dyn Progress) {
    for note in notes {
        if note.is_explanation { to.explain(&note.text) } else { to.note(&note.text) }
    }
}
