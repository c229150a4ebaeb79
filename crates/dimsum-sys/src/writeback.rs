//! Asking the kernel to write a part of a file now, without waiting for it.

#![expect(unsafe_code, reason = "a system call that rustix does not have")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Starts to write `length` bytes of a file from `offset` on to its disk, and does not wait. It makes nothing durable: `fsync`
/// does, and has less to do then.
///
/// # Errors
/// What `sync_file_range` says: `EINVAL` for a range that no file has, `ESPIPE` if it is not a file.
pub fn start_writeback(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    let signed = |number: u64| i64::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (offset, length) = (signed(offset)?, signed(length)?);
    // SAFETY: the descriptor is borrowed for the call, and no memory is passed.
    let done = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn it_takes_files_and_refuses_what_is_none() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        start_writeback(&file, 0, 10_000).unwrap();
        start_writeback(&file, 1 << 40, 1).unwrap();
        let (read, _write) = io::pipe().unwrap();
        assert_eq!(start_writeback(&read, 0, 1).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
        assert_eq!(start_writeback(&file, u64::MAX, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
