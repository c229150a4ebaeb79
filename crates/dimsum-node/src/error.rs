//! What can go wrong in the server and for its clients.

use std::io;
use std::path::PathBuf;

use dimsum_engine::{EngineError, ErrorKind, RegistryFault, RegistryReason};
use dimsum_format::Digest;
use dimsum_mount::DriverKind;
use dimsum_source::causes;
pub(crate) use dimsum_source::with_causes;
use rustix::io::Errno;

use crate::busy::Holder;
use crate::wire::WireFailure;

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
    /// The image cannot be opened or converted.
    #[error(transparent)]
    Engine(#[from] dimsum_engine::EngineError),
    /// A relative path in a reference or among the files of `access`: the server has another working directory.
    #[error("the path {reference} is not absolute")]
    RelativePath {
        /// The reference or the path.
        reference: String,
    },
    /// A platform that is none.
    #[error("{platform} is not a platform")]
    Platform {
        /// The text.
        platform: String,
    },
    /// An ordinary image that is another one each time it was converted.
    #[error("{reference} is another image after each conversion; next: pin it with @sha256:…")]
    KeepsMoving {
        /// The reference.
        reference: String,
    },
    /// There is no such mount (any more).
    #[error("there is no mount {id}")]
    NoMount {
        /// Its number.
        id: u64,
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
    Server(#[from] ServerFailure),
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
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Server(failure) => failure.kind,
            Self::Mount(error) => error.kind(),
            Self::Log(error) => error.kind(),
            Self::System { source, .. } => ErrorKind::of_io(source),
            Self::RelativePath { .. } | Self::Platform { .. } | Self::Target { .. } | Self::Message { .. } => {
                ErrorKind::Invalid
            }
            Self::NoMount { .. } => ErrorKind::NotFound,
            Self::TooLarge { .. } => ErrorKind::Limit,
            Self::TooManyOpens { .. } | Self::Busy { .. } => ErrorKind::Busy,
            Self::Closing | Self::Connection { .. } | Self::KeepsMoving { .. } => ErrorKind::Unavailable,
            Self::ClientGone => ErrorKind::Cancelled,
            Self::NoDriver { .. } | Self::WireVersion { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Internal,
        }
    }

    /// Returns what a client is told of it. `object` is what the request was about.
    pub(crate) fn to_wire(&self, object: &str) -> WireFailure {
        let object = match self {
            Self::Engine(error) => error.object(),
            _ => object.to_owned(),
        };
        let reason = self.registry_reason().map(|reason| reason.name().to_owned());
        WireFailure { kind: self.kind(), object, message: self.to_string(), causes: causes(self), reason }
    }

    /// Returns the reason of a registry, if this is its failure.
    fn registry_reason(&self) -> Option<RegistryReason> {
        match self {
            Self::Engine(EngineError::Source { source, .. }) => source.detail::<RegistryFault>()?.reason(),
            _ => None,
        }
    }

    /// Returns a closure that wraps what the kernel says.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

fn log_lines(log: &[String]) -> String {
    if log.is_empty() { String::new() } else { format!("; the last lines of its log: {}", log.join(" | ")) }
}

fn shown_holders(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return String::new();
    }
    let all: Vec<String> = holders.iter().map(Holder::to_string).collect();
    format!(" by {}", all.join(", "))
}

/// What a server said of a failure: an error like one of this process, with its causes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServerFailure {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What it is about.
    pub object: String,
    /// The registry's reason, if it was a registry's failure about which a user can do something.
    pub reason: Option<RegistryReason>,
    message: String,
    source: Option<ReportedCause>,
}

/// A cause that another process met.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct ReportedCause {
    text: String,
    source: Option<Box<Self>>,
}

impl From<WireFailure> for ServerFailure {
    fn from(failure: WireFailure) -> Self {
        let WireFailure { kind, object, message, causes, reason } = failure;
        let reason = reason.and_then(|name| RegistryReason::from_name(&name));
        let inner_first = causes.into_iter().rev();
        let source = inner_first.fold(None, |source: Option<ReportedCause>, text| {
            Some(ReportedCause { text, source: source.map(Box::new) })
        });
        Self { kind, object, reason, message, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_server_has_its_causes_here() {
        let error = Error::System { action: "open x", source: io::ErrorKind::PermissionDenied.into() };
        let wire = error.to_wire("an image");
        let failure = Error::from(ServerFailure::from(wire));
        assert_eq!(with_causes(&failure), with_causes(&error));
        assert_eq!(failure.kind(), ErrorKind::Denied);
    }

    #[test]
    fn the_reason_of_a_registry_comes_over_the_wire() {
        let source = RegistryFault::UnknownHost { reason: "no such host".into() }.at("registry.test");
        let error = Error::from(EngineError::Source { object: "an image".into(), source: Box::new(source) });
        let failure = ServerFailure::from(error.to_wire("an image"));
        assert_eq!(failure.reason, Some(RegistryReason::UnknownHost));
        assert_eq!(failure.kind, ErrorKind::Unavailable);
    }
}
