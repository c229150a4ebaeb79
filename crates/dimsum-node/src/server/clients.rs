//! Clients: one thread for each connection while it is talked to, one request on each.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dimsum_engine::{CancelReason, CancelToken};
use dimsum_store::StoreRole;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::geteuid;
use tracing::{Span, debug, debug_span};

use super::opens::{is_connected, submit};
use super::{Server, flights};
use crate::error::with_causes;
use crate::wire::{MAX_REQUEST, WireRequest, WireResponse, receive_message, send_message};
use crate::{Error, ServerInfo};

/// How long a client may take to say what it wants, and to take its answer: it has it in memory.
const TALK_DEADLINE: Duration = Duration::from_secs(10);

/// What a failure is about if a request names no image.
const SERVER: &str = "the server of the store";

/// What a client is answered: a message, perhaps with the descriptor of a mount.
pub(super) type ClientAnswer = Result<(WireResponse, Option<OwnedFd>), Error>;

/// A client that waits for its answer. Fields are dropped in this order: the client sees the end of its connection before
/// the server counts it out.
pub(super) struct Connection {
    /// Shared with the token that watches it, which holds it only while it looks.
    socket: Arc<OwnedFd>,
    /// Goes with the request to the threads that work for it.
    span: Span,
    counted: CountedClient,
}

/// Counts a client out when its connection ends, however it does.
struct CountedClient {
    server: Arc<Server>,
}

/// Counts a thread out that talks to a client.
struct TalkingThread {
    server: Arc<Server>,
}

impl Drop for CountedClient {
    fn drop(&mut self) {
        *self.server.last_asked.lock() = Instant::now();
        self.server.clients.fetch_sub(1, Ordering::AcqRel);
        self.server.hub.wake();
    }
}

impl Drop for TalkingThread {
    fn drop(&mut self) {
        self.server.talking.fetch_sub(1, Ordering::AcqRel);
        self.server.hub.wake();
    }
}

/// Accepts a client and talks to it on a thread of its own.
pub(super) fn accept(server: &Arc<Server>, listener: &OwnedFd) {
    // A client that is gone again is nobody's trouble.
    let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC) else {
        return;
    };
    server.clients.fetch_add(1, Ordering::AcqRel);
    server.talking.fetch_add(1, Ordering::AcqRel);
    *server.last_asked.lock() = Instant::now();
    let span = debug_span!("client", client = server.came.fetch_add(1, Ordering::Relaxed) + 1);
    let counted = CountedClient { server: Arc::clone(server) };
    let client = Connection { socket: Arc::new(socket), span, counted };
    let talking = TalkingThread { server: Arc::clone(server) };
    let thread = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
        client.serve();
        drop(talking);
    });
    if let Err(error) = thread {
        server.hub.log.line(format_args!("cannot start a thread for a client: {error}"));
    }
}

impl Connection {
    /// Says whether the client is still there.
    pub(super) fn is_there(&self) -> bool {
        is_connected(&*self.socket)
    }

    /// Returns a token that ends work for a client that hung up.
    pub(super) fn token(&self) -> CancelToken {
        let socket = Arc::downgrade(&self.socket);
        CancelToken::watching(move || {
            let is_there = socket.upgrade().is_some_and(|socket| is_connected(&*socket));
            (!is_there).then_some(CancelReason::Caller)
        })
    }

    /// Returns the span of the request.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Sends the answer to a request about `object` and ends the connection.
    pub(super) fn answer(self, object: &str, answer: ClientAnswer) {
        let log = &self.counted.server.hub.log;
        debug!(parent: &self.span, done = answer.is_ok(), "is answered");
        let sent = match answer {
            // Our descriptor of a mount is closed here, before the connection: the client waits for that.
            Ok((response, fd)) => send_message(self.socket.as_fd(), &response, fd.as_ref().map(AsFd::as_fd)),
            Err(error) => {
                log.line(with_causes(&error));
                let failure = error.to_wire(object);
                send_message(self.socket.as_fd(), &WireResponse::Failed(failure), None)
            }
        };
        if let Err(error) = sent {
            log.line(format_args!("a client did not take its answer: {}", with_causes(&error)));
        }
    }

    /// Takes the request and answers it, or leaves it to the queue of opens.
    fn serve(self) {
        let server = Arc::clone(&self.counted.server);
        if !self.is_allowed() {
            server.hub.log.line("a client of another user was turned away");
            return;
        }
        // Without the limits a silent client would hold a thread; a socket always has these options.
        for which in [Timeout::Recv, Timeout::Send] {
            drop(set_socket_timeout(&*self.socket, which, Some(TALK_DEADLINE)).map_err(std::io::Error::from));
        }
        match receive_message::<WireRequest>(&*self.socket, MAX_REQUEST) {
            Ok((request, _)) => {
                debug!(parent: &self.span, request = request.name(), "asks");
                match request {
                    WireRequest::Mount(request) => submit(&server, request, self),
                    request => self.answer(SERVER, quick_answer(&server, &request)),
                }
            }
            Err(error) => self.answer(SERVER, Err(error)),
        }
    }

    /// The socket's mode keeps others out; this does so wherever the store lies.
    fn is_allowed(&self) -> bool {
        socket_peercred(&*self.socket).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
    }
}

/// Answers what needs no disk and no network.
fn quick_answer(server: &Arc<Server>, request: &WireRequest) -> ClientAnswer {
    let response = match request {
        WireRequest::Mount(_) => return Err(Error::WrongAnswer),
        WireRequest::List => WireResponse::Mounts { mounts: server.mounts.all() },
        WireRequest::Stats { id } => match server.mounts.one(*id) {
            Some(mount) => WireResponse::Mounts { mounts: vec![mount] },
            None => return Err(Error::NoMount { id: *id }),
        },
        WireRequest::Info => WireResponse::Info(info(server)),
        WireRequest::Flights => flights::list(server.engine.store()?),
        WireRequest::FlushLog => {
            server.hub.log.flush();
            WireResponse::Flushed
        }
        WireRequest::Shutdown => {
            server.closing.store(true, Ordering::Release);
            server.hub.log.line("asked to end when nothing is mounted");
            WireResponse::Closing { mounts: server.mounts.len() }
        }
    };
    Ok((response, None))
}

fn info(server: &Server) -> ServerInfo {
    ServerInfo {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: server.engine.config().store.display().to_string(),
        mounts: server.mounts.len(),
        opening: server.opens.len(),
        fuse_threads: server.drivers.iter().map(|driver| driver.threads()).sum(),
        seconds: server.started.elapsed().as_secs(),
        closing: server.closing.load(Ordering::Acquire),
        keeper_version: server.hub.link.keeper_version(),
        is_owner: server.engine.store().is_ok_and(|store| store.role() == StoreRole::Owner),
    }
}
