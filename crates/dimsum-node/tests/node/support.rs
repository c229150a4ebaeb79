//! An image, a store, and a client that starts keeper and server as processes of this program.

use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use dimsum_convert::{ConvertOptions, Input, convert};
use dimsum_engine::{Access, Engine, EngineConfig};
use dimsum_events::log::LogSettings;
use dimsum_format::Digest;
use dimsum_layout::{OCI_LAYOUT, OciLayout};
use dimsum_node::keeper::{Config as KeeperConfig, INHERITED_FLAG, READY_FLAG, run as run_keeper};
use dimsum_node::server::{self, Config as ServerConfig};
use dimsum_node::{Client, DriverKind, Error, MountHandle, MountInfo, MountRequest, Program};
use dimsum_source::{BoxFuture, Document, Place, Reference, Scheme, Source, SourceError, Transport};
use dimsum_testing::{path_or_skip, root_or_skip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

use crate::keepers::KeeperOfVersion1;

/// While this file lies beside a layout, reads from its blobs hang.
pub(crate) const HANG: &str = "hang";
/// While this file lies beside a layout, it counts as a registry: what it gives is kept, and it is filled from.
pub(crate) const REMOTE: &str = "remote";
/// How long the store of these tests waits for a source.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long a test, or the end of a process, may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn can_mount() -> bool {
    root_or_skip() && path_or_skip("/dev/fuse")
}

pub(crate) fn keeper() {
    let (Some(store), ready) = (argument("store"), after(READY_FLAG)) else {
        return;
    };
    let server = this_test("server_process", Path::new(&store));
    let ready = ready.map(|number| number.parse().unwrap());
    run_keeper(KeeperConfig {
        store: store.into(),
        server,
        ready,
        foreground: false,
        log: LogSettings::default(),
        trace: |_, _| {},
    })
    .unwrap();
}

pub(crate) fn keeper_of_version_1() {
    let (Some(store), ready) = (argument("store"), after(READY_FLAG)) else {
        return;
    };
    let ready = ready.map(|number| dimsum_sys::fd::take_inherited(number.parse().unwrap()).unwrap());
    KeeperOfVersion1::run(Path::new(&store), ready, &this_test("server_process", Path::new(&store)));
}

pub(crate) fn server() {
    let (Some(store), Some(inherited)) = (argument("store"), after(INHERITED_FLAG)) else {
        return;
    };
    let mut engine = engine_config(Path::new(&store));
    engine.more_transports = vec![Arc::new(MayHangTransport)];
    engine.store_options.request_deadline = DEADLINE;
    let config = ServerConfig {
        engine,
        inherited,
        idle: Some(Duration::from_secs(1)),
        log: LogSettings::default(),
        trace: |_, _| {},
        fill_pause: Duration::from_millis(100),
    };
    server::run(config).unwrap();
}

/// The node key lies beside the store.
fn engine_config(store: &Path) -> EngineConfig {
    EngineConfig::new(store, store.with_file_name("node.key"))
}

/// This program with one test only. Behind `--skip` the test harness takes anything for the name of a test. Our tests
/// get their settings that way, and the arguments that keeper and client append come behind the last one.
fn this_test(name: &str, store: &Path) -> Program {
    let mut told = OsString::from("store=");
    told.push(store);
    let skip = || OsString::from("--skip");
    let arguments = vec![name.into(), "--exact".into(), "--nocapture".into(), skip(), told, skip()];
    Program { path: std::env::current_exe().unwrap(), arguments }
}

