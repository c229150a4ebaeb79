//! A registry for tests of outages. It serves the content of a real OCI layout over plain HTTP on a loopback port. It
//! takes uploads, and answers every kind of request as a script says.
//!
//! ```text
//!   let registry = OutageRegistry::serve(layout_dir);            // every tag of the layout, in the repository "test/image"
//!   let name = registry.reference("v1");                         // docker://127.0.0.1:PORT/test/image:v1
//!   registry.script(RequestKind::Pack, Fault::Status(503));      // manifests are answered, blobs are not
//!   registry.script_once(RequestKind::UploadStatus, Fault::Reset); // one lost request
//!   registry.heal();                                             // everything works again; hung requests are hung up
//!   assert_eq!(registry.count(RequestKind::Config), 0);          // nothing was asked that was not needed
//! ```
//!
//! A fault lasts until another one takes its place, or as many requests as it was scripted for. Requests are counted whether
//! they fail or not. The registry ends when it is dropped.

mod content;
mod http;
mod serve;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use self::content::Content;

/// The one repository of an [`OutageRegistry`].
pub const REPOSITORY: &str = "test/image";

/// What a request asks for. The order is the one in which a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// `GET /v2/`: is there a registry?
    Ping,
    /// `GET /token`: only of a registry that [wants tokens](OutageRegistry::want_tokens).
    Token,
    /// `GET manifests/TAG`.
    ManifestByTag,
    /// `GET manifests/sha256:…`.
    ManifestByDigest,
    /// `GET` of a blob that is the config of an image.
    Config,
    /// `GET` of a blob that is the meta of a Dimsum image, whole or a range.
    Meta,
    /// `GET` of any other blob, whole or a range: packs, layers.
    Pack,
    /// `GET referrers/…`.
    Referrers,
    /// `HEAD` of a manifest or blob.
    Head,
    /// `POST blobs/uploads/`.
    UploadStart,
    /// `PATCH` of an upload. A fault comes after half of the body, which the registry keeps.
    UploadPatch,
    /// `GET` of an upload: how far is it?
    UploadStatus,
    /// `PUT` of an upload: it is whole.
    UploadPut,
    /// `PUT manifests/…`.
    ManifestPut,
}

impl RequestKind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Ping,
        Self::Token,
        Self::ManifestByTag,
        Self::ManifestByDigest,
        Self::Config,
        Self::Meta,
        Self::Pack,
        Self::Referrers,
        Self::Head,
        Self::UploadStart,
        Self::UploadPatch,
        Self::UploadStatus,
        Self::UploadPut,
        Self::ManifestPut,
    ];
    /// The kinds that reading an image asks.
    pub const READING: [Self; 6] =
        [Self::Ping, Self::ManifestByTag, Self::ManifestByDigest, Self::Config, Self::Meta, Self::Pack];
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An answer with this status and an error document. 401 has a challenge if the registry wants tokens; 429 and 503
    /// have no `Retry-After`.
    Status(u16),
    /// The connection ends before a byte of the answer.
    Reset,
    /// No answer comes, until the fault is taken away, replaced, or the registry is dropped.
    Hang,
    /// The answer is as it should be, but for one flipped byte in the middle of its body.
    WrongBytes,
    /// The head of the answer is as it should be, and the connection ends after half of the body.
    Truncated,
}

impl Fault {
    /// The faults of a matrix of partial outages.
    pub const ALL: [Self; 10] = [
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
        Self::Status(429),
        Self::Status(500),
        Self::Status(503),
        Self::Reset,
        Self::Hang,
        Self::WrongBytes,
        Self::Truncated,
    ];
}

/// The registry.
#[derive(Debug)]
pub struct OutageRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the threads of a registry share.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    content: Content,
    state: Mutex<Script>,
    /// Told of every change of the script.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Script {
    /// Faults with the requests that they are left for; none means all.
    faults: BTreeMap<RequestKind, (Fault, Option<u64>)>,
    counts: BTreeMap<RequestKind, u64>,
    /// Bytes of bodies that were sent.
    sent: BTreeMap<RequestKind, u64>,
    want_tokens: bool,
    stopped: bool,
}

impl OutageRegistry {
    /// Starts a registry with the content of an OCI layout, under the tags of its `index.json`. The layout is read as it
    /// is asked for: it must stay as it is.
    ///
    /// # Panics
    /// If there is no layout, or no port.
    #[must_use]
    pub fn serve(layout: &Path) -> Self {
        Self::start(Content::of_layout(layout))
    }

