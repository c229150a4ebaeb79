//! What clients and the server say to each other: one request and one answer per connection, as JSON with a length in
//! front; a mount comes with its descriptor.
//!
//! One request per connection makes a client indifferent to restarts: what got no answer is asked again on a new
//! connection, and nothing has to be told again. A request for a mount may be repeated, too: the mount of an answer that
//! did not arrive has lost its only descriptor and is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dimsum_events::{DriverStats, ImageStats, SessionStats};
use dimsum_format::Digest;
use dimsum_mount::DriverKind;
use dimsum_mount::passing::{receive, send};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, Origin};

/// The most bytes of a request. It becomes the keeper's record of the mount, which has the same limit.
pub(crate) const MAX_REQUEST: usize = dimsum_mount::keeper::MAX_RECORD;

/// The most bytes of an answer: a list of all mounts that a keeper can hold, a KiB each.
pub(crate) const MAX_RESPONSE: usize = 4 << 20;

/// Bytes of the length in front.
const HEAD: usize = 4;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Make a mount of an image. Answered by `Mounted` with the mount's descriptor.
    Mount(MountRequest),
    /// List what is mounted.
    List,
    /// Tell of one mount.
    Stats {
        /// Its number.
        id: u64,
    },
    /// Tell of the server.
    Info,
    /// Write what waits for the log, so that the client finds it in the file.
    FlushLog,
    /// Mount nothing more, and end when nothing is mounted.
    Shutdown,
}

/// What to mount and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// The manifest, the root of all trust.
    pub image: Digest,
    /// Where its blobs can come from, in order. May be empty if the store has all.
    #[serde(default)]
    pub origins: Vec<Origin>,
    /// What mount tables show as the source.
    pub source_name: String,
    /// Where the client will attach it; only for lists.
    #[serde(default)]
    pub target: String,
    /// Set-user-id bits and file capabilities take effect.
    #[serde(default)]
    pub suid: bool,
    /// Device nodes can be opened.
    #[serde(default)]
    pub dev: bool,
    /// Fetch the rest of the image behind the readers.
    #[serde(default)]
    pub fill: bool,
    /// What serves it.
    #[serde(default)]
    pub driver: DriverKind,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub(crate) enum Response {
    /// Comes with the descriptor of a mount that is not attached.
    Mounted { id: u64 },
    /// All mounts.
    Mounts { mounts: Vec<MountInfo> },
    /// The server.
    Info(ServerInfo),
    /// What waited is in the log, or the log cannot be written now.
    Flushed,
    /// The server ends when this many mounts are released.
    Closing { mounts: usize },
    /// It could not be done.
    Failed(Failure),
}

/// A mount that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountInfo {
    /// Its number; never used again while its keeper lives.
    pub id: u64,
    /// What was asked for.
    pub request: MountRequest,
    /// Which driver serves it.
    pub driver: DriverKind,
    /// Why every read gets `EIO`, if the image could not be opened again after a restart.
    pub broken: Option<String>,
    /// What became of the fill.
    pub fill: FillStatus,
    /// What was counted since the server started.
    pub stats: MountStats,
}

/// The state of a mount's fill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FillStatus {
    /// Nobody asked for one.
    #[default]
    Off,
    /// It starts when the image can be opened.
    Waiting {
        /// Why the image cannot be opened; empty if it was not tried yet.
        reason: String,
    },
    /// It is under way.
    Running {
        /// Bytes of the image's packs that are here.
        done: u64,
        /// Bytes of all packs.
        total: u64,
    },
    /// It stopped too early, and is taken up again.
    Failed {
        /// Why.
        reason: String,
        /// Seconds until it is taken up again.
        retry_seconds: u64,
    },
    /// Everything is here.
    Done,
}

