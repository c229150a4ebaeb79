//! The protocol between clients and the server, as `docs/wire.md` describes it. A connection has one request and one
//! answer, each a JSON object with its length in front; a mount comes with its descriptor.
//!
//! Each message has the version of its sender. Another version is refused by name, on both sides, before anything else of
//! the message is looked at. A field that is added keeps the version if its absence has a meaning; unknown fields are ignored.
//!
//! One request per connection makes a client indifferent to restarts. A request that got no answer is asked again on a
//! new connection, and nothing has to be told again. A request for a mount may be repeated, too. The mount of an answer
//! that did not arrive has lost its only descriptor and is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dimsum_engine::{Access, Engine, EngineError, ErrorKind};
use dimsum_events::{DriverStats, ImageStats, SessionStats};
use dimsum_format::Digest;
use dimsum_mount::DriverKind;
use dimsum_mount::passing::{receive, send};
use dimsum_source::platform_text;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most bytes of a request. What the keeper records of a mount is about as long and has the same limit.
pub(crate) const MAX_REQUEST: usize = dimsum_mount::keeper::MAX_RECORD;

/// The most bytes of an answer: the config of an image, of at most 8 MiB, as a JSON string. A list of all mounts that a
/// keeper can hold is shorter.
pub(crate) const MAX_RESPONSE: usize = 32 << 20;

/// Bytes of the length in front.
const HEAD: usize = 4;

/// The version of the protocol that this program speaks. In version 1 the client opened the image and named it by its
/// digest; no release spoke it.
pub const VERSION: u32 = 2;

/// Notes of one answer. An open makes one or two.
const MAX_NOTES: usize = 32;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WireRequest {
    /// Open an image and make a mount of it. Answered by `Mounted` with the mount's descriptor, or by `NeedsConversion`.
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
    /// List the chunks that are on their way.
    Flights,
    /// Write what waits for the log, so that the client finds it in the file.
    FlushLog,
    /// Mount nothing more, and end when nothing is mounted.
    Shutdown,
}

impl WireRequest {
    /// Returns the name of the request.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Mount(_) => "mount",
            Self::List => "list",
            Self::Stats { .. } => "stats",
            Self::Info => "info",
            Self::Flights => "flights",
            Self::FlushLog => "flush-log",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What to mount and how. The server opens the image: one process asks its registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// The image. Paths are absolute: the server has another working directory.
    pub reference: String,
    /// The platform of which the image is wanted, such as `linux/arm64`. Absent: this machine's.
    #[serde(default)]
    pub platform: Option<String>,
    /// Refuses an image that is named by a tag.
    #[serde(default)]
    pub require_digest: bool,
    /// How registries are reached.
    #[serde(default)]
    pub access: Access,
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

impl MountRequest {
    /// Returns the request for an image as a user names it, with the settings of an engine and nothing else asked for.
    ///
    /// # Errors
    /// If the text names no image, by a tag where only digests are allowed, or the engine is for several platforms.
    pub fn new(engine: &Engine, image: &str) -> Result<Self, EngineError> {
        let config = engine.config();
        let platform = match &*config.platforms {
            [] => None,
            _ => Some(platform_text(&engine.platform()?)),
        };
        Ok(Self {
            reference: dimsum_engine::image::parse_named(engine, image)?.to_string(),
            platform,
            require_digest: config.require_digest,
            access: config.access.clone(),
            target: String::new(),
            suid: false,
            dev: false,
            fill: false,
            driver: DriverKind::default(),
        })
    }
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WireResponse {
    /// Comes with the descriptor of a mount that is not attached.
    Mounted {
        /// Its number.
        id: u64,
        /// The image.
        image: MountedImage,
        /// What its user should hear.
        #[serde(default)]
        notes: Vec<WireNote>,
    },
    /// It is an ordinary image. The client converts it into the store, in a process of its own, and asks again.
    NeedsConversion {
        /// Digest of its manifest.
        digest: Digest,
        /// What its user should hear.
        #[serde(default)]
        notes: Vec<WireNote>,
    },
    /// All mounts.
    Mounts {
        /// Each of them.
        mounts: Vec<MountInfo>,
    },
    /// The server.
    Info(ServerInfo),
    /// The chunks that are on their way.
    Flights {
        /// The oldest of them.
        flights: Vec<FlightReport>,
        /// How many there are.
        total: usize,
    },
    /// What waited is in the log, or the log cannot be written now.
    Flushed,
    /// The server ends when this many mounts are released.
    Closing {
        /// How many are left.
        mounts: usize,
    },
    /// It could not be done.
    Failed(WireFailure),
}

/// The image of a mount, as the server opened it. All of it is proven from its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedImage {
    /// Digest of the Dimsum manifest.
    pub digest: Digest,
    /// The ordinary image that it was converted from on this node.
    #[serde(default)]
    pub converted_from: Option<Digest>,
    /// The config, a JSON document.
    pub config: String,
    /// Bytes of its packs and its meta, as they are stored.
    pub stored_bytes: u64,
    /// Which driver serves it.
    pub driver: DriverKind,
    /// Microseconds from the open image to its mount.
    pub mount_micros: u64,
}

/// A line for the user of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireNote {
    /// Whether only users want it who asked for explanations.
    #[serde(default)]
    pub is_explanation: bool,
    /// The line.
    pub text: String,
}

