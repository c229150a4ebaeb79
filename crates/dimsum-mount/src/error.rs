//! What can go wrong around mounts: one enum for keeper, link and driver.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use dimsum_source::ErrorKind;
use rustix::io::Errno;

use crate::fuse::NoTree;

/// An error of the keeper, of the server's link to it, or of a driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the store's own directory (lock, socket, log) cannot be used.
    #[error("cannot {action} {}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The store is somebody else's: who can write to it could lead a server of ours astray.
    #[error("store {} belongs to user {owner}, this is user {user}", path.display())]
    StoreOwner {
        /// The store.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs the keeper.
        user: u32,
    },
    /// Another keeper (or a server whose keeper died) has the store.
    #[error("store {} is served by another process", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// A descriptor that should have been inherited is not there.
    #[error("inherited descriptors {text:?} are not usable")]
    Inherited {
        /// What the argument says.
        text: String,
        /// What the kernel says, if it was asked.
        source: Option<io::Error>,
    },
    /// A system call of the process itself failed.
    #[error("cannot {action}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// Keeper and server cannot talk.
    #[error("cannot {action} on the socket between keeper and server")]
    Link {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// The keeper is gone; what is mounted is served on, but nothing new can be mounted.
    #[error("the keeper of this store has ended")]
    KeeperGone,
    /// A packet between keeper and server is not one.
    #[error("between keeper and server: {reason}")]
    Message {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The keeper was started by a program that is too old for this.
    #[error(
        "the keeper speaks version {version} of its protocol, this needs version {needed}; next: unmount everything, and a new keeper is started"
    )]
    KeeperVersion {
        /// The keeper's version.
        version: u16,
        /// The version that is needed.
        needed: u16,
    },
    /// The keeper could not make a mount.
    #[error("{reason}")]
    Refused {
        /// The keeper's words.
        reason: String,
    },
    /// The server cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The server ends before it answers requests, again and again.
    #[error("the server ended before it was ready ({status}), after {starts} starts")]
    GaveUp {
        /// How the last one ended.
        status: ExitStatus,
        /// How often it was started.
        starts: u32,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] dimsum_events::EventsError),
    /// The image's meta is no file system, or cannot be had.
    #[error(transparent)]
    Tree(#[from] Box<NoTree>),
    /// The mount itself.
    #[error(transparent)]
    Fuse(#[from] dimsum_fuse::Error),
}

impl Error {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } | Self::System { source, .. } | Self::Start { source, .. } => {
                ErrorKind::of_io(source)
            }
            Self::StoreOwner { .. } => ErrorKind::Denied,
            Self::Locked { .. } => ErrorKind::Busy,
            Self::Message { .. } => ErrorKind::Malformed,
            Self::KeeperVersion { .. } => ErrorKind::Unsupported,
            Self::KeeperGone => ErrorKind::Unavailable,
            Self::Log(error) => error.kind(),
            Self::Tree(error) => error.kind(),
            Self::Fuse(dimsum_fuse::Error::Mount { source, .. }) => ErrorKind::of_io(&(*source).into()),
            Self::Fuse(dimsum_fuse::Error::NoResend) => ErrorKind::Unsupported,
            Self::Inherited { .. } | Self::Link { .. } | Self::Refused { .. } | Self::GaveUp { .. } | Self::Fuse(_) => {
                ErrorKind::Internal
            }
        }
    }

    /// Returns a closure that wraps what the kernel says of a call of the process itself.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
