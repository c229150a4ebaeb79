//! Becoming the owner of a file descriptor that the parent process handed over by number.
//!
//! A number in an argument says nothing about who owns the descriptor. The token of ownership is the close-on-exec
//! flag. Our processes set it on every descriptor that they open, so a descriptor without it can only have come over
//! `exec`. Taking it sets the flag, so it can be taken only once.

#![expect(unsafe_code, reason = "an inherited number becomes an owned descriptor")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};

/// The standard streams belong to the standard library and are never taken.
const FIRST_TAKEABLE: RawFd = 3;

/// Makes check and set of the close-on-exec flag one step among the threads of this process.
static TAKING: Mutex<()> = Mutex::new(());

/// Takes ownership of the inherited descriptor `number` and makes it close-on-exec.
///
/// # Errors
/// `EBADF` if the number is a standard stream or is not open. `EBUSY` if the descriptor is close-on-exec: this process
/// opened it, or took it before, so it has an owner.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < FIRST_TAKEABLE {
        return Err(Errno::BADF.into());
    }
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the borrow is used for two fcntl calls only and ends before this function returns. A number that is not
    // open makes the first call fail with EBADF, and nothing else is done with it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed)?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(Errno::BUSY.into());
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: the number is open and was not close-on-exec. So it was inherited by the rule of this module, and has no
    // owner. The lock and the flag set above exclude a second taker.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes a descriptor of this process inheritable over `exec` in the calling process.
///
/// # Errors
/// What `fcntl` says.
pub(crate) fn make_inheritable(fd: impl AsFd) -> rustix::io::Result<()> {
    let fd = fd.as_fd();
    fcntl_setfd(fd, fcntl_getfd(fd)?.difference(FdFlags::CLOEXEC))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn an_inherited_fd_is_taken_once() {
        let file = File::open("/dev/null").unwrap();
        make_inheritable(&file).unwrap();
        let number = file.into_raw_fd();
        let taken = take_inherited(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(fcntl_getfd(&taken).unwrap().contains(FdFlags::CLOEXEC));
        let again = take_inherited(number).unwrap_err();
        assert_eq!(again.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
    }

    #[test]
    fn an_own_fd_is_never_taken() {
        let file = File::open("/dev/null").unwrap();
        let error = take_inherited(file.as_raw_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
    }

    #[test]
    fn standard_streams_and_closed_numbers_are_refused() {
        for number in [-1, 0, 1, 2, 1_000_000] {
            let error = take_inherited(number).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::BADF.raw_os_error()), "{number}");
        }
    }
}