/// A mount that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountInfo {
    /// Its number; never used again while its keeper lives.
    pub id: u64,
    /// Digest of its image's manifest.
    pub image: Digest,
    /// Name of its image, as mount tables show it.
    pub reference: String,
    /// Where its client wanted to attach it.
    pub target: String,
    /// Set-user-id bits and file capabilities take effect.
    pub suid: bool,
    /// Device nodes can be opened.
    pub dev: bool,
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

/// A missing chunk of one image on its way to the readers that wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightReport {
    /// Its number, as records of the log have it.
    pub flight: u64,
    /// The image that is read.
    pub image: Digest,
    /// The chunk, or the frame of the meta: `chunk:DEVICE/N` or `meta:ROOT/N`.
    pub object: String,
    /// The step that it waits for.
    pub state: FlightState,
    /// The source that was asked last.
    pub source: Option<String>,
    /// How often a source was asked.
    pub attempts: u32,
    /// Parts of reads that wait for it.
    pub waiters: usize,
    /// Seconds since the chunk was found missing.
    pub seconds: u64,
}

/// The step that a flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FlightState {
    /// Another image's flight of the same chunk.
    Another,
    /// This disk: its frame, or another device that has the chunk.
    Disk,
    /// An answer that is coming in already.
    Arriving,
    /// A slot for a request.
    Queued,
    /// A source, or the decoding of its answer.
    Source,
    /// Its bytes to be written; no reader waits for that.
    Writing,
    /// Another image's flight, after its own source failed.
    Failed,
    /// A step that this version does not know.
    #[serde(other)]
    Unknown,
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
    /// Whether it is the one process that writes files of the store in place; else another one is.
    #[serde(default)]
    pub is_owner: bool,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireFailure {
    /// What kind of failure; a name that is not known here counts as [`ErrorKind::Internal`].
    #[serde(with = "kind_name")]
    pub kind: ErrorKind,
    /// What it is about: an image, a directory, the server.
    pub object: String,
    /// What happened.
    pub message: String,
    /// Why, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// Name of the registry's reason ([`RegistryReason`](dimsum_engine::RegistryReason)), if it was a registry's failure
    /// about which a user can do something.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Kinds of failure are names on the wire.
mod kind_name {
    use super::{Deserialize, ErrorKind};

    pub(super) fn serialize<S: serde::Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.name())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ErrorKind, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok(ErrorKind::from_name(&name).unwrap_or(ErrorKind::Internal))
    }
}

/// Adds a note to those of an answer, unless there are too many.
pub(crate) fn add_note(notes: &mut Vec<WireNote>, text: &str, is_explanation: bool) {
    if notes.len() < MAX_NOTES {
        notes.push(WireNote { is_explanation, text: text.to_owned() });
    }
}

/// A message as it is sent: with the version of its sender.
#[derive(Serialize)]
struct Versioned<'a, T> {
    protocol: u32,
    #[serde(flatten)]
    message: &'a T,
}

/// As much of a message as every version has. Programs from before the first version say none.
#[derive(Deserialize)]
struct SenderVersion {
    #[serde(default)]
    protocol: u32,
}

/// One of the two kinds of messages; says which side sends it.
pub(crate) trait WireMessage: Serialize + DeserializeOwned {
    /// Returns the error for a message of another version.
    fn other_version(theirs: u32) -> Error;
}

impl WireMessage for WireRequest {
    fn other_version(theirs: u32) -> Error {
        Error::WireVersion { server: VERSION, client: theirs }
    }
}