/// Figures of one mount, since the server started. On the wire the rows of all three tables stand side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStats {
    /// Of the session with the kernel.
    #[serde(flatten)]
    pub session: SessionStats,
    /// Of the driver.
    #[serde(flatten)]
    pub driver: DriverStats,
    /// Of the image.
    #[serde(flatten)]
    pub image: ImageStats,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its store.
    pub store: String,
    /// How many mounts it serves.
    pub mounts: usize,
    /// How many clients wait for their image to be opened.
    pub opening: usize,
    /// Threads that answer the kernel; never more.
    pub fuse_threads: usize,
    /// Seconds since it started.
    pub seconds: u64,
    /// It mounts nothing more.
    pub closing: bool,
    /// The version of the protocol that its keeper speaks.
    pub keeper_version: u16,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened, with its causes.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The request is not one.
    Request,
    /// Bytes do not match the image's root.
    Integrity,
    /// The image, or a part of it, cannot be had.
    Image,
    /// It could not be mounted.
    Mount,
    /// There is no such mount.
    NoMount,
    /// The server mounts nothing more.
    Closing,
    /// The server has too much to do.
    Busy,
}

/// Sends a message, with a descriptor.
pub(crate) fn send_message<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let body = serde_json::to_vec(message).map_err(|source| Error::Message { source })?;
    let length = u32::try_from(body.len()).map_err(|_| Error::TooLarge { length: body.len(), limit: MAX_RESPONSE })?;
    let bytes = [&length.to_le_bytes()[..], &body].concat();
    let mut rest = &bytes[..];
    let mut fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    while !rest.is_empty() {
        let sent = send(socket, rest, &fds).map_err(|source| Error::Connection { action: "send", source })?;
        // They went with the first byte.
        fds.clear();
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Receives a message of at most `limit` bytes, with a descriptor if there is one.
pub(crate) fn receive_message<T: DeserializeOwned>(
    socket: impl AsFd,
    limit: usize,
) -> Result<(T, Option<OwnedFd>), Error> {
    let mut fd = None;
    let head = receive_exact(&socket, HEAD, &mut fd)?;
    let length = head.first_chunk::<HEAD>().map_or(0, |head| u32::from_le_bytes(*head));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Error::TooLarge { length, limit });
    }
    let body = receive_exact(&socket, length, &mut fd)?;
    let message = serde_json::from_slice(&body).map_err(|source| Error::Message { source })?;
    Ok((message, fd))
}

fn receive_exact(socket: impl AsFd, length: usize, fd: &mut Option<OwnedFd>) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let received = receive(&socket, rest).map_err(|source| Error::Connection { action: "receive", source })?;
        if received.length == 0 {
            return Err(Error::Connection { action: "receive", source: Errno::CONNRESET });
        }
        filled += received.length;
        *fd = received.fds.into_iter().next().or_else(|| fd.take());
    }
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    pub(crate) fn mount_request() -> MountRequest {
        MountRequest {
            image: Digest::of(b"image"),
            origins: vec![Origin { reference: "oci:/layout:tag".into(), access: Default::default() }],
            source_name: "app".into(),
            target: "/mnt".into(),
            suid: false,
            dev: true,
            fill: false,
            driver: DriverKind::Fuse,
        }
    }

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let request = Request::Mount(mount_request());
        send_message(here.as_fd(), &request, Some(file.as_fd())).unwrap();
        let (received, fd) = receive_message::<Request>(&there, MAX_REQUEST).unwrap();
        assert_eq!(received, request);
        assert!(fd.is_some());
    }

    #[test]
    fn too_long_cut_off_and_senseless_messages_are_errors() {
        for bytes in [&[0xff; 4][..], &[8, 0, 0, 0, b'{'], &[2, 0, 0, 0, b'{', b'}'], &[1, 0]] {
            let (here, there) = UnixStream::pair().unwrap();
            rustix::io::write(&here, bytes).unwrap();
            drop(here);
            assert!(receive_message::<Request>(&there, MAX_REQUEST).is_err(), "{bytes:?}");
        }
    }
}
