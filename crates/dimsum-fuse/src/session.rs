//! One mount: its descriptor, its agreement with the kernel, and the way of each request.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dimsum_events::counters::add;
use dimsum_events::{SessionCounters, SessionStats};
use parking_lot::Mutex;
use rustix::io::{Errno, write};
use zerocopy::IntoBytes;

use crate::init::{Negotiation, negotiate};
use crate::reply::{Bound, Reply, refuse};
use crate::wire::{self, OutHeader};
use crate::{DecodeError, Error, Filesystem, InitReply, InitRequest, Operation, Request, SessionOptions};

/// Bytes of a thread's buffer; a predecessor must not have agreed on more.
pub(crate) const REQUEST_BUFFER: usize = wire::MIN_READ_BUFFER;

/// Room that the kernel wants beside `max_write`: request header and the head of a WRITE.
const WRITE_HEAD: u32 = 80;

/// A FUSE session: one mount, served by a [`crate::Pool`].
///
/// A clone is another handle to the same session. Dropping all handles ends nothing: the pool serves a session
/// until the kernel releases the mount.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) inner: Arc<SessionInner>,
}

pub(crate) struct SessionInner {
    pub(crate) channel: Arc<Channel>,
    filesystem: Arc<dyn Filesystem>,
    options: SessionOptions,
    negotiated: Mutex<Option<InitReply>>,
    adopted: bool,
    ended: AtomicBool,
}

/// The state of a session that an answer needs; lives as long as the last open [`Reply`].
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) fd: OwnedFd,
    pub(crate) counters: SessionCounters,
}

impl Session {
    /// Makes a session of a `/dev/fuse` descriptor that is mounted and not served yet.
    ///
    /// It must be non-blocking, as [`crate::mount::open_detached`] makes it.
    #[must_use]
    pub fn new(fd: OwnedFd, options: SessionOptions, filesystem: Arc<dyn Filesystem>) -> Self {
        Self::with(fd, options, filesystem, None, false)
    }

    /// Takes over a session whose server ended while another process held the descriptor.
    ///
    /// `negotiated` is what the predecessor agreed on ([`Filesystem::negotiated`]), `None` if it ended before that.
    /// Once a [`crate::Pool`] has the session, all requests that were handed out and not answered come again, also
    /// INIT.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if the predecessor agreed on requests larger than can be read here. [`Error::NoResend`]
    /// if the kernel cannot send them again: a caller with a table of their ids can answer them `EIO` and use
    /// [`Session::adopt_without_resend`].
    pub fn adopt(
        fd: OwnedFd,
        negotiated: Option<InitReply>,
        options: SessionOptions,
        filesystem: Arc<dyn Filesystem>,
    ) -> Result<Self, Error> {
        if negotiated.is_some_and(|reply| !reply.can_resend()) {
            return Err(Error::NoResend);
        }
        Self::check(negotiated)?;
        Ok(Self::with(fd, options, filesystem, negotiated, true))
    }

    /// Takes over a session without asking for requests in flight.
    ///
    /// # Errors
    /// [`Error::Incompatible`] as for [`Session::adopt`].
    pub fn adopt_without_resend(
        fd: OwnedFd,
        negotiated: InitReply,
        options: SessionOptions,
        filesystem: Arc<dyn Filesystem>,
    ) -> Result<Self, Error> {
        Self::check(Some(negotiated))?;
        Ok(Self::with(fd, options, filesystem, Some(negotiated), false))
    }

    /// Returns the agreement with the kernel, if INIT came.
    #[must_use]
    pub fn negotiated(&self) -> Option<InitReply> {
        *self.inner.negotiated.lock()
    }

    /// Returns whether the kernel released the mount.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.inner.ended.load(Ordering::Acquire)
    }

    /// Returns the figures of now.
    #[must_use]
    pub fn counters(&self) -> SessionStats {
        self.inner.channel.counters.snapshot()
    }

    fn check(negotiated: Option<InitReply>) -> Result<(), Error> {
        let buffer = u32::try_from(REQUEST_BUFFER).unwrap_or(u32::MAX);
        let limit = buffer - WRITE_HEAD;
        match negotiated {
            Some(reply) if reply.max_write() > limit => {
                Err(Error::Incompatible { max_write: reply.max_write(), limit })
            }
            _ => Ok(()),
        }
    }

    fn with(
        fd: OwnedFd,
        options: SessionOptions,
        filesystem: Arc<dyn Filesystem>,
        negotiated: Option<InitReply>,
        adopted: bool,
    ) -> Self {
        let channel = Channel { fd, counters: SessionCounters::default() };
        Self {
            inner: Arc::new(SessionInner {
                channel: Arc::new(channel),
                filesystem,
                options,
                negotiated: Mutex::new(negotiated),
                adopted,
                ended: AtomicBool::new(false),
            }),
        }
    }
}

