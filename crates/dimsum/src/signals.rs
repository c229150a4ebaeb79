//! Signals to this process as something to ask for, from its first moment on.
//!
//! They are blocked before any thread starts, so none of them can end us half way. A conversion asks between two pieces
//! of work and leaves nothing behind. `run` passes signals for the container on to it.

use std::path::Path;

use dimsum_engine::container::ProcessSignals;
use dimsum_engine::container::Received;
use rustix::process::Signal;

use crate::error::Error;
use dimsum_engine::{CancelReason, EngineError};

/// The signals of this process, taken over.
#[derive(Debug, Clone)]
pub struct Interrupts(ProcessSignals);

impl Interrupts {
    /// Takes the signals over. Call it before the first thread is started.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_over() -> Result<Self, Error> {
        let signals = ProcessSignals::take_over();
        signals.map(Self).map_err(|source| Error::io("take over", Path::new("signals"), source))
    }

    /// Ends the work with an error if a signal asked for it.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`] if so.
    pub fn check(&self) -> Result<(), Error> {
        self.ending().map_or(Ok(()), |signal| {
            Err(EngineError::Cancelled { reason: CancelReason::Signal(signal.as_raw()) }.into())
        })
    }

    /// Returns the signal that asked us to end, if one came, from then on always. Others that came are dropped: there is no container
    /// yet.
    #[must_use]
    pub fn ending(&self) -> Option<Signal> {
        self.0.ending()
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> std::io::Result<Received> {
        self.0.next()
    }

    /// Waits until a signal asks us to end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait_for_end(&self) -> std::io::Result<Signal> {
        self.0.wait_for_end()
    }

    /// Returns the signals as a container gets them.
    #[must_use]
    pub const fn feed(&self) -> &ProcessSignals {
        &self.0
    }
}