    /// Starts a registry without content, for uploads.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn empty() -> Self {
        Self::start(Content::default())
    }

    fn start(content: Content) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { address, content, state: Mutex::default(), changed: Condvar::new() });
        let registry = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if shared.state.lock().unwrap().stopped {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve::connection(&shared, socket));
            }
        });
        registry
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the text of a reference to a tag of the repository.
    #[must_use]
    pub fn reference(&self, tag: &str) -> String {
        format!("docker://{}/{REPOSITORY}:{tag}", self.address)
    }

    /// Returns the text of a reference to a manifest by its digest.
    #[must_use]
    pub fn pinned(&self, digest: dimsum_format::Digest) -> String {
        format!("docker://{}/{REPOSITORY}@{digest}", self.address)
    }

    /// Lets all requests of a kind fail from now on.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    pub fn script(&self, kind: RequestKind, fault: Fault) {
        self.change(|script| script.faults.insert(kind, (fault, None)));
    }

    /// Lets the next request of a kind fail, and no other.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    pub fn script_once(&self, kind: RequestKind, fault: Fault) {
        self.change(|script| script.faults.insert(kind, (fault, Some(1))));
    }

    /// Lets all requests of some kinds fail from now on.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    pub fn script_all(&self, kinds: &[RequestKind], fault: Fault) {
        self.change(|script| script.faults.extend(kinds.iter().map(|&kind| (kind, (fault, None)))));
    }

    /// Takes all faults away. Requests that hang are hung up.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    pub fn heal(&self) {
        self.change(|script| script.faults.clear());
    }

    /// Lets the registry want a token for every request but `GET /v2/`, which its token server gives to everybody.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    pub fn want_tokens(&self) {
        self.change(|script| script.want_tokens = true);
    }

    /// Returns how many requests of a kind came.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    #[must_use]
    pub fn count(&self, kind: RequestKind) -> u64 {
        self.shared.state.lock().unwrap().counts.get(&kind).copied().unwrap_or(0)
    }

    /// Returns how many requests came, by kind; kinds that did not come are left out.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<RequestKind, u64> {
        self.shared.state.lock().unwrap().counts.clone()
    }

    /// Returns how many bytes of bodies were sent in answers to requests of a kind.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    #[must_use]
    pub fn sent(&self, kind: RequestKind) -> u64 {
        self.shared.state.lock().unwrap().sent.get(&kind).copied().unwrap_or(0)
    }

    /// Forgets what was counted.
    ///
    /// # Panics
    /// If a thread of the registry panicked.
    pub fn reset_counts(&self) {
        self.change(|script| {
            script.counts.clear();
            script.sent.clear();
        });
    }

    /// Says whether a blob is there, uploaded or from the layout.
    #[must_use]
    pub fn has_blob(&self, digest: dimsum_format::Digest) -> bool {
        self.shared.content.blob(&digest.to_string()).is_some()
    }

    /// Returns how many uploads were begun and neither finished nor given up.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.shared.content.open_uploads()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) {
        change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.notify_all();
    }
}

impl Drop for OutageRegistry {
    fn drop(&mut self) {
        self.change(|script| {
            script.stopped = true;
            script.faults.clear();
        });
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    /// Counts a request and returns the fault that it meets.
    fn meet(&self, kind: RequestKind) -> Option<Fault> {
        let mut script = self.state.lock().unwrap();
        *script.counts.entry(kind).or_default() += 1;
        let (fault, left) = script.faults.get(&kind).copied()?;
        match left {
            Some(0) => return None,
            Some(left) => script.faults.insert(kind, (fault, Some(left - 1))),
            None => None,
        };
        Some(fault)
    }

    /// Waits while requests of a kind are to hang.
    fn hang(&self, kind: RequestKind) {
        let hangs = |script: &mut Script| matches!(script.faults.get(&kind), Some((Fault::Hang, _)));
        drop(self.changed.wait_while(self.state.lock().unwrap(), hangs).unwrap());
    }

    fn count_sent(&self, kind: RequestKind, bytes: u64) {
        *self.state.lock().unwrap().sent.entry(kind).or_default() += bytes;
    }

    fn wants_tokens(&self) -> bool {
        self.state.lock().unwrap().want_tokens
    }
}
