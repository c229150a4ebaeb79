//! Reads the extended attributes of a file on disk.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::types::Xattr;

/// Linux knows no longer list of names and no longer value than this (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX_ANSWER: usize = 65_536;

/// Most lists and values are far shorter.
const USUAL_ANSWER: usize = 1024;

/// Reads those of an open file.
pub(super) fn of_fd(fd: &OwnedFd) -> Result<Vec<Xattr>, Errno> {
    read(|buffer| flistxattr(fd, buffer), |name, buffer| fgetxattr(fd, name, buffer))
}

/// Reads the xattrs of links, devices, pipes and sockets, which cannot be opened for reading without effect. It goes
/// through the directory's entry in `/proc`: there is no such call relative to an open directory.
pub(super) fn of_name(directory: &OwnedFd, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
    read(|buffer| llistxattr(path.as_slice(), buffer), |name, buffer| lgetxattr(path.as_slice(), name, buffer))
}

fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let names = match answer(list) {
        // A file system without them.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Ok(Xattr { name: name.into(), value: answer(|buffer| get(name, buffer))?.into() })).collect()
}

/// Asks with a small buffer, and once more with the largest that can be needed.
fn answer(ask: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; USUAL_ANSWER];
    let length = match ask(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(MAX_ANSWER, 0);
            ask(&mut buffer)?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}
