//! What can go wrong in the server and for its clients.

use std::io;
use std::path::PathBuf;

use dimsum_format::Digest;
use dimsum_mount::DriverKind;
use dimsum_mount::fuse::NoTree;
pub(crate) use dimsum_source::with_causes;
use dimsum_store::StoreError;
use rustix::io::Errno;

use crate::busy::Holder;
use crate::wire::{FailureKind, WireFailure};

/// An error of the server or of a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Keeper, mount, lock or log.
    #[error(transparent)]
    Mount(#[from] dimsum_mount::Error),
    /// The log.
    #[error(transparent)]
    Log(#[from] dimsum_events::EventsError),
    /// The FUSE pool or a session.
    #[error(transparent)]
    Fuse(#[from] dimsum_fuse::Error),
    /// The store, or an image in it.
    #[error("{source}{}", skipped_origins(skipped))]
    Store {
        /// What the store says.
        source: Box<StoreError>,
        /// Origins that could not be opened, and why.
        skipped: Vec<String>,
    },
    /// This machine or this program does not have the driver.
    #[error("there is no driver {kind} here")]
    NoDriver {
        /// The driver.
        kind: DriverKind,
    },
    /// As many mounts wait to be opened as may.
    #[error("cannot mount now: {limit} other mounts wait for their images; next: try again later")]
    TooManyOpens {
        /// The limit.
        limit: usize,
    },
    /// The client of a mount hung up before its image was open.
    #[error("the client hung up")]
    ClientGone,
    /// The server ends; nothing more is mounted.
    #[error("the server of this store is being shut down")]
    Closing,
    /// The store or the program would be read through the server itself.
    #[error("{} lies on a mount of ours", path.display())]
    OnOwnMount {
        /// The store or the program.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// Client and server cannot talk.
    #[error("cannot {action} on the connection to the server")]
    Connection {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// A message is not one of the protocol.
    #[error("client and server do not understand each other")]
    Message {
        /// Why.
        source: serde_json::Error,
    },
    /// Client and server are of programs that speak different versions of the protocol.
    #[error(
        "the server speaks version {server} of the protocol, this command version {client}; next: use the program that \
         started the server, or unmount everything, so that a server of this program starts"
    )]
    WireVersion {
        /// The server's version; 0 from before the first.
        server: u32,
        /// The command's version; 0 from before the first.
        client: u32,
    },
    /// A message is too long.
    #[error("a message of {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The server answered something else than was asked.
    #[error("the server gave an answer to another question")]
    WrongAnswer,
    /// No server could be started.
    #[error("cannot start the server of store {}: {reason}{}", store.display(), log_lines(log))]
    NotStarted {
        /// The store.
        store: PathBuf,
        /// What the keeper said, or that it said nothing.
        reason: String,
        /// The last lines of the log.
        log: Vec<String>,
    },
    /// The server could not do it.
    #[error(transparent)]
    Server(#[from] WireFailure),
    /// The mount was made, but its root cannot be read.
    #[error("the file tree of image {image} cannot be read{}", log_lines(log))]
    FirstLookup {
        /// The image.
        image: Digest,
        /// What the first reader got.
        source: io::Error,
        /// The last lines of the log.
        log: Vec<String>,
    },
    /// A directory cannot be mounted on or unmounted.
    #[error("{}: {reason}", path.display())]
    Target {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A mount is in use.
    #[error("{} is in use{}", path.display(), shown_holders(holders))]
    Busy {
        /// The mount.
        path: PathBuf,
        /// Who uses it; not complete where others' processes cannot be looked into.
        holders: Vec<Holder>,
    },
}

impl Error {
    /// Returns whether bytes were found that do not match the image's root.
    #[must_use]
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Store { source, .. } => source.is_integrity(),
            Self::Mount(dimsum_mount::Error::Tree(error)) => matches!(**error, NoTree::Missing { .. }),
            Self::Server(failure) => failure.kind == FailureKind::Integrity,
            _ => false,
        }
    }

    /// Returns the kind that a client is told.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            _ if self.is_integrity() => FailureKind::Integrity,
            Self::Store { .. } | Self::Mount(dimsum_mount::Error::Tree(_)) => FailureKind::Image,
            Self::TooManyOpens { .. } => FailureKind::Busy,
            Self::Closing => FailureKind::Closing,
            Self::WireVersion { .. } => FailureKind::Version,
            Self::Message { .. } | Self::TooLarge { .. } | Self::Connection { .. } => FailureKind::Request,
            _ => FailureKind::Mount,
        }
    }

    /// Returns a closure that wraps what the kernel says.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

fn skipped_origins(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!(" (not usable: {})", skipped.join("; ")) }
}

fn log_lines(log: &[String]) -> String {
    if log.is_empty() { String::new() } else { format!("\nthe last lines of its log:\n  {}", log.join("\n  ")) }
}

fn shown_holders(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let all: Vec<String> = holders.iter().map(Holder::to_string).collect();
    format!(" by {}", all.join(", "))
}
