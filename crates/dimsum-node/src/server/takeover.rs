//! Taking over the sessions that the keeper held while their server was gone.
//!
//! Readers are waiting, so this comes before anything else. Each image is opened again from the record that the keeper
//! kept in its memory (so the digest is the one the client gave, whatever happened to the store meanwhile). One that
//! cannot be opened is not dropped: it answers `EIO`, and is tried again when somebody reads.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use dimsum_fuse::{Errno, Filesystem, InitReply, Reply, Request, Session};
use dimsum_mount::fuse::{FuseDriver, Observer, SESSION_OPTIONS};
use dimsum_mount::keeper::Held;
use parking_lot::Mutex;

use super::Server;
use super::hub::MountObserver;
use super::mounts::{Driver, Mount};
use crate::error::with_causes;
use crate::{Error, MountRequest};

/// Images that are opened at the same time: each may wait for disk or network.
const MAX_OPENING: usize = 8;

/// How long an image that could not be opened is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Takes over all sessions. Returns when each is served, by its image or by `EIO`.
pub(super) fn adopt_held(server: &Arc<Server>) -> Result<(), Error> {
    let held = Mutex::new(server.hub.link.list()?);
    let count = held.lock().len();
    if count == 0 {
        return Ok(());
    }
    std::thread::scope(|scope| {
        for _ in 0..count.min(MAX_OPENING) {
            scope.spawn(|| {
                loop {
                    let next = held.lock().pop();
                    let Some(session) = next else {
                        break;
                    };
                    let id = session.id;
                    if let Err(error) = adopt(server, session) {
                        server.hub.log.line(format_args!("mount {id} cannot be taken over: {}", with_causes(&error)));
                        // Held on to, it would let its readers wait for ever; let go, they get an error.
                        drop(server.hub.link.closed(id));
                    }
                }
            });
        }
    });
    server.hub.log.line(format_args!("{count} mounts were taken over"));
    Ok(())
}

fn adopt(server: &Arc<Server>, held: Held) -> Result<(), Error> {
    let request: MountRequest = serde_json::from_slice(&held.record).map_err(|source| Error::Message { source })?;
    let opened = server.open_image(&request).and_then(|image| server.driver(held.id, &request, image));
    let (filesystem, driver): (Arc<dyn Filesystem>, Driver) = match opened {
        Ok(driver) => (Arc::<FuseDriver>::clone(&driver), Driver::Fuse(driver)),
        Err(error) => {
            let reason = with_causes(&error);
            server.hub.log.line(format_args!("mount {}: EIO until the image can be opened: {reason}", held.id));
            let late = Arc::new(Late {
                server: Arc::downgrade(server),
                observer: server.observer(held.id, &request),
                request: request.clone(),
                state: Mutex::new(State::closed(reason)),
            });
            (Arc::<Late>::clone(&late), Driver::Late(late))
        }
    };
    let adopted = Session::adopt(
        held.session.try_clone().map_err(Error::system("duplicate a session"))?,
        held.negotiated,
        SESSION_OPTIONS,
        Arc::clone(&filesystem),
    );
    let session = match (adopted, held.negotiated) {
        // Before Linux 6.9: requests in flight stay unanswered until their readers are killed.
        (Err(dimsum_fuse::Error::NoResend), Some(negotiated)) => {
            Session::adopt_without_resend(held.session, negotiated, SESSION_OPTIONS, filesystem)?
        }
        (adopted, _) => adopted?,
    };
    server.mounts.insert(Mount::new(held.id, request, session.clone(), driver));
    if let Err(error) = server.pool.serve(&session) {
        server.mounts.remove(held.id);
        return Err(error.into());
    }
    Ok(())
}

/// A file system whose image is opened when it can be.
pub(super) struct Late {
    /// Asked for by threads of its own only, see [`super::hub`].
    server: Weak<Server>,
    observer: MountObserver,
    request: MountRequest,
    state: Mutex<State>,
}

enum State {
    Opened(Arc<FuseDriver>),
    Closed { reason: String, tried: Instant, trying: bool },
}

impl State {
    fn closed(reason: String) -> Self {
        Self::Closed { reason, tried: Instant::now(), trying: false }
    }
}

impl Late {
    pub(super) fn driver(&self) -> Option<Arc<FuseDriver>> {
        match &*self.state.lock() {
            State::Opened(driver) => Some(Arc::clone(driver)),
            State::Closed { .. } => None,
        }
    }

    pub(super) fn reason(&self) -> Option<String> {
        match &*self.state.lock() {
            State::Opened(_) => None,
            State::Closed { reason, .. } => Some(reason.clone()),
        }
    }

    /// Says whether the image is to be tried now, by the caller.
    fn is_due(&self) -> bool {
        match &mut *self.state.lock() {
            State::Closed { tried, trying, .. } if !*trying && tried.elapsed() >= RETRY_AFTER => {
                *trying = true;
                true
            }
            _ => false,
        }
    }

    fn try_again(&self, server: &Server) {
        let id = self.observer.id;
        let opened = server.open_image(&self.request).and_then(|image| server.driver(id, &self.request, image));
        *self.state.lock() = match opened {
            Ok(driver) => {
                server.hub.log.line(format_args!("mount {id}: the image is open again"));
                State::Opened(driver)
            }
            Err(error) => State::closed(with_causes(&error)),
        };
    }
}

impl Filesystem for Late {
    fn handle(&self, request: &Request<'_>, reply: Reply) {
        if let Some(driver) = self.driver() {
            return driver.handle(request, reply);
        }
        if self.is_due() {
            // Opening waits, and this is a thread of the pool.
            let (server, id) = (Weak::clone(&self.server), self.observer.id);
            let retry = move || {
                if let Some(server) = server.upgrade()
                    && let Some(late) = server.mounts.late(id)
                {
                    late.try_again(&server);
                }
            };
            drop(std::thread::Builder::new().name("reopen".to_owned()).spawn(retry));
        }
        reply.error(Errno::IO);
    }

    fn negotiated(&self, reply: &InitReply) {
        self.observer.negotiated(reply);
    }

    fn destroyed(&self) {
        self.observer.released();
    }
}
