//! The queue of mounts that are being opened.
//!
//! Opening an image waits for registries, so it has threads and a bound of its own. Quick questions and other
//! registries go on while one hangs. At most [`PER_ORIGIN`] images of one registry are opened at a time; the rest waits
//! without a thread. A client that hung up gets no mount: it is looked for before its image is opened, and before the
//! mount is made.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;

use dimsum_source::Schemes;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::debug;

use super::Server;
use super::clients::Connection;
use crate::{Error, MountRequest};

/// Images that are opened at the same time; each is a thread that may wait.
const MAX_OPENING: usize = 64;

/// Images of one registry that are opened at the same time. Eight fill its link; a registry that hangs holds no more threads.
const PER_ORIGIN: usize = 8;

/// Clients that may wait for their turn; each is one descriptor and a request of some hundred bytes.
const MAX_WAITING: usize = 1024;

/// One client that waits for a mount.
struct OpenJob {
    request: MountRequest,
    client: Connection,
    /// The registry, or the place on disk.
    origin: String,
}

/// The queue.
#[derive(Default)]
pub(super) struct OpenQueue {
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<OpenJob>,
    /// How many are being opened, by origin.
    running: HashMap<String, usize>,
    threads: usize,
}

/// Puts a request into the queue. Its client is answered when the image is open, or now if too many wait.
pub(super) fn submit(server: &Arc<Server>, request: MountRequest, client: Connection) {
    let job = OpenJob { origin: origin_of(&server.engine.schemes(), &request), request, client };
    match server.opens.add(job) {
        Err(job) => job.client.answer(&job.request.reference, Err(Error::TooManyOpens { limit: MAX_WAITING })),
        Ok(false) => {}
        Ok(true) => {
            let worker = OpenWorker { server: Arc::clone(server) };
            let thread = std::thread::Builder::new().name("open".to_owned()).spawn(move || worker.run());
            if let Err(error) = thread {
                server.hub.log.line(format_args!("cannot start a thread that opens an image: {error}"));
            }
        }
    }
}

impl OpenQueue {
    /// Returns how many clients wait for a mount.
    pub(super) fn len(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.running.values().sum::<usize>()
    }

    /// Adds a job, or gives it back. Says whether a thread is to be started for it, which is counted already.
    fn add(&self, job: OpenJob) -> Result<bool, Box<OpenJob>> {
        let mut state = self.state.lock();
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.retain(|job| job.client.is_there());
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(Box::new(job));
        }
        state.waiting.push_back(job);
        // A thread that has finished a job looks for the next under this lock.
        let starts = state.threads < MAX_OPENING && state.next().is_some();
        state.threads += usize::from(starts);
        Ok(starts)
    }

    /// Returns the next job after one of `done`; without one, the calling thread is counted out.
    fn next(&self, done: Option<&str>) -> Option<OpenJob> {
        let mut state = self.state.lock();
        if let Some(origin) = done {
            state.release(origin);
        }
        let job = state.take();
        if job.is_none() {
            state.threads = state.threads.saturating_sub(1);
        }
        job
    }
}

impl QueueState {
    /// Returns the place of the first job whose registry has a free slot.
    fn next(&self) -> Option<usize> {
        let has_slot = |job: &OpenJob| self.running.get(&job.origin).is_none_or(|&running| running < PER_ORIGIN);
        self.waiting.iter().position(has_slot)
    }

    fn take(&mut self) -> Option<OpenJob> {
        let job = self.waiting.remove(self.next()?)?;
        *self.running.entry(job.origin.clone()).or_default() += 1;
        Some(job)
    }

    fn release(&mut self, origin: &str) {
        if let Some(running) = self.running.get_mut(origin) {
            *running = running.saturating_sub(1);
        }
        self.running.retain(|_, running| *running > 0);
    }
}

/// A thread that opens images until none waits that it may open.
struct OpenWorker {
    server: Arc<Server>,
}

impl OpenWorker {
    fn run(self) {
        let mut done: Option<String> = None;
        while let Some(job) = self.server.opens.next(done.as_deref()) {
            let OpenJob { request, client, origin } = job;
            // A panic must not take the slot of the registry along.
            let span = client.span();
            let open = std::panic::AssertUnwindSafe(|| span.in_scope(|| self.open(&request, client)));
            if std::panic::catch_unwind(open).is_err() {
                self.server.hub.log.line("opening an image panicked");
            }
            done = Some(origin);
        }
    }

    fn open(&self, request: &MountRequest, client: Connection) {
        if !client.is_there() {
            return;
        }
        debug!(reference = request.reference, "opens the image for a mount");
        match self.server.mount(request, &client) {
            // The client got nothing; the mount's only descriptor is closed, so it ends.
            Err(Error::ClientGone) => {}
            made => client.answer(&request.reference, made),
        }
    }
}

/// Returns the registry of a request, or the place on disk that its image comes from.
fn origin_of(schemes: &Schemes, request: &MountRequest) -> String {
    match schemes.parse(&request.reference) {
        Ok(reference) => match reference.repository() {
            Some(repository) => repository.host().to_owned(),
            None => reference.location(),
        },
        Err(_) => request.reference.clone(),
    }
}

/// Says whether the other end of a connection is still there.
pub(super) fn is_connected(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
    // Without an answer it counts as there: sending will find out.
    poll(&mut fds, Some(&Timespec::default())).map_or(true, |ready| ready == 0)
}

#[cfg(test)]
mod tests {
    use dimsum_engine::{Engine, EngineConfig};

    use super::*;

    #[test]
    fn images_of_one_registry_share_its_slots() {
        let engine = Engine::new(EngineConfig::new("/store", "/key"));
        let origin = |reference: &str| {
            let request = MountRequest { reference: reference.to_owned(), ..crate::wire::tests::mount_request() };
            origin_of(&engine.schemes(), &request)
        };
        let registry = origin("docker://registry.test:5000/one/app:1");
        assert_eq!(registry, origin(&format!("registry.test:5000/other@sha256:{}", "0".repeat(64))));
        assert_ne!(registry, origin("docker://other.test/one/app:1"));
        assert_ne!(origin("oci:/a:tag"), origin("oci:/b:tag"));
        assert_eq!(origin("oci:/a:tag"), origin("oci:/a:other"));
    }
}
