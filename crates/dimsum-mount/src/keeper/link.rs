//! The server's end: what it got from the keeper at its start, and how it asks for mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use dimsum_sys::fd::take_inherited;
use parking_lot::Mutex;
use rustix::io::Errno;

use super::held::{HeldDescriptor, HeldMount, ROLE_FUSE};
use super::message::{FLAG_DEV, FLAG_SUID, MAX_PACKET, MAX_RECORD, Packet, PacketKind, VERSION_OF_ROLES};
use crate::Error;
use crate::passing::{receive, send};

/// What a server inherits from its keeper.
#[derive(Debug)]
pub struct Inherited {
    /// The socket to the keeper.
    pub link: Link,
    /// The listening socket of the store, non-blocking. The keeper holds it too: connections that come while no server
    /// runs wait for the next one.
    pub listener: OwnedFd,
    /// The store's lock, held as long as any descriptor of it is open. If the keeper dies, no second server starts
    /// while this one still serves.
    pub lock: OwnedFd,
}

impl Inherited {
    /// Takes over the descriptors that the argument of [`super::INHERITED_FLAG`] names.
    ///
    /// # Errors
    /// [`Error::Inherited`] if it does not name three inherited descriptors.
    pub fn take(text: &str) -> Result<Self, Error> {
        let bad = |source| Error::Inherited { text: text.to_owned(), source };
        let numbers: Result<Vec<RawFd>, _> = text.split(',').map(str::parse).collect();
        let Ok(&[link, listener, lock]) = numbers.as_deref() else {
            return Err(bad(None));
        };
        let take = |number| take_inherited(number).map_err(|source| bad(Some(source)));
        Ok(Self { link: Link::new(take(link)?), listener: take(listener)?, lock: take(lock)? })
    }
}

/// How a mount is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// What mount tables show as the source.
    pub source_name: String,
    /// Set-user-id bits and file capabilities take effect.
    pub suid: bool,
    /// Device nodes can be opened.
    pub dev: bool,
}

/// A mount that the keeper made and holds.
#[derive(Debug)]
pub struct Opened {
    /// Its number in this keeper; never used again.
    pub id: u64,
    /// The session, to be served.
    pub session: OwnedFd,
    /// The mount, to be attached. The keeper has no other descriptor of it: closed unattached, the session ends.
    pub mount: OwnedFd,
}

/// A mount that the keeper held while its server ended.
#[derive(Debug)]
pub struct Held {
    /// Its number.
    pub id: u64,
    /// Its descriptors, and what was agreed with the kernel.
    pub mount: HeldMount,
    /// What the server gave the keeper to keep.
    pub record: Vec<u8>,
}

