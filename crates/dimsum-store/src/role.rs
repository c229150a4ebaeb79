//! Who writes the store's files in place: one process at a time, the owner. Why is said in
//! `docs/design/0001-one-writer-per-store.md`.
//!
//! The owner holds an exclusive `flock` on `writer.lock` as long as it has an image open. Every other process is a
//! guest: it reads and proves what is there and keeps in memory what it fetches. A thread of a guest waits for the
//! lock. So a server that was started beside a short command becomes the owner when that command ends. `flock` belongs
//! to the open file, so a process that was killed holds nothing.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FlockOperation, flock};

use crate::disk::layout;

/// Name of the file that the owner locks.
const WRITER_LOCK: &str = "writer.lock";
/// How often a guest asks for the lock if nothing tells that it may be free. A watch on the lock file tells it at once.
const LOCK_PAUSE: Duration = Duration::from_secs(2);
/// How soon it asks again after the file was closed by somebody: the kernel tells of closing before it takes the lock away.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How often it asks so.
const LOCK_RETRIES: u32 = 10;

/// What a process may do with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreRole {
    /// It writes and repairs the store's files.
    Owner,
    /// Another process is the owner: this one reads, and keeps what it fetches in memory.
    Guest,
}

/// The role, as it is now.
#[derive(Debug, Default)]
pub(crate) struct RoleFlag(AtomicBool);

impl RoleFlag {
    pub(crate) fn is_owner(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The lock, or the wait for it.
#[derive(Debug)]
pub(crate) struct WriterLock {
    flag: Arc<RoleFlag>,
    /// Kept open as long as the store is the owner.
    held: Arc<Mutex<Option<File>>>,
    /// Ends the wait.
    end: Option<Arc<OwnedFd>>,
}

impl WriterLock {
    /// Takes the lock if it is free; else waits for it in the background, and calls `ready` before this process becomes the owner.
    pub(crate) fn take(root: &Path, flag: &Arc<RoleFlag>, ready: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let path = root.join(WRITER_LOCK);
        let file = layout::open_or_create(&path)?;
        let (flag, held) = (Arc::clone(flag), Arc::new(Mutex::new(None)));
        // A file system without locks cannot tell processes apart: each writes, as every byte is proven at each read anyway.
        if try_lock(&file).unwrap_or(true) {
            *held.lock() = Some(file);
            flag.0.store(true, Ordering::Relaxed);
            return Ok(Self { flag, held, end: None });
        }
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let wait = LockWait { watch: watch(&path).ok(), end: Arc::clone(&end) };
        let (flag_there, held_there) = (Arc::clone(&flag), Arc::clone(&held));
        let work = move || {
            if wait.until_locked(&file) {
                ready();
                let mut held = held_there.lock();
                // Unless it was given up in this moment: then the file closes here.
                if wait.is_wanted() {
                    *held = Some(file);
                    flag_there.0.store(true, Ordering::Relaxed);
                }
            }
        };
        drop(std::thread::Builder::new().name("dimsum-writer".to_owned()).spawn(work)?);
        Ok(Self { flag, held, end: Some(end) })
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            // Cannot fail: the counter is far from its end.
            let _ = rustix::io::write(end, &1u64.to_ne_bytes());
        }
        let mut held = self.held.lock();
        if held.is_some() {
            self.flag.0.store(false, Ordering::Relaxed);
        }
        drop(held.take());
    }
}

/// A guest's wait for the lock.
struct LockWait {
    /// Tells when somebody closes the lock file; nothing where the kernel has no watch left.
    watch: Option<OwnedFd>,
    end: Arc<OwnedFd>,
}

impl LockWait {
    /// Waits until the lock is taken; `false` if the store was closed first.
    fn until_locked(&self, file: &File) -> bool {
        let mut retries = 0;
        loop {
            let pause = if retries > 0 { LOCK_RETRY } else { LOCK_PAUSE };
            match self.pause(pause) {
                LockEvent::End => return false,
                LockEvent::Closed => retries = LOCK_RETRIES,
                LockEvent::Nothing => retries = retries.saturating_sub(1),
            }
            match try_lock(file) {
                Ok(true) => return true,
                Ok(false) => {}
                // A file system without locks has no owner.
                Err(_) => return false,
            }
        }
    }

    /// Says whether the lock is still wanted.
    fn is_wanted(&self) -> bool {
        !matches!(self.pause(Duration::ZERO), LockEvent::End)
    }

    fn pause(&self, pause: Duration) -> LockEvent {
        let timeout = Timespec::try_from(pause).ok();
        let mut waited = vec![PollFd::new(&*self.end, PollFlags::IN)];
        waited.extend(self.watch.iter().map(|watch| PollFd::new(watch, PollFlags::IN)));
        if poll(&mut waited, timeout.as_ref()).is_err() {
            return LockEvent::Nothing;
        }
        let told: Vec<bool> = waited.iter().map(|each| !each.revents().is_empty()).collect();
        match (told.first(), told.get(1), &self.watch) {
            (Some(true), ..) => LockEvent::End,
            (_, Some(true), Some(watch)) => {
                let mut events = [0; 4096];
                let _ = rustix::io::read(watch, &mut events);
                LockEvent::Closed
            }
            _ => LockEvent::Nothing,
        }
    }
}

enum LockEvent {
    /// The store is closed.
    End,
    /// Somebody has closed the lock file.
    Closed,
    /// The time is over.
    Nothing,
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn watch(path: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, path, WatchFlags::CLOSE_WRITE)?;
    Ok(watch)
}