impl WireMessage for WireResponse {
    fn other_version(theirs: u32) -> Error {
        Error::WireVersion { server: theirs, client: VERSION }
    }
}

/// Writes a message without its length.
pub(crate) fn encode<T: WireMessage>(message: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(&Versioned { protocol: VERSION, message }).map_err(|source| Error::Message { source })
}

/// Reads a message without its length.
pub(crate) fn decode<T: WireMessage>(body: &[u8]) -> Result<T, Error> {
    let sender: SenderVersion = serde_json::from_slice(body).map_err(|source| Error::Message { source })?;
    if sender.protocol != VERSION {
        return Err(T::other_version(sender.protocol));
    }
    serde_json::from_slice(body).map_err(|source| Error::Message { source })
}

/// Reads the body of a request and writes it again; nothing if it is none. For fuzzing alone.
#[doc(hidden)]
#[must_use]
pub fn request_again(body: &[u8]) -> Option<(WireRequest, Vec<u8>)> {
    again(body)
}

/// Reads the body of an answer and writes it again; nothing if it is none. For fuzzing alone.
#[doc(hidden)]
#[must_use]
pub fn response_again(body: &[u8]) -> Option<(WireResponse, Vec<u8>)> {
    again(body)
}

fn again<T: WireMessage>(body: &[u8]) -> Option<(T, Vec<u8>)> {
    let message: T = decode(body).ok()?;
    let bytes = encode(&message).ok()?;
    Some((message, bytes))
}

