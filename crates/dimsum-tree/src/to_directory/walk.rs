//! Goes through a tree beside the directories on disk that hold it.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::output;
use crate::error::WriteError;
use crate::tree::{Entries, Tree};
use crate::types::InodeId;

/// Directories held open at a time: far below the usual limit of 1,024 files for a process. Those high above
/// are opened again on the way back.
const MAX_OPEN: usize = 64;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is met.
pub(super) enum Visit<'v> {
    /// A name in an open directory, before what is below it. If it is a directory it is opened afterwards.
    Name { directory: &'v OwnedFd, name: &'v [u8], id: InodeId, path: &'v [u8] },
    /// A directory, after all that is below it; the root too.
    Done { directory: &'v OwnedFd, id: InodeId, path: &'v [u8] },
}

struct OpenDirectory<'t> {
    /// None while too many are open.
    fd: Option<OwnedFd>,
    id: InodeId,
    names: Entries<'t>,
    /// Length of the path up to here.
    length: usize,
}

/// Walks in path order.
pub(super) fn walk<E>(
    tree: &Tree,
    root: &OwnedFd,
    mut each: impl FnMut(Visit<'_>) -> Result<(), WriteError<E>>,
) -> Result<(), WriteError<E>> {
    let mut path = Vec::new();
    let mut levels = vec![OpenDirectory { fd: None, id: InodeId::ROOT, names: tree.entries(InodeId::ROOT), length: 0 }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.length);
        let directory = match &mut level.fd {
            Some(fd) => &*fd,
            closed => closed.insert(open_below(root, &path).map_err(|error| output(&path, error))?),
        };
        let Some(entry) = level.names.next() else {
            each(Visit::Done { directory, id: level.id, path: &path })?;
            levels.pop();
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.name);
        each(Visit::Name { directory, name: entry.name, id: entry.inode, path: &path })?;
        if tree.inode(entry.inode).is_directory() {
            let fd = openat(directory, entry.name, DIRECTORY, Mode::empty()).map_err(|error| output(&path, error))?;
            let names = tree.entries(entry.inode);
            levels.push(OpenDirectory { fd: Some(fd), id: entry.inode, names, length: path.len() });
            if let Some(above) = levels.len().checked_sub(MAX_OPEN + 1).and_then(|row| levels.get_mut(row)) {
                above.fd = None;
            }
        }
    }
    Ok(())
}

/// Opens a directory below the root, one name after the other, following no symbolic link.
pub(super) fn open_below(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut directory = openat(root, c".", DIRECTORY, Mode::empty())?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        directory = openat(&directory, name, DIRECTORY, Mode::empty())?;
    }
    Ok(directory)
}
