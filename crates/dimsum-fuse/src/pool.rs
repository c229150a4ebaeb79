//! A fixed number of threads for all sessions.
//!
//! All threads wait on one epoll instance, in which every session is armed for *one* event (`EPOLLONESHOT`). The thread
//! that gets the event reads one request, arms the session again, and only then handles the request. From this follows:
//!
//! - One event wakes one thread, and its read finds a request: between event and arming no other thread reads from that
//!   session. There are no spurious wake-ups however many threads there are.
//! - Arming looks at the device again, so a request that came in between wakes the next thread while this one
//!   handles. No wake-up is lost, and requests of one session run in parallel.
//! - A session goes to the end of the ready list after each request: a busy one cannot starve the others.
//! - The thread that reads `ENODEV` is the only one that knows the session, and removes it: it ends once.
//!
//! The price is one `epoll_ctl` per request (about 0.2 us). `EPOLLEXCLUSIVE` would help only with one epoll instance
//! per thread. Edge triggering lets a burst sit with one thread while others sleep.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::RwLock;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use crate::session::{REQUEST_BUFFER, SessionInner};
use crate::{Error, Session};

/// More threads than this only add memory: a request takes microseconds and never waits.
pub const MAX_THREADS: usize = 16;

/// The event that tells threads to end.
const STOP: u64 = 0;

/// The threads that serve sessions.
///
/// Dropping the pool ends its threads and waits for them; sessions stay mounted, and open replies can still be
/// answered. It must not be dropped by one of its own threads.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<FusePoolState>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct FusePoolState {
    epoll: OwnedFd,
    stop: OwnedFd,
    sessions: RwLock<HashMap<u64, Arc<SessionInner>>>,
    next_key: AtomicU64,
}

impl Pool {
    /// Starts as many threads as there are CPUs, at most [`MAX_THREADS`].
    ///
    /// # Errors
    /// [`Error::Pool`] if the kernel refuses.
    pub fn new() -> Result<Self, Error> {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_threads(cpus)
    }

    /// Starts `threads` threads, at least one and at most [`MAX_THREADS`].
    ///
    /// # Errors
    /// [`Error::Pool`] if the kernel refuses.
    pub fn with_threads(threads: usize) -> Result<Self, Error> {
        let shared = Arc::new(FusePoolState::new().map_err(|source| Error::Pool { source: source.into() })?);
        let mut pool = Self { shared, threads: Vec::new() };
        for number in 0..threads.clamp(1, MAX_THREADS) {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new()
                .name(format!("fuse-{number}"))
                .spawn(move || shared.run())
                .map_err(|source| Error::Pool { source })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Serves `session` until the kernel releases its mount.
    ///
    /// An adopted session asks for its requests in flight here.
    ///
    /// # Errors
    /// [`Error::Device`] if the descriptor cannot be served, [`Error::NoResend`] if an adopted session's kernel
    /// cannot send requests again. The session is not served then.
    pub fn serve(&self, session: &Session) -> Result<(), Error> {
        let key = self.shared.next_key.fetch_add(1, Ordering::Relaxed);
        session.inner.ask_again()?;
        let inner = Arc::clone(&session.inner);
        self.shared.sessions.write().insert(key, inner);
        let armed = epoll::add(&self.shared.epoll, &session.inner.channel.fd, EventData::new_u64(key), one_event());
        armed.map_err(|source| {
            self.shared.sessions.write().remove(&key);
            Error::Device { action: "wait for", source }
        })
    }

    /// Returns the number of threads; it never changes.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Returns the number of sessions that are served now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.read().len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The counter stays above zero, so every thread sees the event.
        if write(&self.shared.stop, &1_u64.to_ne_bytes()).is_err() {
            return;
        }
        for thread in self.threads.drain(..) {
            // A thread catches panics of handlers; its own result says nothing.
            drop(thread.join());
        }
    }
}

impl FusePoolState {
    fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self { epoll, stop, sessions: RwLock::new(HashMap::new()), next_key: AtomicU64::new(STOP + 1) })
    }

    fn run(&self) {
        let mut buffer = vec![0; REQUEST_BUFFER];
        loop {
            match self.wait() {
                Ok(STOP) => return,
                Ok(key) => self.serve_one(key, &mut buffer),
                Err(Errno::INTR) => {}
                // Our own descriptor and buffer: nothing else can fail, and nothing could be done about it.
                Err(_) => return,
            }
        }
    }

    fn wait(&self) -> Result<u64, Errno> {
        let mut events = [std::mem::MaybeUninit::uninit()];
        let (ready, _) = epoll::wait(&self.epoll, &mut events, None)?;
        ready.first().map_or(Err(Errno::INTR), |event| {
            let data = event.data;
            Ok(data.u64())
        })
    }

    fn serve_one(&self, key: u64, buffer: &mut [u8]) {
        let session = self.sessions.read().get(&key).cloned();
        let Some(session) = session else {
            return;
        };
        let request = match read(&session.channel.fd, &mut *buffer) {
            Ok(length) => buffer.get(..length),
            // EINTR and ENOENT: the caller gave the request up while it was read.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOENT) => None,
            // ENODEV: unmounted. ECONNABORTED: aborted by the administrator. Anything else does not go away.
            Err(_) => return self.remove(key, &session),
        };
        let armed = epoll::modify(&self.epoll, &session.channel.fd, EventData::new_u64(key), one_event());
        if let Some(request) = request
            && catch_unwind(AssertUnwindSafe(|| session.dispatch(request))).is_err()
        {
            session.panicked();
        }
        if armed.is_err() {
            self.remove(key, &session);
        }
    }

    fn remove(&self, key: u64, session: &SessionInner) {
        // The descriptor may be held elsewhere too, so the registration would not end by itself. It can only
        // fail if it is gone already.
        let _ = epoll::delete(&self.epoll, &session.channel.fd);
        self.sessions.write().remove(&key);
        // A panic must not take the thread away from the other sessions.
        if catch_unwind(AssertUnwindSafe(|| session.end())).is_err() {
            session.panicked();
        }
    }
}

/// Readable once, then silent until armed again. Errors and hang-ups are always reported.
fn one_event() -> EventFlags {
    EventFlags::IN | EventFlags::ONESHOT
}
