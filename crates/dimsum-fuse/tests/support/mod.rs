//! A small file system in memory, whose READs can be parked, and mounts of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of any test function")]

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dimsum_fuse::mount::{self, MountOptions};
use dimsum_fuse::{
    Attr, DirBuffer, DirEntry, DirPlusBuffer, Entry, Errno, FOREVER, Filesystem, InitReply, Operation, Pool, ROOT_NODE,
    Reply, Request, Session, SessionOptions, StatFs, Timestamp, Whence,
};
use rustix::mount::{UnmountFlags, unmount};

/// Files are named `f0`, `f1`, … and have the node ids from here on.
pub(crate) const FIRST_FILE: u64 = 100;
/// The symbolic link `link`.
pub(crate) const LINK: u64 = 50;
/// Every file has this length: not a multiple of a page, and longer than one READ.
pub(crate) const FILE_SIZE: u64 = (3 << 20) + 777;
/// Where the hole of every file starts, as LSEEK tells it (it is served as ordinary bytes).
pub(crate) const HOLE: u64 = 1 << 20;

/// What a file holds from `offset` on.
pub(crate) fn content(node: u64, offset: u64, size: usize) -> Vec<u8> {
    let end = FILE_SIZE.min(offset.saturating_add(size as u64));
    (offset..end.max(offset)).map(|at| ((at / 4096).wrapping_mul(31) ^ at ^ node.wrapping_mul(7)) as u8).collect()
}

/// A READ that waits for its answer.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) reply: Reply,
    pub(crate) node: u64,
    pub(crate) offset: u64,
    pub(crate) size: u32,
}

impl Parked {
    /// Answers with the right bytes.
    pub(crate) fn answer(self) {
        answer_read(self.reply, self.node, self.offset, self.size);
    }
}

/// What becomes of READs.
#[derive(Debug, Default)]
pub(crate) enum Reads {
    #[default]
    Answered,
    /// Sent here, to be answered by the test.
    Parked(Sender<Parked>),
    /// Answered one byte short.
    Short,
    /// The handler drops the obligation.
    Dropped,
    /// The handler panics.
    Panic,
}

#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) files: u64,
    pub(crate) reads: Mutex<Reads>,
    pub(crate) largest_read: AtomicUsize,
    pub(crate) opens: AtomicUsize,
    pub(crate) destroyed: Sender<()>,
    pub(crate) negotiated: Sender<InitReply>,
}

impl Memory {
    /// Makes a file system of `files` files; the receivers get a message per `destroyed` and `negotiated`.
    pub(crate) fn new(files: u64, reads: Reads) -> (Arc<Self>, Receiver<()>, Receiver<InitReply>) {
        let (destroyed, ended) = channel();
        let (negotiated, agreed) = channel();
        let memory = Self {
            files,
            reads: Mutex::new(reads),
            largest_read: AtomicUsize::new(0),
            opens: AtomicUsize::new(0),
            destroyed,
            negotiated,
        };
        (Arc::new(memory), ended, agreed)
    }

    fn attr(&self, node: u64) -> Option<Attr> {
        let (mode, size) = match node {
            ROOT_NODE => (0o040_755, 4096),
            LINK => (0o120_777, 2),
            _ if node >= FIRST_FILE && node - FIRST_FILE < self.files => (0o100_644, FILE_SIZE),
            _ => return None,
        };
        Some(Attr {
            ino: node,
            size,
            blocks: size.div_ceil(512),
            mtime: Timestamp { seconds: -5, nanoseconds: 250_000_000 },
            mode,
            nlink: if node == ROOT_NODE { 2 } else { 1 },
            uid: 1234,
            gid: 70_000,
            block_size: 4096,
            ..Attr::default()
        })
    }

    fn entry(&self, node: u64) -> Option<Entry> {
        Some(Entry { node, generation: 0, entry_validity: FOREVER, attr_validity: FOREVER, attr: self.attr(node)? })
    }

    fn lookup(&self, name: &[u8]) -> Option<u64> {
        if name == b"link" {
            return Some(LINK);
        }
        let number: u64 = std::str::from_utf8(name).ok()?.strip_prefix('f')?.parse().ok()?;
        (number < self.files).then_some(FIRST_FILE + number)
    }

    fn names(&self) -> Vec<(Vec<u8>, u64)> {
        let mut names = vec![(b".".to_vec(), ROOT_NODE), (b"..".to_vec(), ROOT_NODE), (b"link".to_vec(), LINK)];
        names.extend((0..self.files).map(|n| (format!("f{n}").into_bytes(), FIRST_FILE + n)));
        names
    }

    fn list(&self, offset: u64, mut push: impl FnMut(&DirEntry<'_>, Option<Entry>) -> bool) {
        let start = usize::try_from(offset).unwrap();
        for (position, (name, node)) in self.names().into_iter().enumerate().skip(start) {
            let entry =
                DirEntry { ino: node, next: position as u64 + 1, mode: self.attr(node).unwrap().mode, name: &name };
            let lookup = if name.starts_with(b".") { None } else { self.entry(node) };
            if !push(&entry, lookup) {
                break;
            }
        }
    }

    /// Parks a lookup of `slow`, if READs are parked.
    fn park(&self, node: u64, offset: u64, size: u32, reply: Reply) {
        match &*self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Reads::Parked(queue) => park(queue, node, offset, size, reply),
            _ => reply.no_entry(FOREVER),
        }
    }

