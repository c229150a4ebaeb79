//! The keeper's place in the store: the lock that makes it the only one, and the socket that clients find.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, chmodat, flock, fstat, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::geteuid;

use crate::Error;

/// Name of the lock file inside the store.
const LOCK: &str = "lock";
/// Name of the socket inside the store.
const SOCKET: &str = "socket";
/// Connections that may wait to be accepted, for example while a server is being started again.
const BACKLOG: i32 = 256;

/// The locked store directory.
#[derive(Debug)]
pub(super) struct KeeperPlace {
    path: PathBuf,
    directory: OwnedFd,
    /// Locked for as long as it is open anywhere.
    lock: File,
}

impl KeeperPlace {
    /// Locks the store. With `wait`, a keeper that is just ending is waited for.
    pub(super) fn take(store: &Path, wait: bool) -> Result<Self, Error> {
        let failed = |name: &str, action| {
            let path = store.join(name);
            move |source: Errno| Error::Store { path, action, source: source.into() }
        };
        let directory = open_store(store)?;
        let owner = fstat(&directory).map_err(failed("", "look at"))?.st_uid;
        let user = geteuid().as_raw();
        if owner != user {
            return Err(Error::StoreOwner { path: store.to_owned(), owner, user });
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = openat(&directory, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(failed(LOCK, "open"))?;
        let operation = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        loop {
            match flock(&lock, operation) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Err(Error::Locked { path: store.to_owned() }),
                Err(error) => return Err(failed(LOCK, "lock")(error)),
            }
        }
        Ok(Self { path: store.to_owned(), directory, lock: lock.into() })
    }

    /// Makes the socket, in the place of one that a keeper left that was killed.
    pub(super) fn listen(&self) -> Result<OwnedFd, Error> {
        let failed = |action| {
            let path = self.path.join(SOCKET);
            move |source: Errno| Error::Store { path, action, source: source.into() }
        };
        match unlinkat(&self.directory, SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("remove")(error)),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed("make"))?;
        bind(&socket, &address(&self.directory).map_err(failed("name"))?).map_err(failed("make"))?;
        // Nobody can connect before `listen`.
        chmodat(&self.directory, SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty()).map_err(failed("protect"))?;
        listen(&socket, BACKLOG).map_err(failed("listen on"))?;
        Ok(socket)
    }

    /// Returns the lock, to be inherited by the server.
    pub(super) fn lock(&self) -> &File {
        &self.lock
    }

    /// Takes the socket away, so that a client starts a new keeper instead of waiting for this one.
    pub(super) fn leave(&self) {
        // If it is gone already, somebody was tidy.
        let _ = unlinkat(&self.directory, SOCKET, AtFlags::empty());
    }
}

/// Connects to the socket of a store.
///
/// # Errors
/// `ENOENT` or `ECONNREFUSED` if no keeper is there, else what the kernel says.
pub fn connect_to(store: &Path) -> Result<OwnedFd, Error> {
    let failed = |action| {
        let path = store.join(SOCKET);
        move |source: Errno| Error::Store { path, action, source: source.into() }
    };
    let directory = open_store(store)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(failed("make a socket for"))?;
    connect(&socket, &address(&directory).map_err(failed("name"))?).map_err(failed("connect to"))?;
    Ok(socket)
}

fn open_store(store: &Path) -> Result<OwnedFd, Error> {
    open(store, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|source| Error::Store {
        path: store.to_owned(),
        action: "open",
        source: source.into(),
    })
}

/// Returns the address of the socket by way of the open directory: a socket's path has room for 107 bytes only.
fn address(directory: impl AsFd) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_fd().as_raw_fd()))
}
