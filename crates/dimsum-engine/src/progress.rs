//! What the engine says while it works, and to whom.

use std::fmt::Debug;

/// Hears how work goes on. An implementation shows it, or writes it to a log. It must not block for long, since the
/// threads that do the work call it.
pub trait Progress: Debug + Send + Sync {
    /// A phase begins: `what` in words, and the bytes it will process if that is known. It ends when the returned
    /// value is dropped. Phases may overlap.
    fn phase(&self, what: &str, total: Option<u64>) -> Box<dyn ProgressPhase>;

    /// Says something that the user should know although the work goes on.
    fn note(&self, line: &str);

    /// Explains a decision to a user who asked for explanations.
    fn explain(&self, line: &str);
}

/// A phase under way.
pub trait ProgressPhase: Debug + Send + Sync {
    /// Says how many bytes are done.
    fn set(&self, done: u64);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quiet;

impl Progress for Quiet {
    fn phase(&self, _what: &str, _total: Option<u64>) -> Box<dyn ProgressPhase> {
        Box::new(Self)
    }

    fn note(&self, _line: &str) {}

    fn explain(&self, _line: &str) {}
}

impl ProgressPhase for Quiet {
    fn set(&self, _done: u64) {}
}
