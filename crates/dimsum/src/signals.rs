//! Signals to this process as something to ask for, from its first moment on.
//!
//! They are blocked before any thread starts, so none of them can end us half way: a conversion asks between two pieces
//! of work and leaves nothing behind, and `run` passes on to the container what is meant for it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dimsum_run::container::SignalFeed;
use dimsum_sys::signal::{Received, Signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::error::Error;
use dimsum_engine::{CancelReason, EngineError};

/// Signals that are for the container, or for us before there is one.
const TAKEN: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::CONT,
    Signal::CHILD,
];

/// Those of them that ask us to end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// The signals of this process, taken over.
#[derive(Debug, Clone)]
pub struct Interrupts {
    signals: Arc<Signals>,
    /// The signal that asked us to end, for all who ask; held while one of them looks, as the next would wait for a signal that the
    /// first has taken.
    ended: Arc<Mutex<Option<Signal>>>,
}

impl Interrupts {
    /// Takes the signals over. Call it before the first thread is started.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_over() -> Result<Self, Error> {
        let signals = Signals::block(&TAKEN).map_err(|source| Error::io("take over", Path::new("signals"), source))?;
        Ok(Self { signals: Arc::new(signals), ended: Arc::default() })
    }

    /// Returns the signal that asked us to end, if one came, from then on always. Others that came are dropped: there is no container
    /// yet.
    #[must_use]
    pub fn ending(&self) -> Option<Signal> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            *ended = self.look();
        }
        *ended
    }

    fn look(&self) -> Option<Signal> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut fds = [PollFd::new(&*self.signals, PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&now)), Ok(1..)) {
                return None;
            }
            let received = self.signals.next().ok()?;
            if ENDING.contains(&received.signal) {
                return Some(received.signal);
            }
        }
    }

    /// Ends the work with an error if a signal asked for it.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if so.
    pub fn check(&self) -> Result<(), Error> {
        self.ending().map_or(Ok(()), |signal| {
            Err(EngineError::Cancelled { reason: CancelReason::Signal(signal.as_raw()) }.into())
        })
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> std::io::Result<Received> {
        self.signals.next()
    }

    /// Waits until a signal asks us to end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait_for_end(&self) -> std::io::Result<Signal> {
        loop {
            let received = self.next()?;
            if ENDING.contains(&received.signal) {
                return Ok(received.signal);
            }
        }
    }
}

impl SignalFeed for Interrupts {
    fn next(&self) -> std::io::Result<Received> {
        self.signals.next()
    }
}