impl SessionInner {
    /// Asks the kernel to send again what a predecessor left open; nothing for a session of our own.
    pub(crate) fn ask_again(&self) -> Result<(), Error> {
        if !self.adopted {
            return Ok(());
        }
        let notify = OutHeader {
            len: u32::try_from(size_of::<OutHeader>()).unwrap_or_default(),
            error: wire::NOTIFY_RESEND,
            unique: 0,
        };
        match write(&self.channel.fd, notify.as_bytes()) {
            Ok(_) => Ok(()),
            Err(Errno::INVAL) => Err(Error::NoResend),
            Err(source) => Err(Error::Device { action: "ask for requests in flight on", source }),
        }
    }

    /// Serves one request as it was read.
    pub(crate) fn dispatch(&self, bytes: &[u8]) {
        add(&self.channel.counters.requests, 1);
        match Request::decode(bytes) {
            Ok(request) => self.serve(&request),
            Err(error) => self.undecodable(&error),
        }
    }

    /// Notes that the kernel released the mount. Called by the one thread that learnt of it.
    pub(crate) fn end(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.filesystem.destroyed();
        }
    }

    pub(crate) fn panicked(&self) {
        add(&self.channel.counters.panics, 1);
    }

    fn serve(&self, request: &Request<'_>) {
        let unique = request.header.unique;
        if request.header.is_resent() {
            add(&self.channel.counters.resent, 1);
        }
        match &request.operation {
            Operation::Init(offer) => self.init(unique, offer),
            Operation::Forget { lookups } => self.filesystem.forget(request.header.node, *lookups),
            Operation::BatchForget(list) => {
                for (node, lookups) in list.iter() {
                    self.filesystem.forget(node, lookups);
                }
            }
            Operation::Interrupt { unique } => self.filesystem.interrupted(*unique),
            Operation::Destroy => self.reply(unique, Bound::AtMost(0)).done(),
            Operation::Change { .. } => self.reply(unique, Bound::AtMost(0)).error(Errno::ROFS),
            Operation::Ioctl { .. } => self.reply(unique, Bound::AtMost(0)).error(Errno::NOTTY),
            // Nothing is ever dirty. After ENOSYS the kernel takes these for done and does not ask again.
            Operation::Flush { .. }
            | Operation::Fsync { .. }
            | Operation::FsyncDir { .. }
            | Operation::NotOffered { .. } => self.reply(unique, Bound::AtMost(0)).error(Errno::NOSYS),
            operation => {
                let bound = bound_of(operation);
                self.filesystem.handle(request, self.reply(unique, bound));
            }
        }
    }

    fn init(&self, unique: u64, offer: &InitRequest) {
        let reply = self.reply(unique, Bound::AtMost(u32::MAX));
        match negotiate(offer, &self.options) {
            Negotiation::Agreed(agreed) => {
                *self.negotiated.lock() = Some(agreed);
                self.filesystem.negotiated(&agreed);
                reply.unbounded(agreed.as_bytes());
            }
            Negotiation::AskAgain(ours) => reply.unbounded(ours.as_bytes()),
            Negotiation::Refused => reply.error(Errno::PROTO),
        }
    }

    fn undecodable(&self, error: &DecodeError) {
        add(&self.channel.counters.undecodable, 1);
        if let Some(unique) = error.unique() {
            refuse(&self.channel, unique, error.errno());
        }
    }

    fn reply(&self, unique: u64, bound: Bound) -> Reply {
        Reply::new(&self.channel, unique, bound)
    }
}

impl std::fmt::Debug for SessionInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("channel", &self.channel)
            .field("options", &self.options)
            .field("adopted", &self.adopted)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

fn bound_of(operation: &Operation<'_>) -> Bound {
    match *operation {
        Operation::Read { size, .. } => Bound::Whole(size),
        Operation::ReadDir { size, .. }
        | Operation::ReadDirPlus { size, .. }
        | Operation::GetXattr { size, .. }
        | Operation::ListXattr { size } => Bound::AtMost(size),
        // Structures of fixed length, and link targets, which the kernel bounds by a page.
        _ => Bound::AtMost(u32::MAX),
    }
}
