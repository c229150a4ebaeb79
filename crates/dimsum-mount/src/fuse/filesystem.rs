//! An image's tree as a FUSE file system.
//!
//! ```text
//! kernel ─► Question ─► ImageTree (EROFS reader over the proven meta) ─► TreeAnswer ─► Reply
//!                         │ Pending: parked at the meta's gate, asked again      ▲
//!                         └ Data { extents } ─► store: Image::read ── verified ──┘
//! ```
//!
//! It has no state. A node id is the nid of an inode, so there is no table of inodes to keep, to bound or to hand over.
//! FORGET means nothing, and a successor of a killed server understands every number the kernel knows. The tree never
//! changes, so everything is valid for ever: names, their absence, attributes, listings, pages, and files need no OPEN.
//!
//! The meta is *not* validated as a whole before it is mounted this way. The kernel sees no byte of it, only answers
//! made of checked numbers, so a wrong image costs `EIO` where it is wrong. (The kernel's own EROFS does see it; that
//! driver validates first.) What only overlayfs would misunderstand is refused where it is met, see [`super::tree`].
//!
//! No thread of the pool waits here. What is missing is parked in the store with its [`Reply`], and answered by the
//! thread that completes it. Bytes that cannot be had are `EIO`, never zeros and never short.

use std::borrow::Cow;
use std::io::IoSlice;
use std::sync::Arc;

use dimsum_events::counters::add;
use dimsum_events::{DriverCounters, DriverStats, Event, EventKind, FileRef};
use dimsum_format::group::GROUP_U64;
use dimsum_fuse::{Errno, FOREVER, Filesystem, InitReply, Operation, Reply, Request, SessionOptions};
use dimsum_source::{ErrorKind, with_causes};
use dimsum_store::{Extent, Image, MetaError, ReadError};

use super::gate::MetaGate;
use super::trace::RequestTrace;
use super::tree::{ImageTree, Question, TreeAnswer, TreeFailure};
use crate::driver::MountObserver;

/// How often a request is asked again because another part of the meta was missing. The largest request (LSEEK in a
/// block map of 64 MiB) touches 512 frames of the meta. Twice that is more than any request needs, and an end.
const MAX_ATTEMPTS: u32 = 1024;

/// The session options that fit this driver: nids are stable, and ACLs are stored in the kernel's own form.
pub(super) const SESSION_OPTIONS: SessionOptions = SessionOptions { stable_nodes: true, posix_acl: true };

/// The FUSE file system of one image.
pub(super) struct ImageFilesystem {
    core: Arc<Core>,
}

struct Core {
    image: Arc<Image>,
    tree: ImageTree<MetaGate>,
    observer: Arc<dyn MountObserver>,
    counters: DriverCounters,
}

/// How often opening is tried again because its part of the meta was missing. It is once for each of the few groups it
/// reads, and some more for groups that other mounts push out of the cache meanwhile.
const MAX_OPENINGS: u32 = 8;

/// An image whose tree cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoTree {
    /// Its superblock is not one of ours.
    #[error("cannot read the file tree of image {image}")]
    Foreign {
        /// The image's manifest.
        image: dimsum_format::Digest,
        /// Why.
        source: Box<dimsum_erofs::ErofsError<MetaError>>,
    },
    /// The start of its meta is damaged or missing, and no source has it.
    #[error("cannot get the file tree of image {image}")]
    Missing {
        /// The image's manifest.
        image: dimsum_format::Digest,
        /// Why.
        source: Box<ReadError>,
    },
}

impl NoTree {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Foreign { .. } => ErrorKind::Malformed,
            Self::Missing { source, .. } => source.kind(),
        }
    }
}

