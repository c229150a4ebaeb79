//! A mount that a client got from the server, on its way to a directory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dimsum_fuse::mount::attach;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, statat};

use crate::{Error, MountedImage};

/// A mount whose first lookup worked, and which has no place yet.
///
/// Dropped without being attached, it is unmounted.
#[derive(Debug)]
pub struct MountHandle {
    id: u64,
    mount: OwnedFd,
    store: PathBuf,
    image: MountedImage,
    /// When its server had answered.
    answered: Instant,
}

impl MountHandle {
    pub(crate) fn new(id: u64, mount: OwnedFd, store: PathBuf, image: MountedImage) -> Self {
        Self { id, mount, store, image, answered: Instant::now() }
    }

    /// Returns the time since its image was open: making the mount, and what this process did since.
    #[must_use]
    pub fn since_open(&self) -> Duration {
        self.answered.elapsed().saturating_add(Duration::from_micros(self.image.mount_micros))
    }

    /// Returns its image.
    #[must_use]
    pub const fn image(&self) -> &MountedImage {
        &self.image
    }

    /// Returns its number in the server.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Attaches it to a directory in the mount namespace of the caller.
    ///
    /// # Errors
    /// [`Error::Target`] if it is no directory or holds the store, [`Error::Fuse`] if the kernel refuses.
    pub fn attach(&self, target: &Path) -> Result<(), Error> {
        let refuse = |reason| Error::Target { path: target.to_owned(), reason };
        let place = target.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => refuse("there is no such directory"),
            _ if is_dead(&source) => refuse("is a mount without a server; take it away with `dimsum umount`"),
            _ => Error::System { action: "find the directory to mount on", source },
        })?;
        match place.metadata() {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if is_dead(&error) => {
                return Err(refuse("is a mount without a server; take it away with `dimsum umount`"));
            }
            _ => return Err(refuse("is not a directory")),
        }
        if self.store.starts_with(&place) {
            return Err(refuse("holds the store, which would be hidden"));
        }
        Ok(attach(&self.mount, &place)?)
    }

    /// Opens the root directory of the mount, attached or not.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_root(&self) -> io::Result<File> {
        Ok(openat(&self.mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Reads what every user of the mount needs first: the root, its names, and one of them.
    pub(crate) fn first_lookup(&self) -> io::Result<()> {
        let root = self.open_root()?;
        for entry in Dir::read_from(&root)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                statat(&root, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
                break;
            }
        }
        Ok(())
    }
}

/// Says whether a mount answers so whose server and keeper have ended.
fn is_dead(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

/// The mount itself, for example as the lower layer of an overlay.
impl AsFd for MountHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}
