//! The one asynchronous runtime of a process: everything that waits for a network or another source waits here.

use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc};

use tokio::runtime::{Builder, Handle};
use tracing::Instrument as _;

/// Threads that carry requests under way. They are futures that wait. Two threads are enough to decrypt and copy what
/// two links of 10 Gbit give. One slow poll does not hold up the rest.
const WORKERS: usize = 2;
/// Reads of one directory of blobs under way at the same time. A disk's queue gains from so many, and they are a small
/// part of the threads for blocking work. A source on a dead network file system holds so many for good, and leaves the
/// rest to others.
pub const MAX_BLOCKING_READS: usize = 8;
/// Threads on which sources may block (files of a layout): enough that 15 layouts that hang do not stop the next. They
/// are made when needed and end when idle.
const MAX_BLOCKING_THREADS: usize = 16 * MAX_BLOCKING_READS;

/// A handle of the runtime; the runtime ends with the last one.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// There until the end.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the runtime.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_name("dimsum-io")
            .enable_all()
            .build()?;
        Ok(Self(Arc::new(Inner { runtime: Some(runtime) })))
    }

    /// Returns the handle that libraries want.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.0.runtime.as_ref().expect("it is there until the last handle is dropped").handle()
    }

    /// Runs a future to its end in the background.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle().spawn(future));
    }

    /// Runs a future in the background and waits for it, from any thread that may block. `None` if it was cancelled or
    /// panicked. The future is in the span of the caller, who waits for it.
    pub fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (give, take) = mpsc::channel();
        self.spawn(async move { drop(give.send(future.await)) }.in_current_span());
        take.recv().ok()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last user may be a callback on one of the runtime's own threads, which must not wait for itself.
            runtime.shutdown_background();
        }
    }
}
