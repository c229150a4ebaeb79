//! The trait that a user of this crate implements.

use crate::{InitReply, Reply, Request};

/// A read-only file system behind a session.
///
/// Methods are called by the threads of the [`crate::Pool`], several at a time. They must not wait for network, disk
/// fills or other requests: a thread that waits is missing for *all* sessions. A request that cannot be answered at
/// once is parked: move the [`Reply`] to the code that will complete it, and return.
pub trait Filesystem: Send + Sync + 'static {
    /// Answers a request, now or later.
    ///
    /// Comes with the operations LOOKUP, GETATTR, STATX, READLINK, OPEN, READ, RELEASE, STATFS, GETXATTR, LISTXATTR,
    /// OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, ACCESS and LSEEK. Everything else the session answers itself, as a
    /// read-only file system does. An operation that is not supported is answered `ENOSYS`; for OPEN, OPENDIR, STATX,
    /// ACCESS and LSEEK the kernel then never asks again.
    ///
    /// A panic in here answers `EIO` and ends nothing else.
    fn handle(&self, request: &Request<'_>, reply: Reply);

    /// Takes note that the kernel dropped `lookups` references to `node`. Nothing is answered.
    fn forget(&self, node: u64, lookups: u64) {
        let _ = (node, lookups);
    }

    /// Takes note that the caller of request `unique` got a signal and would rather not wait.
    ///
    /// The request stays open and must still be answered; answering it `EINTR` lets the caller go. May come
    /// before the request itself. The id is the one of [`Reply::unique`] without its resend mark.
    fn interrupted(&self, unique: u64) {
        let _ = unique;
    }

    /// Takes note of the agreement with the kernel, *before* the kernel learns of it.
    ///
    /// The holder of the descriptor for a successor must have the bytes when this returns. A successor without them
    /// learns only from the first request that INIT was answered.
    fn negotiated(&self, reply: &InitReply) {
        let _ = reply;
    }

    /// Takes note that the kernel released the mount; called once, after which no request comes.
    ///
    /// Requests may still be parked then; answering them has no effect and does no harm.
    fn destroyed(&self) {}
}
