//! The mounts that a keeper holds, and its answers to the server.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dimsum_events::log::LogFile;
use dimsum_fuse::mount::{MountOptions, open_detached};
use dimsum_source::with_causes;
use tracing::debug;

use super::message::{FLAG_DEV, FLAG_SUID, MAX_PACKET, MAX_RECORD, Packet, PacketKind, VERSION_OF_ROLES};
use crate::Error;
use crate::passing::{receive_now, send};

/// The most mounts held at a time. Each is one descriptor or a few here and in the server; containers on one node are
/// hundreds.
pub const MAX_HELD: usize = 4096;

/// The most descriptors of one mount: a session, and what a driver of block devices needs (device, backing file, control).
pub const MAX_DESCRIPTORS: usize = 8;

/// The role of a FUSE session's descriptor. What a keeper of version 1 holds has this role.
pub const ROLE_FUSE: &str = "fuse";

/// The most bytes of a role.
const MAX_ROLE: usize = 64;

/// A descriptor that a keeper holds for a mount.
#[derive(Debug)]
pub struct HeldDescriptor {
    /// The part it plays for its driver.
    pub role: String,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// A mount whose server ended while the keeper held its descriptors.
#[derive(Debug)]
pub struct HeldMount {
    /// The descriptors.
    pub descriptors: Vec<HeldDescriptor>,
    /// What was agreed with the kernel; empty if it was not.
    pub agreement: Vec<u8>,
}

/// One mount.
#[derive(Debug)]
struct KeptMount {
    /// Never empty: the session is the first.
    descriptors: Vec<HeldDescriptor>,
    /// The bytes of the INIT reply; empty until there was one.
    negotiated: Vec<u8>,
    record: Vec<u8>,
}

/// All mounts of a keeper.
#[derive(Debug, Default)]
pub(super) struct KeptMounts {
    held: BTreeMap<u64, KeptMount>,
    last_id: u64,
    /// Why no more mounts are made, if so.
    closed: Option<&'static str>,
}

/// What came from the server's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketOutcome {
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

impl KeptMounts {
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
    pub(super) fn take(&mut self, socket: BorrowedFd<'_>, log: &LogFile) -> PacketOutcome {
        let mut buffer = vec![0; MAX_PACKET];
        let received = match receive_now(socket, &mut buffer) {
            Ok(received) if received.length == 0 => return PacketOutcome::End,
            Ok(received) => received,
            Err(rustix::io::Errno::AGAIN) => return PacketOutcome::Nothing,
            Err(rustix::io::Errno::CONNRESET) => return PacketOutcome::End,
            Err(error) => {
                log.line(format_args!("cannot receive from the server: {error}"));
                return PacketOutcome::Wrong;
            }
        };
        let packet = Packet::decode(buffer.get(..received.length).unwrap_or_default());
        match packet.and_then(|packet| self.answer(socket, packet, received.fds)) {
            Ok(taken) => taken,
            Err(error) => {
                log.line(format_args!("the server's packet: {error}"));
                PacketOutcome::Wrong
            }
        }
    }

    fn answer(&mut self, socket: BorrowedFd<'_>, packet: Packet, fds: Vec<OwnedFd>) -> Result<PacketOutcome, Error> {
        debug!(mount = packet.id, kind = ?packet.kind, "the server asks");
        match packet.kind {
            PacketKind::Open => self.open(socket, packet)?,
            PacketKind::Negotiated => {
                if let Some(mount) = self.held.get_mut(&packet.id) {
                    mount.negotiated = packet.first;
                }
            }
            PacketKind::Keep => self.keep(packet, fds)?,
            PacketKind::Closed => drop(self.held.remove(&packet.id)),
            PacketKind::List => {
                for (&id, mount) in &self.held {
                    mount.tell(socket, id, packet.version)?;
                }
                reply(socket, &Packet::new(PacketKind::End, 0), &[])?;
            }
            PacketKind::Ready => return Ok(PacketOutcome::Ready),
            // A server of a later version: it does not wait for an answer that this version does not know.
            PacketKind::Unknown => {}
            PacketKind::Opened | PacketKind::Failed | PacketKind::Held | PacketKind::End => {
                return Err(Error::Message { reason: "an answer where a request is expected" });
            }
        }
        Ok(PacketOutcome::Packet)
    }

    /// Keeps more descriptors of a mount.
    fn keep(&mut self, packet: Packet, fds: Vec<OwnedFd>) -> Result<(), Error> {
        // A mount that ended meanwhile needs nothing.
        let Some(mount) = self.held.get_mut(&packet.id) else {
            return Ok(());
        };
        if fds.len() != packet.roles.len() || packet.roles.iter().any(|role| role.is_empty() || role.len() > MAX_ROLE) {
            return Err(Error::Message { reason: "descriptors without roles" });
        }
        if mount.descriptors.len() + fds.len() > MAX_DESCRIPTORS {
            return Err(Error::Message { reason: "more descriptors of a mount than a keeper holds" });
        }
        let more = packet.roles.into_iter().zip(fds).map(|(role, fd)| HeldDescriptor { role, fd });
        mount.descriptors.extend(more);
        Ok(())
    }

    fn open(&mut self, socket: BorrowedFd<'_>, packet: Packet) -> Result<(), Error> {
        let refuse = |reason: &str| {
            // An error text may be long, its start says what it is.
            let rest = reason.as_bytes().get(..MAX_RECORD).unwrap_or(reason.as_bytes()).to_vec();
            reply(socket, &Packet { rest, ..Packet::new(PacketKind::Failed, 0) }, &[])
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
        let descriptors = vec![HeldDescriptor { role: ROLE_FUSE.to_owned(), fd }];
        self.held.insert(id, KeptMount { descriptors, negotiated: Vec::new(), record: packet.rest });
        let told = reply(socket, &Packet::new(PacketKind::Opened, id), &[made.session.as_fd(), made.mount.as_fd()]);
        if told.is_err() {
            self.held.remove(&id);
        }
        told?;
        // A descriptor of the mount keeps it busy. Whoever got ours must be able to rely on having the only one.
        drop(made);
        reply(socket, &Packet::new(PacketKind::End, id), &[])
    }
}

impl KeptMount {
    /// Tells a server of `version` about the mount.
    fn tell(&self, socket: BorrowedFd<'_>, id: u64, version: u16) -> Result<(), Error> {
        // A server of version 1 takes exactly one descriptor, and none of its mounts has more.
        let shown = if version >= VERSION_OF_ROLES { MAX_DESCRIPTORS } else { 1 };
        let shown: Vec<&HeldDescriptor> = self.descriptors.iter().take(shown).collect();
        let mut held =
            Packet { first: self.negotiated.clone(), rest: self.record.clone(), ..Packet::new(PacketKind::Held, id) };
        if version >= VERSION_OF_ROLES {
            held.roles = shown.iter().map(|descriptor| descriptor.role.clone()).collect();
        }
        let fds: Vec<BorrowedFd<'_>> = shown.iter().map(|descriptor| descriptor.fd.as_fd()).collect();
        reply(socket, &held, &fds)
    }
}

fn reply(socket: BorrowedFd<'_>, packet: &Packet, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    // May wait while the server does not read: the server is all that a keeper answers, and its end wakes us.
    match send(socket, &packet.encode()?, fds) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Link { action: "send", source }),
    }
}
