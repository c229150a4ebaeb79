//! The trace of a request of the kernel: where the way of a read begins and ends.

use std::thread::ThreadId;

use dimsum_fuse::{Operation, Reply, Request};
use dimsum_store::Image;
use tracing::span::EnteredSpan;
use tracing::{Span, debug, debug_span, trace};

/// Goes with a request from thread to thread. Without a subscriber it holds nothing, and costs one comparison.
pub(super) struct RequestTrace {
    span: Span,
    /// The thread that took the request, if that is recorded.
    thread: Option<ThreadId>,
}

impl RequestTrace {
    /// Begins the trace of a request to a mount.
    pub(super) fn begin(request: &Request<'_>, reply: &Reply, mount: u64, image: &Image) -> Self {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return Self { span: Span::none(), thread: None };
        }
        let (op, place) = operation(&request.operation);
        let span = debug_span!(
            "fuse",
            mount,
            unique = reply.unique(),
            op,
            inode = request.header.node,
            offset = place.map(|(offset, _)| offset),
            size = place.map(|(_, size)| size),
            resent = request.header.is_resent().then_some(true),
            image = %image.digest(),
        );
        trace!(parent: &span, "asked");
        Self { span, thread: Some(std::thread::current().id()) }
    }

    /// Lets all that this thread does belong to the request, until the result is dropped.
    pub(super) fn enter(&self) -> EnteredSpan {
        self.span.clone().entered()
    }

    /// Records the answer. One that was given at once is of no interest to those who look for reads that wait.
    pub(super) fn answered(&self, bytes: Option<usize>) {
        match self.thread {
            None => {}
            Some(thread) if thread == std::thread::current().id() => trace!(parent: &self.span, bytes, "answered"),
            Some(_) => debug!(parent: &self.span, bytes, "answered"),
        }
    }

    /// Records an error.
    pub(super) fn failed(&self, reason: Option<&str>) {
        debug!(parent: &self.span, reason, "answered EIO");
    }
}

/// The name of an operation, and the part of the file or directory that it is about.
const fn operation(operation: &Operation<'_>) -> (&'static str, Option<(u64, u32)>) {
    match *operation {
        Operation::Read { offset, size, .. } => ("read", Some((offset, size))),
        Operation::ReadDir { offset, size, .. } => ("readdir", Some((offset, size))),
        Operation::ReadDirPlus { offset, size, .. } => ("readdirplus", Some((offset, size))),
        Operation::Lookup { .. } => ("lookup", None),
        Operation::GetAttr { .. } => ("getattr", None),
        Operation::ReadLink => ("readlink", None),
        Operation::GetXattr { .. } => ("getxattr", None),
        Operation::ListXattr { .. } => ("listxattr", None),
        Operation::Lseek { .. } => ("lseek", None),
        _ => ("other", None),
    }
}
