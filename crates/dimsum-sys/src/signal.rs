//! Signals as something to read: blocked for delivery, taken from a descriptor.
//!
//! A handler may do almost nothing; a descriptor can be waited for beside sockets and children. Block before the first
//! thread is started: threads inherit the mask. A signal sent to the process goes to any thread that does not block it.

#![expect(unsafe_code, reason = "signal masks and signalfd have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::Signal;

/// Blocked signals and the descriptor they are read from.
///
/// Dropping it closes the descriptor but leaves the signals blocked: a signal for this process must not kill it while
/// it ends.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

/// One signal that was sent to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which signal.
    pub signal: Signal,
    /// Process id of the sender, or of the child that changed state; 0 if the kernel sent it by itself.
    pub pid: u32,
}

impl Signals {
    /// Blocks `signals` for the calling thread (and threads it starts) and opens a descriptor to read them.
    ///
    /// # Errors
    /// What the kernel says; nothing is blocked then.
    pub fn block(signals: &[Signal]) -> io::Result<Self> {
        let set = set_of(signals)?;
        // SAFETY: `set` is an initialised signal set that outlives the call; -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us; no other code knows its number.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        change_mask(libc::SIG_BLOCK, &set)?;
        Ok(Self { fd })
    }

    /// Waits for the next signal and takes it.
    ///
    /// Poll the descriptor ([`AsFd`]) first where several things are waited for; it is readable when this
    /// function would not wait.
    ///
    /// # Errors
    /// What `read` says; an interrupted read is repeated.
    pub fn next(&self) -> io::Result<Received> {
        loop {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
            let size = size_of::<libc::signalfd_siginfo>();
            // SAFETY: the buffer is `size` bytes long and writable for the length of the call.
            let count = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if count < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            if usize::try_from(count) != Ok(size) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // SAFETY: the kernel wrote all `size` bytes, and every bit pattern is a value of this plain struct.
            let info = unsafe { info.assume_init() };
            let number = i32::try_from(info.ssi_signo).map_err(|_| io::ErrorKind::InvalidData)?;
            // Real-time signals have no name and were not asked for.
            let Some(signal) = Signal::from_named_raw(number) else {
                continue;
            };
            return Ok(Received { signal, pid: info.ssi_pid });
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the words for work that a signal ended: `interrupted` for Ctrl-C, else `interrupted by SIGTERM` and the like.
#[must_use]
pub fn interruption(number: i32) -> String {
    let name = match Signal::from_named_raw(number) {
        Some(Signal::INT) => return "interrupted".to_owned(),
        Some(Signal::TERM) => "SIGTERM",
        Some(Signal::HUP) => "SIGHUP",
        Some(Signal::QUIT) => "SIGQUIT",
        _ => return format!("interrupted by signal {number}"),
    };
    format!("interrupted by {name}")
}

/// Unblocks every signal for the calling thread.
///
/// # Errors
/// What the kernel says.
pub fn unblock_all() -> io::Result<()> {
    let set = set_of(&[])?;
    change_mask(libc::SIG_SETMASK, &set)
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised and outlives the call; the old mask is not asked for.
    let error = unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn set_of(signals: &[Signal]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: `set` is initialised; a number that is no signal makes the call fail and changes nothing.
        if unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use rustix::thread::gettid;

    use super::*;

    #[test]
    fn a_blocked_signal_is_read_not_delivered() {
        // In a thread of its own and sent to that thread only: other tests share the process.
        std::thread::spawn(|| {
            let signals = Signals::block(&[Signal::TERM, Signal::WINCH]).unwrap();
            for signal in [Signal::WINCH, Signal::TERM] {
                // SAFETY: tgkill with our own ids sends a signal that this thread blocks.
                let sent = unsafe {
                    libc::syscall(
                        libc::SYS_tgkill,
                        std::process::id(),
                        gettid().as_raw_nonzero().get(),
                        signal.as_raw(),
                    )
                };
                assert_eq!(sent, 0);
                assert_eq!(signals.next().unwrap(), Received { signal, pid: std::process::id() });
            }
        })
        .join()
        .unwrap();
    }
}
