//! Signals for a container: those that reach this process, or those that a program sends by itself.
//!
//! A program that is the container's front takes its own signals over ([`ProcessSignals`]) and everything that reaches
//! it reaches the container. A program that is more than that keeps its signals and makes a [`channel`].

use std::fmt::Debug;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use dimsum_sys::signal::{Received, Signals};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

/// Signals that are for the container, or for this process before there is one.
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

/// Those of them that ask to end.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Where the signals for a container come from. Its descriptor is readable when [`SignalFeed::next`] would not wait.
pub trait SignalFeed: AsFd + Debug + Sync {
    /// Waits for the next signal and takes it; none if no more will come.
    ///
    /// # Errors
    /// What the kernel says.
    fn next(&self) -> io::Result<Option<Received>>;

    /// Returns the signal that asked to end before there was a container, if one came. It is asked right before the
    /// start; other signals may be dropped then.
    fn ending(&self) -> Option<Signal>;
}

/// The signals of this process, taken over.
///
/// They are blocked, so none of them can end the process half way. Work before the container asks [`Self::ending`].
#[derive(Debug, Clone)]
pub struct ProcessSignals {
    signals: Arc<Signals>,
    /// The signal that asked to end, for all who ask. The lock is held while one of them looks: the next one would
    /// wait for a signal that the first has taken.
    ended: Arc<Mutex<Option<Signal>>>,
}

impl ProcessSignals {
    /// Takes the signals over. Call it before the first thread is started.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_over() -> io::Result<Self> {
        Ok(Self { signals: Arc::new(Signals::block(&TAKEN)?), ended: Arc::default() })
    }

    /// Returns the signal that asked to end, if one came, from then on always. Others that came are dropped.
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

    /// Waits for the next signal.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&self) -> io::Result<Received> {
        self.signals.next()
    }

    /// Waits until a signal asks to end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait_for_end(&self) -> io::Result<Signal> {
        loop {
            let received = self.next()?;
            if ENDING.contains(&received.signal) {
                return Ok(received.signal);
            }
        }
    }
}

impl AsFd for ProcessSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl SignalFeed for ProcessSignals {
    fn next(&self) -> io::Result<Option<Received>> {
        self.signals.next().map(Some)
    }

    fn ending(&self) -> Option<Signal> {
        self.ending()
    }
}

/// Makes a way to send signals to a container from elsewhere in this process.
///
/// # Errors
/// What the kernel says.
pub fn channel() -> io::Result<(SignalSender, SignalReceiver)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((SignalSender(writer.into()), SignalReceiver(reader.into())))
}

/// Sends signals to a container. Dropped, no more will come; the container goes on.
#[derive(Debug)]
pub struct SignalSender(io::PipeWriter);

impl SignalSender {
    /// Sends one. `TERM` arrives as the image's stop signal. One that is sent before the container starts and asks to
    /// end keeps it from starting.
    ///
    /// # Errors
    /// If the container's run is over, or thousands of signals wait.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        // Four bytes are written at once or not at all.
        (&self.0).write_all(&signal.as_raw().to_ne_bytes())
    }
}

/// The other end of a [`SignalSender`].
#[derive(Debug)]
pub struct SignalReceiver(io::PipeReader);

impl AsFd for SignalReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl SignalFeed for SignalReceiver {
    fn next(&self) -> io::Result<Option<Received>> {
        let mut number = [0; size_of::<i32>()];
        match (&self.0).read_exact(&mut number) {
            Ok(()) => {
                let signal = Signal::from_named_raw(i32::from_ne_bytes(number)).ok_or(io::ErrorKind::InvalidData)?;
                Ok(Some(Received { signal, pid: std::process::id() }))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ending(&self) -> Option<Signal> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&now)), Ok(1..)) {
                return None;
            }
            let received = self.next().ok()??;
            if ENDING.contains(&received.signal) {
                return Some(received.signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sent_signal_arrives_and_the_end_of_the_sender_is_seen() {
        let (sender, receiver) = channel().unwrap();
        sender.send(Signal::USR1).unwrap();
        sender.send(Signal::WINCH).unwrap();
        assert_eq!(receiver.next().unwrap().unwrap().signal, Signal::USR1);
        assert_eq!(receiver.next().unwrap().unwrap().signal, Signal::WINCH);
        drop(sender);
        assert_eq!(receiver.next().unwrap(), None);
    }

    #[test]
    fn only_signals_that_ask_to_end_keep_a_container_from_starting() {
        let (sender, receiver) = channel().unwrap();
        assert_eq!(receiver.ending(), None);
        sender.send(Signal::USR1).unwrap();
        assert_eq!(receiver.ending(), None);
        sender.send(Signal::USR1).unwrap();
        sender.send(Signal::INT).unwrap();
        assert_eq!(receiver.ending(), Some(Signal::INT));
    }
}