/// Opens the file system in the meta; waits while damaged parts of it are fetched again.
fn open_tree(image: &Arc<Image>) -> Result<dimsum_erofs::ErofsImage<MetaGate>, NoTree> {
    let mut openings = 0;
    loop {
        openings += 1;
        match dimsum_erofs::ErofsImage::open(MetaGate::new(Arc::clone(image))) {
            Err(dimsum_erofs::ErofsError::Read { source: MetaError::Pending { group }, .. })
                if openings < MAX_OPENINGS =>
            {
                let offset = group.saturating_mul(GROUP_U64);
                let fetched = image.meta().read_blocking(offset, &mut [0]);
                fetched.map_err(|source| NoTree::Missing { image: image.digest(), source: Box::new(source) })?;
            }
            opened => {
                return opened.map_err(|source| NoTree::Foreign { image: image.digest(), source: Box::new(source) });
            }
        }
    }
}

impl ImageFilesystem {
    /// Makes a file system of an image. May wait for a source, so it is not for a thread of the pool.
    ///
    /// # Errors
    /// [`NoTree`] if its superblock cannot be had or is not one of ours.
    pub(super) fn new(image: Arc<Image>, observer: Arc<dyn MountObserver>) -> Result<Self, NoTree> {
        let tree = ImageTree::new(open_tree(&image)?, image.meta().length());
        let core = Core { image, tree, observer, counters: DriverCounters::default() };
        Ok(Self { core: Arc::new(core) })
    }

    /// Returns the figures of now.
    pub(super) fn stats(&self) -> DriverStats {
        self.core.counters.snapshot()
    }

    /// Returns the image.
    pub(super) fn image(&self) -> &Arc<Image> {
        &self.core.image
    }
}

impl Filesystem for ImageFilesystem {
    fn handle(&self, request: &Request<'_>, reply: Reply) {
        let question = match request.operation {
            Operation::Lookup { name } => Question::Lookup { name: Cow::Borrowed(name) },
            Operation::GetAttr { .. } => Question::GetAttr,
            Operation::ReadLink => Question::ReadLink,
            Operation::Read { offset, size, .. } => Question::Read { offset, size },
            Operation::GetXattr { name, .. } => Question::GetXattr { name: Cow::Borrowed(name) },
            Operation::ListXattr { .. } => Question::ListXattr,
            Operation::ReadDir { offset, size, .. } => Question::ReadDir { offset, size },
            Operation::ReadDirPlus { offset, size, .. } => Question::ReadDirPlus { offset, size },
            Operation::StatFs => Question::StatFs,
            Operation::Lseek { offset, whence, .. } => Question::Lseek { offset, whence },
            // There are no handles to release; a kernel that was told so does not ask.
            Operation::Release { .. } | Operation::ReleaseDir { .. } => return reply.done(),
            // OPEN, OPENDIR: not needed. ACCESS: the kernel checks. STATX: there is no birth time.
            _ => return reply.error(Errno::NOSYS),
        };
        let trace = RequestTrace::begin(request, &reply, self.core.observer.mount(), &self.core.image);
        // Whatever the store starts on this thread belongs to the request.
        let entered = trace.enter();
        serve(&self.core, question, OpenRequest { node: request.header.node, reply, trace }, 0);
        drop(entered);
    }

    fn negotiated(&self, reply: &InitReply) {
        self.core.observer.agreed(reply.as_bytes());
    }

    fn destroyed(&self) {
        self.core.observer.released();
    }
}

impl std::fmt::Debug for ImageFilesystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageFilesystem").field("image", &self.core.image.digest()).finish_non_exhaustive()
    }
}

/// A request that is not answered yet.
struct OpenRequest {
    node: u64,
    reply: Reply,
    trace: RequestTrace,
}