    fn read(&self, node: u64, offset: u64, size: u32, reply: Reply) {
        self.largest_read.fetch_max(size as usize, Ordering::Relaxed);
        match &*self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Reads::Answered => answer_read(reply, node, offset, size),
            Reads::Parked(queue) => park(queue, node, offset, size, reply),
            Reads::Short => reply.data(&content(node, offset, size as usize - 1)),
            Reads::Dropped => drop(reply),
            Reads::Panic => panic!("the handler panics, as this test wants it to"),
        }
    }
}

fn park(queue: &Sender<Parked>, node: u64, offset: u64, size: u32, reply: Reply) {
    let parked = Parked { reply, node, offset, size };
    queue.send(parked).unwrap();
}

fn answer_read(reply: Reply, node: u64, offset: u64, size: u32) {
    let data = content(node, offset, size as usize);
    if data.len() == size as usize {
        reply.data(&data);
    } else {
        reply.data_to_eof(&data);
    }
}

impl Filesystem for Memory {
    fn handle(&self, request: &Request<'_>, reply: Reply) {
        let node = request.header.node;
        match &request.operation {
            Operation::Lookup { name: b"slow" } => self.park(node, 0, 0, reply),
            Operation::Lookup { name } => match self.lookup(name).and_then(|node| self.entry(node)) {
                Some(entry) => reply.entry(&entry),
                None => reply.no_entry(FOREVER),
            },
            Operation::GetAttr { .. } => match self.attr(node) {
                Some(attr) => reply.attr(&attr, FOREVER),
                None => reply.error(Errno::STALE),
            },
            Operation::Statx { .. } => match self.attr(node) {
                Some(attr) => reply.statx(&attr, FOREVER),
                None => reply.error(Errno::STALE),
            },
            Operation::ReadLink => reply.data(b"f0"),
            Operation::Read { offset, size, .. } => self.read(node, *offset, *size, reply),
            Operation::StatFs => reply.statfs(&StatFs { block_size: 4096, blocks: 1000, files: self.files }),
            Operation::GetXattr { name: b"user.key", .. } => reply.xattr(b"value"),
            Operation::GetXattr { .. } => reply.error(Errno::NODATA),
            Operation::ListXattr { .. } => reply.xattr(b"user.key\0"),
            Operation::ReadDir { offset, size, .. } => {
                let mut buffer = DirBuffer::new(*size);
                self.list(*offset, |entry, _| buffer.push(entry).unwrap());
                reply.directory(&buffer);
            }
            Operation::ReadDirPlus { offset, size, .. } => {
                let mut buffer = DirPlusBuffer::new(*size);
                self.list(*offset, |entry, lookup| buffer.push(entry, lookup.as_ref()).unwrap());
                reply.directory_plus(&buffer);
            }
            Operation::Lseek { offset, whence, .. } => match whence {
                Whence::Data if *offset < HOLE => reply.lseek(*offset),
                Whence::Data => reply.error(Errno::NXIO),
                Whence::Hole => reply.lseek(HOLE.max(*offset)),
            },
            Operation::Access { .. } => reply.done(),
            Operation::Open { .. } => {
                self.opens.fetch_add(1, Ordering::Relaxed);
                reply.error(Errno::NOSYS);
            }
            _ => reply.error(Errno::NOSYS),
        }
    }

    fn negotiated(&self, reply: &InitReply) {
        // The test may not listen any more.
        self.negotiated.send(*reply).ok();
    }

    fn destroyed(&self) {
        // The test may not listen any more.
        self.destroyed.send(()).ok();
    }
}

/// A mount on a directory of its own.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) fd: OwnedFd,
}

impl Mounted {
    pub(crate) fn new(options: &MountOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let made = mount::open_detached(options).unwrap();
        mount::attach(&made.mount, directory.path()).unwrap();
        Self { directory, fd: made.session }
    }

    /// Returns another descriptor of the session, as a keeper would hand it out.
    pub(crate) fn handed_out(&self) -> OwnedFd {
        self.fd.try_clone().unwrap()
    }

    pub(crate) fn file(&self, number: u64) -> PathBuf {
        self.directory.path().join(format!("f{number}"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // By force: readers that still wait in a failed test could not be killed, and so the test would not end.
        // The test may have taken the mount away itself.
        unmount(self.directory.path(), UnmountFlags::FORCE | UnmountFlags::DETACH).ok();
    }
}

/// Mounts `filesystem` and serves it by `pool`.
pub(crate) fn serve(pool: &Pool, filesystem: Arc<Memory>) -> (Mounted, Session) {
    let mounted = Mounted::new(&MountOptions::new("memory"));
    let session = Session::new(mounted.handed_out(), SessionOptions::default(), filesystem);
    pool.serve(&session).unwrap();
    (mounted, session)
}

/// Returns whether FUSE can be mounted here; prints why not. With `CI=true` it must be possible.
pub(crate) fn can_mount() -> bool {
    match mount::open_detached(&MountOptions::new("probe")) {
        Ok(_) => true,
        Err(error) => {
            dimsum_testing::skip(&format!("to mount FUSE: {error:?}"));
            false
        }
    }
}

/// Runs what may hang if the code is wrong, and fails the test then.
pub(crate) fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    reading(work).recv_timeout(PATIENCE).unwrap()
}

/// Starts `work`, for example a reader; its result comes over the channel.
pub(crate) fn reading<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (result, received) = channel();
    std::thread::spawn(move || result.send(work()).ok());
    received
}

/// Reads a whole file.
pub(crate) fn read_all(path: PathBuf) -> std::io::Result<Vec<u8>> {
    within(move || std::fs::read(path))
}

/// Longest wait for what must come; only a failing test waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