/// The server's end of the socket. Requests that are answered exclude one another; notes can be sent at any time.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    asking: Mutex<()>,
    /// The version of the keeper; it is in each of its answers.
    version: AtomicU16,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, asking: Mutex::new(()), version: AtomicU16::new(1) }
    }

    /// Asks for a mount. The keeper has the `record` from then on.
    ///
    /// # Errors
    /// [`Error::Refused`] if the keeper cannot make it, [`Error::KeeperGone`], [`Error::Link`].
    pub fn open(&self, options: &OpenOptions, record: &[u8]) -> Result<Opened, Error> {
        let flags = [(options.suid, FLAG_SUID), (options.dev, FLAG_DEV)];
        let packet = Packet {
            flags: flags.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| *flag).sum(),
            first: options.source_name.clone().into_bytes(),
            rest: record.to_vec(),
            ..Packet::new(PacketKind::Open, 0)
        };
        let _asking = self.asking.lock();
        self.send(&packet)?;
        let (answer, fds) = self.receive()?;
        match (answer.kind, <[OwnedFd; 2]>::try_from(fds)) {
            (PacketKind::Opened, Ok([session, mount])) => match self.receive()? {
                // From here on the keeper has no descriptor of the mount.
                (Packet { kind: PacketKind::End, .. }, _) => Ok(Opened { id: answer.id, session, mount }),
                _ => Err(Error::Message { reason: "no end of an answer" }),
            },
            (PacketKind::Failed, _) => {
                Err(Error::Refused { reason: String::from_utf8_lossy(&answer.rest).into_owned() })
            }
            _ => Err(Error::Message { reason: "no answer to a request for a mount" }),
        }
    }

    /// Asks for all sessions that are held.
    ///
    /// # Errors
    /// [`Error::KeeperGone`], [`Error::Link`], [`Error::Message`].
    pub fn list(&self) -> Result<Vec<Held>, Error> {
        let _asking = self.asking.lock();
        self.send(&Packet::new(PacketKind::List, 0))?;
        let mut all = Vec::new();
        loop {
            let (packet, fds) = self.receive()?;
            match packet.kind {
                PacketKind::End => return Ok(all),
                PacketKind::Held => all.push(held(packet, fds)?),
                // Of a later version, which this server did not ask for.
                PacketKind::Unknown => {}
                _ => return Err(Error::Message { reason: "no answer to a request for the held mounts" }),
            }
        }
    }

    /// Returns the version of the keeper; known from its first answer on, 1 until then.
    #[must_use]
    pub fn keeper_version(&self) -> u16 {
        self.version.load(Ordering::Relaxed)
    }

    /// Gives the keeper more descriptors of a mount to hold, each with its role.
    ///
    /// # Errors
    /// [`Error::KeeperVersion`] if the keeper is too old for that, [`Error::KeeperGone`], [`Error::Link`].
    pub fn keep(&self, id: u64, descriptors: &[(&str, BorrowedFd<'_>)]) -> Result<(), Error> {
        let version = self.keeper_version();
        if version < VERSION_OF_ROLES {
            return Err(Error::KeeperVersion { version, needed: VERSION_OF_ROLES });
        }
        let roles = descriptors.iter().map(|(role, _)| (*role).to_owned()).collect();
        let fds: Vec<BorrowedFd<'_>> = descriptors.iter().map(|(_, fd)| *fd).collect();
        self.send_with(&Packet { roles, ..Packet::new(PacketKind::Keep, id) }, &fds)
    }

    /// Gives the keeper what was agreed with the kernel. When this returns the keeper has it, even if this process is
    /// killed now: what is sent is delivered.
    ///
    /// # Errors
    /// [`Error::KeeperGone`], [`Error::Link`].
    pub fn negotiated(&self, id: u64, agreement: &[u8]) -> Result<(), Error> {
        self.send(&Packet { first: agreement.to_vec(), ..Packet::new(PacketKind::Negotiated, id) })
    }

    /// Tells the keeper that the kernel released a session.
    ///
    /// # Errors
    /// [`Error::KeeperGone`], [`Error::Link`].
    pub fn closed(&self, id: u64) -> Result<(), Error> {
        self.send(&Packet::new(PacketKind::Closed, id))
    }

    /// Tells the keeper that clients are answered from now on.
    ///
    /// # Errors
    /// [`Error::KeeperGone`], [`Error::Link`].
    pub fn ready(&self) -> Result<(), Error> {
        self.send(&Packet::new(PacketKind::Ready, 0))
    }

    fn send(&self, packet: &Packet) -> Result<(), Error> {
        self.send_with(packet, &[])
    }

    fn send_with(&self, packet: &Packet, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        if packet.rest.len() > MAX_RECORD {
            return Err(Error::Message { reason: "a record above its limit" });
        }
        match send(&self.socket, &packet.encode()?, fds) {
            Ok(_) => Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(Error::KeeperGone),
            Err(source) => Err(Error::Link { action: "send", source }),
        }
    }

    fn receive(&self) -> Result<(Packet, Vec<OwnedFd>), Error> {
        let mut buffer = vec![0; MAX_PACKET];
        let received = match receive(&self.socket, &mut buffer) {
            Ok(received) => received,
            Err(Errno::CONNRESET) => return Err(Error::KeeperGone),
            Err(source) => return Err(Error::Link { action: "receive", source }),
        };
        if received.length == 0 {
            return Err(Error::KeeperGone);
        }
        let packet = Packet::decode(buffer.get(..received.length).unwrap_or_default())?;
        self.version.store(packet.version, Ordering::Relaxed);
        Ok((packet, received.fds))
    }
}

/// Reads the packet of a held mount.
fn held(packet: Packet, fds: Vec<OwnedFd>) -> Result<Held, Error> {
    let mut roles = packet.roles;
    if packet.version < VERSION_OF_ROLES {
        roles.push(ROLE_FUSE.to_owned());
    }
    if roles.len() != fds.len() {
        return Err(Error::Message { reason: "held descriptors without roles" });
    }
    let descriptors = roles.into_iter().zip(fds).map(|(role, fd)| HeldDescriptor { role, fd }).collect();
    Ok(Held { id: packet.id, mount: HeldMount { descriptors, agreement: packet.first }, record: packet.rest })
}

/// To be polled for `POLLHUP` only: the keeper ended.
impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