fn argument(name: &str) -> Option<String> {
    std::env::args().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

fn after(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
}

/// An image in a layout, a store, and the way to its server.
pub(crate) struct Node {
    pub(crate) directory: TempDir,
    pub(crate) client: Client,
    /// Of this process; it converts what the server does not.
    pub(crate) engine: Engine,
    _watchdog: Sender<()>,
}

/// A converted image.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) digest: Digest,
    pub(crate) layout: PathBuf,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with_keeper("keeper_process")
    }

    /// The keeper is another test function of this program.
    pub(crate) fn with_keeper(keeper: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        fs::create_dir(&store).unwrap();
        let client = Client::new(&store, this_test(keeper, &store)).unwrap();
        let engine = Engine::new(engine_config(&store));
        Self { directory, client, engine, _watchdog: watchdog() }
    }

    /// Makes an image of what `fill` puts into a directory.
    pub(crate) fn image(&self, name: &str, fill: impl FnOnce(&Path)) -> TestImage {
        let tree = self.directory.path().join(format!("{name}-tree"));
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        let layout = self.directory.path().join(name);
        let target = OciLayout::create(&layout, None).unwrap();
        let converted = convert(Input::Directory { path: &tree }, &target, &ConvertOptions::default(), &()).unwrap();
        TestImage { digest: converted.manifest, layout }
    }

    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}-tree"))
    }

    pub(crate) fn mount(&self, image: &TestImage, name: &str) -> Mounted {
        self.mount_as(&request(image), name)
    }

    pub(crate) fn mount_as(&self, request: &MountRequest, name: &str) -> Mounted {
        let place = self.directory.path().join(name);
        fs::create_dir_all(&place).unwrap();
        let handle = self.ask(request).unwrap();
        handle.attach(&place).unwrap();
        Mounted { id: handle.id(), place }
    }

    pub(crate) fn ask(&self, request: &MountRequest) -> Result<MountHandle, Error> {
        self.client.mount(&self.engine, request)
    }

    pub(crate) fn info(&self, id: u64) -> MountInfo {
        self.client.mount_info(id).unwrap().unwrap()
    }

    pub(crate) fn server(&self) -> u32 {
        self.client.info().unwrap().expect("a server runs").pid
    }

    pub(crate) fn log(&self) -> String {
        self.client.flush_log().unwrap();
        dimsum_node::log::last_lines(self.client.store(), 40).join("\n")
    }

    /// Waits until the kernel's releases have come to the server.
    pub(crate) fn wait_until_nothing_is_mounted(&self) {
        while !self.client.mounts().unwrap().is_empty() {
            std::thread::yield_now();
        }
    }
}

/// Ends this process if the sender is not dropped in time. A reader of a mount that is not served cannot be interrupted
/// in any other way.
fn watchdog() -> Sender<()> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            println!("a test did not end within {PATIENCE:?}");
            std::process::abort();
        }
    });
    sender
}

pub(crate) fn request(image: &TestImage) -> MountRequest {
    MountRequest {
        reference: format!("oci:{}@{}", image.layout.display(), image.digest),
        platform: None,
        require_digest: true,
        access: Access::default(),
        target: "somewhere".into(),
        suid: false,
        dev: false,
        fill: false,
        driver: DriverKind::Fuse,
    }
}

/// A mount that is taken away at the end, also of a failed test.
pub(crate) struct Mounted {
    pub(crate) id: u64,
    pub(crate) place: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Gone already if the test took it away.
        drop(dimsum_node::umount(&self.place, true));
    }
}

/// Another process, until it ends.
pub(crate) struct Watched(OwnedFd);

pub(crate) fn watch(pid: u32) -> Watched {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    Watched(pidfd_open(pid, PidfdFlags::empty()).unwrap())
}

impl Watched {
    pub(crate) fn kill(&self) {
        rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL).unwrap();
    }

    pub(crate) fn wait(&self) {
        let patience = Timespec::try_from(PATIENCE).unwrap();
        let ended = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience)).unwrap();
        assert_eq!(ended, 1, "a process did not end");
    }
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Bytes that do not repeat, different for each `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Takes a file out of the page cache, so that the next read asks the server.
pub(crate) fn forget_pages(file: &File) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// A layout whose reads hang while [`HANG`] lies beside it.
#[derive(Debug)]
struct MayHang {
    layout: OciLayout,
    switch: PathBuf,
    is_remote: bool,
}

/// Opens layouts as [`MayHang`], in the place of the built-in transport.
#[derive(Debug)]
struct MayHangTransport;

impl Transport for MayHangTransport {
    fn scheme(&self) -> Scheme {
        OCI_LAYOUT
    }

    fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        let directory = reference.path().unwrap();
        let layout = OciLayout::open(directory, reference.name().cloned())?;
        let is_remote = directory.join(REMOTE).exists();
        Ok(Arc::new(MayHang { layout, switch: directory.join(HANG), is_remote }))
    }
}

impl Place for MayHang {
    fn reference(&self) -> &Reference {
        self.layout.reference()
    }

    fn root(&self) -> Result<Document, SourceError> {
        self.layout.root()
    }
}

impl Source for MayHang {
    fn name(&self) -> &str {
        self.layout.name()
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        if self.switch.exists() { Box::pin(std::future::pending()) } else { self.layout.read_range(blob, range) }
    }

    fn is_remote(&self) -> bool {
        self.is_remote
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn std::io::Read + Send>, SourceError> {
        self.layout.open(blob)
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        self.layout.size(blob)
    }
}
