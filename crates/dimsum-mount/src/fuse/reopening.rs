//! A file system whose image is opened when it can be.
//!
//! A mount that is taken over must be served at once: its readers hang otherwise. If its image cannot be opened, because the
//! registry is away, readers get `EIO`, and a reader who comes later makes a thread try again.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use dimsum_fuse::{Errno, Filesystem, InitReply, Reply, Request};
use dimsum_source::with_causes;
use parking_lot::Mutex;
use tracing::debug_span;

use super::filesystem::ImageFilesystem;
use crate::driver::{ImageOpener, MountObserver};

/// Opens an image and its tree.
pub(super) fn open(opener: &ImageOpener, observer: &Arc<dyn MountObserver>) -> Result<Arc<ImageFilesystem>, String> {
    let filesystem = ImageFilesystem::new(opener()?, Arc::clone(observer)).map_err(|error| with_causes(&error))?;
    observer.opened(filesystem.image());
    Ok(Arc::new(filesystem))
}

/// The file system.
pub(super) struct ReopeningFilesystem {
    me: Weak<Self>,
    opener: ImageOpener,
    observer: Arc<dyn MountObserver>,
    retry_after: Duration,
    opened: OnceLock<Arc<ImageFilesystem>>,
    closed: Mutex<Closed>,
}

/// What is known while the image is not open.
#[derive(Debug)]
struct Closed {
    reason: String,
    tried: Instant,
    is_trying: bool,
}

/// One attempt to open the image. However it ends, also by a panic or because its thread cannot be started, the next
/// attempt is possible when this is dropped.
struct Attempt(Arc<ReopeningFilesystem>);

impl ReopeningFilesystem {
    /// Makes the file system of an image that cannot be opened now, for `reason`.
    pub(super) fn new(
        opener: ImageOpener,
        observer: Arc<dyn MountObserver>,
        reason: String,
        retry_after: Duration,
    ) -> Arc<Self> {
        observer.broken(&reason);
        let closed = Closed { reason, tried: Instant::now(), is_trying: false };
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            opener,
            observer,
            retry_after,
            opened: OnceLock::new(),
            closed: Mutex::new(closed),
        })
    }

    pub(super) fn opened(&self) -> Option<&Arc<ImageFilesystem>> {
        self.opened.get()
    }

    /// Returns why the image is not open, if it is not.
    pub(super) fn reason(&self) -> Option<String> {
        if self.opened.get().is_some() { None } else { Some(self.closed.lock().reason.clone()) }
    }

    /// Returns an attempt if one is due.
    fn attempt(&self) -> Option<Attempt> {
        let mut closed = self.closed.lock();
        if closed.is_trying || closed.tried.elapsed() < self.retry_after {
            return None;
        }
        let attempt = Attempt(self.me.upgrade()?);
        closed.is_trying = true;
        Some(attempt)
    }
}

impl Attempt {
    fn run(self) {
        let filesystem = &self.0;
        match open(&filesystem.opener, &filesystem.observer) {
            // There is one attempt at a time, so nobody else has set it.
            Ok(opened) => drop(filesystem.opened.set(opened)),
            Err(reason) => filesystem.closed.lock().reason = reason,
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut closed = self.0.closed.lock();
        closed.is_trying = false;
        closed.tried = Instant::now();
    }
}

impl Filesystem for ReopeningFilesystem {
    fn handle(&self, request: &Request<'_>, reply: Reply) {
        if let Some(filesystem) = self.opened.get() {
            return filesystem.handle(request, reply);
        }
        if let Some(attempt) = self.attempt() {
            // Opening waits, and this is a thread of the pool.
            let span = debug_span!("reopen", mount = self.observer.mount());
            let run = move || span.in_scope(|| attempt.run());
            drop(std::thread::Builder::new().name("reopen".to_owned()).spawn(run));
        }
        reply.error(Errno::IO);
    }

    fn negotiated(&self, reply: &InitReply) {
        self.observer.agreed(reply.as_bytes());
    }

    fn destroyed(&self) {
        self.observer.released();
    }
}

impl std::fmt::Debug for ReopeningFilesystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReopeningFilesystem").field("opened", &self.opened.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use dimsum_events::Event;
    use dimsum_store::Image;

    use super::*;

    #[derive(Default)]
    struct Reasons(Mutex<Vec<String>>);

    impl MountObserver for Reasons {
        fn agreed(&self, _: &[u8]) {}
        fn opened(&self, _: &Arc<Image>) {}
        fn broken(&self, reason: &str) {
            self.0.lock().push(reason.to_owned());
        }
        fn released(&self) {}
        fn failed(&self, _: Event) {}
    }

    fn closed(opener: ImageOpener) -> Arc<ReopeningFilesystem> {
        ReopeningFilesystem::new(
            opener,
            Arc::new(Reasons::default()),
            "the registry is gone".to_owned(),
            Duration::ZERO,
        )
    }

    #[test]
    fn an_attempt_that_panics_or_never_starts_does_not_end_all_attempts() {
        let filesystem = closed(Arc::new(|| panic!("in the middle of an attempt")));
        let attempt = filesystem.attempt().unwrap();
        assert!(filesystem.attempt().is_none(), "two at a time");
        assert!(std::thread::spawn(move || attempt.run()).join().is_err());
        // A thread that cannot be started drops its closure, and the attempt with it.
        drop(filesystem.attempt().unwrap());
        assert!(filesystem.attempt().is_some());
        assert_eq!(filesystem.reason().as_deref(), Some("the registry is gone"));
    }

    #[test]
    fn an_attempt_that_fails_leaves_its_reason() {
        let filesystem = closed(Arc::new(|| Err("the registry says 403".to_owned())));
        filesystem.attempt().unwrap().run();
        assert_eq!(filesystem.reason().as_deref(), Some("the registry says 403"));
        assert!(filesystem.attempt().is_some());
    }
}
