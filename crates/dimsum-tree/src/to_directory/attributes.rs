//! Sets owner, xattrs, mode and time of new files, in this order. A change of owner clears set-id bits and
//! capabilities, and an ACL changes the mode.

use std::io;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr,
    futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;

use super::{Owners, output};
use crate::error::{EntryFault, PathName, TreeError, WriteError};
use crate::record::Inode;
use crate::to_tar::{Omission, OmittedEntries};
use crate::tree::Tree;
use crate::types::{FileType, InodeId};

/// Set-user-id and set-group-id.
const SET_IDS: u16 = 0o6000;

/// Knows whose the files become.
pub(super) struct Attributes<'t> {
    pub(super) tree: &'t Tree,
    pub(super) owners: Owners,
    pub(super) left_out: OmittedEntries,
}

impl Attributes<'_> {
    /// Sets those of an open file or directory.
    pub(super) fn of_fd<E>(&mut self, fd: &OwnedFd, id: InodeId, path: &[u8]) -> Result<(), WriteError<E>> {
        let inode = self.tree.inode(id);
        self.owner(&inode, path, |uid, gid| fchown(fd, Some(uid), Some(gid)))?;
        self.xattrs(id, path, |name, value| fsetxattr(fd, name, value, XattrFlags::empty()))?;
        fchmod(fd, self.mode(&inode)).map_err(|error| output(path, error))?;
        futimens(fd, &times(&inode)).map_err(|error| output(path, error))
    }

    /// Sets those of what cannot be opened without effect (links, devices, pipes, sockets).
    pub(super) fn of_name<E>(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        id: InodeId,
        path: &[u8],
    ) -> Result<(), WriteError<E>> {
        let inode = self.tree.inode(id);
        let itself = AtFlags::SYMLINK_NOFOLLOW;
        self.owner(&inode, path, |uid, gid| chownat(directory, name, Some(uid), Some(gid), itself))?;
        // There is no call for this relative to an open directory.
        let through = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
        self.xattrs(id, path, |name, value| lsetxattr(through.as_slice(), name, value, XattrFlags::empty()))?;
        if inode.file_type() != FileType::Symlink {
            // This would follow a link, but the node was made a moment ago where only we can make names.
            chmodat(directory, name, self.mode(&inode), AtFlags::empty()).map_err(|error| output(path, error))?;
        }
        utimensat(directory, name, &times(&inode), itself).map_err(|error| output(path, error))
    }

    fn owner<E>(
        &self,
        inode: &Inode,
        path: &[u8],
        set: impl FnOnce(Uid, Gid) -> Result<(), Errno>,
    ) -> Result<(), WriteError<E>> {
        if self.owners == Owners::Mine {
            return Ok(());
        }
        let (uid, gid) = (inode.uid(), inode.gid());
        match set(Uid::from_raw(uid), Gid::from_raw(gid)) {
            Err(Errno::PERM) => Err(TreeError::entry(path, EntryFault::Owner { uid, gid }).into()),
            done => done.map_err(|error| output(path, error)),
        }
    }

    fn xattrs<E>(
        &mut self,
        id: InodeId,
        path: &[u8],
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), WriteError<E>> {
        for xattr in self.tree.xattrs(id) {
            match set(&xattr.name, &xattr.value) {
                Ok(()) => {}
                Err(Errno::PERM) if self.owners == Owners::Mine => {
                    self.left_out.add(path, Omission::Xattr { name: PathName::from(&*xattr.name) });
                }
                Err(error) => {
                    let error = io::Error::from(error);
                    let text = format!("extended attribute {}: {error}", PathName::from(&*xattr.name));
                    return Err(WriteError::Output { path: path.into(), source: io::Error::new(error.kind(), text) });
                }
            }
        }
        Ok(())
    }

    fn mode(&self, inode: &Inode) -> Mode {
        let dropped = if self.owners == Owners::Mine && !inode.is_directory() { SET_IDS } else { 0 };
        Mode::from_raw_mode((inode.permissions() & !dropped).into())
    }
}

/// The time of the last access is left as it is: a tree has none.
fn times(inode: &Inode) -> Timestamps {
    let mtime = inode.mtime();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}
