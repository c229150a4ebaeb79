//! Opens files that others name or put there: layouts, archives, credentials, certificates.
//!
//! Such a path may lead to a FIFO without a writer: an ordinary `open` waits there for ever, deaf to deadlines. Or it
//! leads to a device without end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading without waiting, whatever it is. Reads of a FIFO without a writer end at once.
///
/// # Errors
/// As the kernel says.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Opens a regular file for reading, or a link to one.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if it is something else, or as the kernel says.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open_without_waiting(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_fifo_is_refused_at_once_and_a_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(open_regular(&fifo).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(open_regular(Path::new("/dev/zero")).unwrap_err().kind(), io::ErrorKind::Unsupported);
        let file = directory.path().join("file");
        std::fs::write(&file, "bytes").unwrap();
        assert_eq!(io::read_to_string(open_regular(&file).unwrap()).unwrap(), "bytes");
    }
}