/// Sends a message, with a descriptor.
pub(crate) fn send_message<T: WireMessage>(
    socket: BorrowedFd<'_>,
    message: &T,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let body = encode(message)?;
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
pub(crate) fn receive_message<T: WireMessage>(socket: impl AsFd, limit: usize) -> Result<(T, Option<OwnedFd>), Error> {
    let mut fd = None;
    let head = receive_exact(&socket, HEAD, &mut fd)?;
    let length = head.first_chunk::<HEAD>().map_or(0, |head| u32::from_le_bytes(*head));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Error::TooLarge { length, limit });
    }
    let body = receive_exact(&socket, length, &mut fd)?;
    Ok((decode(&body)?, fd))
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
    use std::path::PathBuf;

    use super::*;

    pub(crate) fn mount_request() -> MountRequest {
        let access = Access { auth_files: vec!["/root/auth.json".into()], ..Access::default() };
        MountRequest {
            reference: "docker://registry.test/app:1".into(),
            platform: Some("linux/arm64".into()),
            require_digest: false,
            access,
            target: "/mnt".into(),
            suid: false,
            dev: true,
            fill: true,
            driver: DriverKind::Fuse,
        }
    }

    fn mounted_image() -> MountedImage {
        MountedImage {
            digest: Digest::new([0xab; 32]),
            converted_from: Some(Digest::new([0xcd; 32])),
            config: r#"{"config":{}}"#.into(),
            stored_bytes: 63_500_000,
            driver: DriverKind::Fuse,
            mount_micros: 1500,
        }
    }

    fn notes() -> Vec<WireNote> {
        let mut notes = Vec::new();
        add_note(&mut notes, "registry.test/app:1: using the image that this node has", false);
        notes
    }

    fn mount_info() -> MountInfo {
        let mut stats = MountStats::default();
        stats.session.parked = 2;
        stats.driver.bytes_read = 4096;
        stats.image.damage = 1;
        MountInfo {
            id: 7,
            image: Digest::new([0xab; 32]),
            reference: "docker://registry.test/app:1".into(),
            target: "/mnt".into(),
            suid: false,
            dev: true,
            driver: DriverKind::Fuse,
            broken: Some("the registry is gone".into()),
            fill: FillStatus::Failed { reason: "no space left".into(), retry_seconds: 30 },
            stats,
        }
    }

    fn server_info() -> ServerInfo {
        ServerInfo {
            pid: 4711,
            version: "0.1.0".into(),
            store: "/var/lib/dimsum".into(),
            mounts: 1,
            opening: 3,
            fuse_threads: 2,
            seconds: 60,
            closing: false,
            keeper_version: 2,
            is_owner: true,
        }
    }

    fn flight_report() -> FlightReport {
        FlightReport {
            flight: 12,
            image: Digest::new([0xab; 32]),
            object: "chunk:blake3:cd/5".into(),
            state: FlightState::Source,
            source: Some("registry.test/app:1".into()),
            attempts: 2,
            waiters: 3,
            seconds: 7,
        }
    }

    fn failure() -> WireFailure {
        WireFailure {
            kind: ErrorKind::Unavailable,
            object: "docker://registry.test/app:1".into(),
            message: "cannot read the image".into(),
            causes: vec!["registry.test: manifest: cannot connect".into()],
            reason: Some("no-answer".into()),
        }
    }

    /// Compares a message with its file, both ways. `DIMSUM_BLESS=1` writes the files anew.
    fn check<T: WireMessage + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(format!("{name}.json"));
        let sent: serde_json::Value = serde_json::from_slice(&encode(message).unwrap()).unwrap();
        if std::env::var_os("DIMSUM_BLESS").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&sent).unwrap() + "\n").unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(sent, serde_json::from_slice::<serde_json::Value>(&golden).unwrap(), "{name}");
        assert_eq!(decode::<T>(&golden).unwrap(), *message, "{name}");
    }

    #[test]
    fn messages_of_version_2_are_those_of_the_files() {
        check("request-mount", &WireRequest::Mount(mount_request()));
        check("request-list", &WireRequest::List);
        check("request-stats", &WireRequest::Stats { id: 7 });
        check("request-info", &WireRequest::Info);
        check("request-flights", &WireRequest::Flights);
        check("request-flush-log", &WireRequest::FlushLog);
        check("request-shutdown", &WireRequest::Shutdown);
        check("response-mounted", &WireResponse::Mounted { id: 7, image: mounted_image(), notes: notes() });
        let digest = Digest::new([0xcd; 32]);
        check("response-needs-conversion", &WireResponse::NeedsConversion { digest, notes: Vec::new() });
        check("response-mounts", &WireResponse::Mounts { mounts: vec![mount_info()] });
        check("response-info", &WireResponse::Info(server_info()));
        check("response-flights", &WireResponse::Flights { flights: vec![flight_report()], total: 1 });
        check("response-flushed", &WireResponse::Flushed);
        check("response-closing", &WireResponse::Closing { mounts: 1 });
        check("response-failed", &WireResponse::Failed(failure()));
    }

    #[test]
    fn another_version_is_refused_by_name_on_both_sides() {
        let error = decode::<WireRequest>(br#"{"protocol":3,"request":"a-request-of-tomorrow"}"#).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("server speaks version 2") && text.contains("this command version 3"), "{text}");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = decode::<WireResponse>(br#"{"protocol":9,"response":"list"}"#).unwrap_err().to_string();
        assert!(text.contains("server speaks version 9") && text.contains("this command version 2"), "{text}");
        // A server from before the first version.
        let text = decode::<WireResponse>(br#"{"response":"closing","mounts":1}"#).unwrap_err().to_string();
        assert!(text.contains("server speaks version 0") && text.contains("next: "), "{text}");
    }

    #[test]
    fn fields_that_are_not_known_are_passed_over() {
        let request = br#"{"protocol":2,"request":"stats","id":7,"since":"tomorrow"}"#;
        assert_eq!(decode::<WireRequest>(request).unwrap(), WireRequest::Stats { id: 7 });
    }

    #[test]
    fn a_kind_that_is_not_known_is_internal() {
        let response = br#"{"protocol":2,"response":"failed","kind":"of-tomorrow","object":"app","message":"m"}"#;
        let WireResponse::Failed(failure) = decode(response).unwrap() else { panic!("another response") };
        assert_eq!((failure.kind, failure.causes.len()), (ErrorKind::Internal, 0));
    }

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let request = WireRequest::Mount(mount_request());
        send_message(here.as_fd(), &request, Some(file.as_fd())).unwrap();
        let (received, fd) = receive_message::<WireRequest>(&there, MAX_REQUEST).unwrap();
        assert_eq!(received, request);
        assert!(fd.is_some());
    }

    #[test]
    fn too_long_cut_off_and_senseless_messages_are_errors() {
        for bytes in [&[0xff; 4][..], &[8, 0, 0, 0, b'{'], &[2, 0, 0, 0, b'{', b'}'], &[1, 0]] {
            let (here, there) = UnixStream::pair().unwrap();
            rustix::io::write(&here, bytes).unwrap();
            drop(here);
            assert!(receive_message::<WireRequest>(&there, MAX_REQUEST).is_err(), "{bytes:?}");
        }
    }
}
