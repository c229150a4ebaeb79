//! Clients: one thread for each connection, one request on each.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::geteuid;

use super::Server;
use crate::error::with_causes;
use crate::protocol::{MAX_REQUEST, Request, Response, receive_message, send_message};
use crate::{Error, Failure, FailureKind, ServerInfo};

/// How long a client may take to say what it wants, and to take its answer: it has it in memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Accepts a client and serves it on a thread of its own.
pub(super) fn accept(server: &Arc<Server>, listener: &OwnedFd) {
    // A client that is gone again is nobody's trouble.
    let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC) else {
        return;
    };
    server.clients.fetch_add(1, Ordering::AcqRel);
    *server.last_asked.lock() = Instant::now();
    let leaving = Leaving { server: Arc::clone(server) };
    let thread = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
        serve(&leaving.server, &socket);
        drop(socket);
        drop(leaving);
    });
    if let Err(error) = thread {
        server.hub.log.line(format_args!("cannot start a thread for a client: {error}"));
    }
}

/// Counts a client out when its thread ends, however it does.
struct Leaving {
    server: Arc<Server>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        *self.server.last_asked.lock() = Instant::now();
        self.server.clients.fetch_sub(1, Ordering::AcqRel);
        self.server.hub.wake();
    }
}

fn serve(server: &Arc<Server>, socket: &OwnedFd) {
    if !is_allowed(socket) {
        server.hub.log.line("a client of another user was turned away");
        return;
    }
    // Without the limits a silent client would hold a thread; a socket always has these options.
    for which in [Timeout::Recv, Timeout::Send] {
        drop(set_socket_timeout(socket, which, Some(PATIENCE)).map_err(std::io::Error::from));
    }
    let request = receive_message::<Request>(socket, MAX_REQUEST);
    let answer = request.and_then(|(request, _)| answer(server, request));
    let sent = match answer {
        // Our descriptor of a mount is closed here, before the connection: the client waits for that.
        Ok((response, fd)) => send_message(socket.as_fd(), &response, fd.as_ref().map(AsFd::as_fd)),
        Err(error) => {
            server.hub.log.line(with_causes(&error));
            let failure = Failure { kind: error.kind(), message: with_causes(&error) };
            send_message(socket.as_fd(), &Response::Failed(failure), None)
        }
    };
    if let Err(error) = sent {
        server.hub.log.line(format_args!("a client did not take its answer: {}", with_causes(&error)));
    }
}

/// The socket's mode keeps others out; this does so wherever the store lies.
fn is_allowed(socket: &OwnedFd) -> bool {
    socket_peercred(socket).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}

fn answer(server: &Arc<Server>, request: Request) -> Result<(Response, Option<OwnedFd>), Error> {
    Ok(match request {
        Request::Mount(request) => {
            let (id, mount) = server.mount(request)?;
            (Response::Mounted { id }, Some(mount))
        }
        Request::List => (Response::Mounts { mounts: server.mounts.all() }, None),
        Request::Stats { id } => match server.mounts.one(id) {
            Some(mount) => (Response::Mounts { mounts: vec![mount] }, None),
            None => {
                let message = format!("there is no mount {id}");
                return Err(Error::Server(Failure { kind: FailureKind::NoMount, message }));
            }
        },
        Request::Info => (Response::Info(info(server)), None),
        Request::FlushLog => {
            server.hub.log.flush();
            (Response::Flushed, None)
        }
        Request::Shutdown => {
            server.closing.store(true, Ordering::Release);
            server.hub.log.line("asked to end when nothing is mounted");
            (Response::Closing { mounts: server.mounts.len() }, None)
        }
    })
}

fn info(server: &Server) -> ServerInfo {
    ServerInfo {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: server.store_path.display().to_string(),
        mounts: server.mounts.len(),
        fuse_threads: server.pool.threads(),
        seconds: server.started.elapsed().as_secs(),
        closing: server.closing.load(Ordering::Acquire),
    }
}
