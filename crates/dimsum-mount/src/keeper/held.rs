//! The sessions that a keeper holds, and its answers to the server.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dimsum_events::log::LogFile;
use dimsum_fuse::mount::{MountOptions, open_detached};

use super::message::{FLAG_DEV, FLAG_SUID, Kind, MAX_PACKET, MAX_RECORD, Packet};
use crate::Error;
use crate::passing::{receive_now, send};

/// The most sessions held at a time. Each is one descriptor here and one in the server; containers on one node are
/// hundreds.
pub const MAX_HELD: usize = 4096;

/// One session.
#[derive(Debug)]
struct Session {
    fd: OwnedFd,
    /// The bytes of the INIT reply; empty until there was one.
    negotiated: Vec<u8>,
    record: Vec<u8>,
}

/// All sessions of a keeper.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    held: BTreeMap<u64, Session>,
    last_id: u64,
    /// Why no more mounts are made, if so.
    closed: Option<&'static str>,
}

/// What became of the server's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// One packet was taken and answered.
    Packet,
    /// The server says that it is ready.
    Ready,
    /// There is nothing now.
    Nothing,
    /// The server's end is closed: it is ending.
    End,
    /// What came is not of our protocol, or cannot be answered.
    Wrong,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Makes no more mounts, for `reason`.
    pub(super) fn close(&mut self, reason: &'static str) {
        self.closed = Some(reason);
    }

    /// Takes one packet from the server and answers it.
    pub(super) fn take(&mut self, socket: BorrowedFd<'_>, log: &LogFile) -> Taken {
        let mut buffer = vec![0; MAX_PACKET];
        let received = match receive_now(socket, &mut buffer) {
            Ok(received) if received.length == 0 => return Taken::End,
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN) => return Taken::Nothing,
            Err(rustix::io::Errno::CONNRESET) => return Taken::End,
            Err(error) => {
                log.line(format_args!("cannot receive from the server: {error}"));
                return Taken::Wrong;
            }
        };
        let packet = Packet::decode(buffer.get(..received.length).unwrap_or_default());
        match packet.and_then(|packet| self.answer(socket, packet)) {
            Ok(taken) => taken,
            Err(error) => {
                log.line(format_args!("the server's packet: {error}"));
                Taken::Wrong
            }
        }
    }

    fn answer(&mut self, socket: BorrowedFd<'_>, packet: Packet) -> Result<Taken, Error> {
        match packet.kind {
            Kind::Open => self.open(socket, packet)?,
            Kind::Negotiated => {
                if let Some(session) = self.held.get_mut(&packet.id) {
                    session.negotiated = packet.first;
                }
            }
            Kind::Closed => drop(self.held.remove(&packet.id)),
            Kind::List => {
                for (&id, session) in &self.held {
                    let held = Packet {
                        first: session.negotiated.clone(),
                        rest: session.record.clone(),
                        ..Packet::new(Kind::Held, id)
                    };
                    reply(socket, &held, &[session.fd.as_fd()])?;
                }
                reply(socket, &Packet::new(Kind::End, 0), &[])?;
            }
            Kind::Ready => return Ok(Taken::Ready),
            Kind::Opened | Kind::Failed | Kind::Held | Kind::End => {
                return Err(Error::Message { reason: "an answer where a request is expected" });
            }
        }
        Ok(Taken::Packet)
    }

    fn open(&mut self, socket: BorrowedFd<'_>, packet: Packet) -> Result<(), Error> {
        let refuse = |reason: &str| {
            // An error text may be long, its start says what it is.
            let rest = reason.as_bytes().get(..MAX_RECORD).unwrap_or(reason.as_bytes()).to_vec();
            reply(socket, &Packet { rest, ..Packet::new(Kind::Failed, 0) }, &[])
        };
        if let Some(reason) = self.closed {
            return refuse(reason);
        }
        if self.held.len() >= MAX_HELD {
            return refuse(&format!("{MAX_HELD} images are mounted already"));
        }
        let mut options = MountOptions::new(String::from_utf8_lossy(&packet.first));
        options.nosuid = packet.flags & FLAG_SUID == 0;
        options.nodev = packet.flags & FLAG_DEV == 0;
        let made = match open_detached(&options) {
            Ok(made) => made,
            Err(error) => return refuse(&with_causes(&error)),
        };
        self.last_id += 1;
        let id = self.last_id;
        // Held before the server knows of it; if it cannot be told, the mount ends with its only descriptor.
        let fd = made.session.try_clone().map_err(Error::system("duplicate a session"))?;
        self.held.insert(id, Session { fd, negotiated: Vec::new(), record: packet.rest });
        let told = reply(socket, &Packet::new(Kind::Opened, id), &[made.session.as_fd(), made.mount.as_fd()]);
        if told.is_err() {
            self.held.remove(&id);
        }
        told?;
        // A descriptor of the mount keeps it busy. Whoever got ours must be able to rely on having the only one.
        drop(made);
        reply(socket, &Packet::new(Kind::End, id), &[])
    }
}

fn reply(socket: BorrowedFd<'_>, packet: &Packet, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    // May wait while the server does not read: the server is all that a keeper answers, and its end wakes us.
    match send(socket, &packet.encode()?, fds) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Link { action: "send", source }),
    }
}

/// Returns an error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