/// Answers a question now, or parks it until the part of the meta that it needs is here.
fn serve(core: &Arc<Core>, question: Question<'_>, asked: OpenRequest, attempt: u32) {
    match core.tree.answer(asked.node, &question) {
        Ok(TreeAnswer::Data { extents, length }) => core.read(&extents, length, question, asked),
        Ok(answer) => {
            asked.trace.answered(None);
            send(answer, asked.reply);
        }
        Err(TreeFailure::Errno(errno)) => asked.reply.error(errno),
        Err(TreeFailure::Pending { group }) if attempt < MAX_ATTEMPTS => {
            let (again, question) = (Arc::clone(core), question.into_owned());
            let ready = move |result: Result<(), ReadError>| {
                let _entered = asked.trace.enter();
                match result {
                    Ok(()) => serve(&again, question, asked, attempt + 1),
                    Err(error) => again.unreadable(asked, &error),
                }
            };
            core.image.meta().when_ready(group, Box::new(ready));
        }
        Err(TreeFailure::Pending { group }) => {
            core.fail(asked, &format!("group {group} of the meta is still missing after {attempt} attempts"));
        }
        Err(TreeFailure::Image(error)) => core.fail(asked, &with_causes(&error)),
        Err(TreeFailure::Forbidden(what)) => core.fail(asked, &format!("the image holds {what}")),
    }
}

fn send(answer: TreeAnswer, reply: Reply) {
    match answer {
        TreeAnswer::Entry(entry) => reply.entry(&entry),
        TreeAnswer::NoEntry => reply.no_entry(FOREVER),
        TreeAnswer::Attr(attr) => reply.attr(&attr, FOREVER),
        TreeAnswer::Link(target) => reply.data(&target),
        TreeAnswer::Xattr(value) => reply.xattr(&value),
        TreeAnswer::Directory(entries) => reply.directory(&entries),
        TreeAnswer::DirectoryPlus(entries) => reply.directory_plus(&entries),
        TreeAnswer::StatFs(figures) => reply.statfs(&figures),
        TreeAnswer::Offset(offset) => reply.lseek(offset),
        // Handled where there is a store.
        TreeAnswer::Data { .. } => reply.error(Errno::IO),
    }
}

impl Core {
    fn read(self: &Arc<Self>, extents: &[Extent], length: usize, question: Question<'_>, asked: OpenRequest) {
        let Question::Read { size, .. } = question else {
            return asked.reply.error(Errno::IO);
        };
        if length == 0 {
            return asked.reply.data_to_eof(&[]);
        }
        let at_end = usize::try_from(size) != Ok(length);
        let core = Arc::clone(self);
        self.image.read(extents, move |result| match result {
            Ok(bytes) if bytes.len() == length => {
                add(&core.counters.reads, 1);
                add(&core.counters.bytes_read, length as u64);
                asked.trace.answered(Some(length));
                let (reply, parts): (_, Vec<IoSlice<'_>>) = (asked.reply, bytes.slices().map(IoSlice::new).collect());
                if at_end { reply.data_to_eof_vectored(&parts) } else { reply.data_vectored(&parts) }
            }
            Ok(bytes) => core.fail(asked, &format!("{} bytes where {length} are wanted", bytes.len())),
            Err(error) => core.unreadable(asked, &error),
        });
    }

    fn fail(&self, asked: OpenRequest, reason: &str) {
        self.tell(self.event(asked.node).reason(reason), asked);
    }

    /// Answers a request whose bytes the store cannot give.
    fn unreadable(&self, asked: OpenRequest, error: &ReadError) {
        let (event, reason) = (self.event(asked.node), error.to_string());
        let event = match error.object() {
            Some(object) => {
                let known = format!("{object}: ");
                event.object(object).reason(reason.strip_prefix(&known).unwrap_or(&reason))
            }
            None => event.reason(reason),
        };
        self.tell(event, asked);
    }

    fn event(&self, node: u64) -> Event {
        Event::new(EventKind::ReadFailed).image(self.image.digest()).file(FileRef { inode: node, path: None })
    }

    fn tell(&self, event: Event, asked: OpenRequest) {
        add(&self.counters.errors, 1);
        asked.trace.failed(event.reason.as_deref());
        // Told first: its reason is on the way to the log when the reader sees the error.
        self.observer.failed(event);
        asked.reply.error(Errno::IO);
    }
}
