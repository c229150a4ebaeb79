//! The packets between keeper and server: one fixed head and three byte strings.
//!
//! A `SOCK_SEQPACKET` socket keeps packets apart and in order, delivers what a killed sender had sent, and carries
//! descriptors. The format is as small as the keeper has to be: the records in it are bytes that the keeper keeps and
//! never looks into.
//!
//! The protocol is frozen: `docs/design/0002-keeper-protocol.md` has its rules. A keeper lives for weeks, so a server
//! works with every keeper since version 1. An addition is a new kind, a new field or a new flag, sent only to a peer
//! whose version knows it. Unknown ones are ignored. No number below ever changes its meaning.
//!
//! ```text
//! 0     kind          8 bit
//! 1     flags         8 bit
//! 2     length of first   16 bit, little endian like all numbers
//! 4     version of the sender  16 bit; 0 is version 1, whose senders left these bytes zero
//! 6     length of fields  16 bit; 0 from version 1
//! 8     mount         64 bit
//! 16    first, fields, rest
//! ```

use crate::Error;

/// The most bytes of a server's record of one mount: digests, a few references, options.
pub const MAX_RECORD: usize = 48 << 10;

/// The most bytes of the first byte string (an INIT reply, or the name in mount tables).
pub(super) const MAX_FIRST: usize = 4096;

/// The most bytes of the fields: a role for each descriptor, and room for what comes.
const MAX_FIELDS: usize = 2048;

/// The most bytes of a packet. Below the kernel's default send buffer, so that a packet always fits one.
pub(super) const MAX_PACKET: usize = HEAD + MAX_FIRST + MAX_FIELDS + MAX_RECORD;

/// The version of the protocol that this program speaks.
///
/// 1: as first released. 2: fields; `Keep`, and several descriptors with roles in `Held`.
pub const VERSION: u16 = 2;

/// The first version that knows fields, `Keep`, and several descriptors in `Held`.
pub(super) const VERSION_OF_ROLES: u16 = 2;

/// A field: the role of a descriptor, in the order of the packet's descriptors.
const FIELD_ROLE: u8 = 1;

/// Bytes in front of a field's value: its number and its length.
const FIELD_HEAD: usize = 3;

const HEAD: usize = 16;

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    /// Server: make a mount (first: its name in mount tables; rest: record). Answered by `Opened` or `Failed`.
    Open,
    /// Server: the session was negotiated (first: INIT reply).
    Negotiated,
    /// Server: the kernel released the session.
    Closed,
    /// Server: say what is held. Answered by `Held` for each, then `End`.
    List,
    /// Server: requests of clients are answered from now on.
    Ready,
    /// Server, since version 2: keep the descriptors of this packet with the mount, too (fields: their roles).
    Keep,
    /// Keeper: with the session's and the mount's descriptor; then `End`, when it has closed its own of the mount.
    Opened,
    /// Keeper: it could not be made (rest: why).
    Failed,
    /// Keeper: with the session's descriptor (first: INIT reply or nothing; rest: record).
    Held,
    /// Keeper: the answer is complete.
    End,
    /// Either, of a version that this program does not know. Ignored.
    Unknown,
}

/// The numbers on the wire.
const PACKET_KINDS: [(u8, PacketKind); 10] = [
    (1, PacketKind::Open),
    (2, PacketKind::Negotiated),
    (3, PacketKind::Closed),
    (4, PacketKind::List),
    (5, PacketKind::Ready),
    (6, PacketKind::Keep),
    (16, PacketKind::Opened),
    (17, PacketKind::Failed),
    (18, PacketKind::Held),
    (19, PacketKind::End),
];

/// `Open`: set-user-id bits and file capabilities take effect.
pub(super) const FLAG_SUID: u8 = 1;
/// `Open`: device nodes can be opened.
pub(super) const FLAG_DEV: u8 = 2;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: PacketKind,
    pub(super) flags: u8,
    /// The version of the sender.
    pub(super) version: u16,
    /// The mount; 0 where none is meant.
    pub(super) id: u64,
    pub(super) first: Vec<u8>,
    /// Roles of the descriptors that come along; none in packets of version 1.
    pub(super) roles: Vec<String>,
    pub(super) rest: Vec<u8>,
}

impl Packet {
    /// Returns a packet that says no more than its kind and mount.
    pub(super) fn new(kind: PacketKind, id: u64) -> Self {
        Self { kind, flags: 0, version: VERSION, id, first: Vec::new(), roles: Vec::new(), rest: Vec::new() }
    }

    /// Returns the bytes of the packet.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let too_large = || Error::Message { reason: "a packet above its limit" };
        let fields = self.fields().ok_or_else(too_large)?;
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).map_err(|_| too_large());
        if self.first.len() > MAX_FIRST || fields.len() > MAX_FIELDS || self.rest.len() > MAX_RECORD {
            return Err(too_large());
        }
        let number = PACKET_KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or(0, |(number, _)| *number);
        let mut bytes = Vec::with_capacity(HEAD + self.first.len() + fields.len() + self.rest.len());
        bytes.extend_from_slice(&[number, self.flags]);
        bytes.extend_from_slice(&length(&self.first)?.to_le_bytes());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&length(&fields)?.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.first);
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&self.rest);
        Ok(bytes)
    }

    /// Takes a packet apart.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |reason| Error::Message { reason };
        let cut_off = || bad("a packet that is cut off");
        let Some((&[number, flags, f0, f1, v0, v1, g0, g1, ref id @ ..], body)) = bytes.split_first_chunk::<HEAD>()
        else {
            return Err(bad("a packet without a head"));
        };
        let kind = PACKET_KINDS.iter().find(|(of, _)| *of == number).map_or(PacketKind::Unknown, |(_, kind)| *kind);
        let length = |low, high| usize::from(u16::from_le_bytes([low, high]));
        let (first, body) = body.split_at_checked(length(f0, f1)).ok_or_else(cut_off)?;
        let (fields, rest) = body.split_at_checked(length(g0, g1)).ok_or_else(cut_off)?;
        if first.len() > MAX_FIRST || fields.len() > MAX_FIELDS || rest.len() > MAX_RECORD {
            return Err(bad("a packet above its limit"));
        }
        Ok(Self {
            kind,
            flags,
            version: u16::from_le_bytes([v0, v1]).max(1),
            id: u64::from_le_bytes(*id),
            first: first.to_vec(),
            roles: roles(fields).ok_or_else(|| bad("fields that are cut off"))?,
            rest: rest.to_vec(),
        })
    }

    fn fields(&self) -> Option<Vec<u8>> {
        let mut fields = Vec::new();
        for role in &self.roles {
            fields.push(FIELD_ROLE);
            fields.extend_from_slice(&u16::try_from(role.len()).ok()?.to_le_bytes());
            fields.extend_from_slice(role.as_bytes());
        }
        Some(fields)
    }
}

/// Reads the roles out of the fields; fields with unknown numbers are passed over.
fn roles(mut fields: &[u8]) -> Option<Vec<String>> {
    let mut roles = Vec::new();
    while !fields.is_empty() {
        let (&[number, low, high], rest) = fields.split_first_chunk::<FIELD_HEAD>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        if number == FIELD_ROLE {
            roles.push(String::from_utf8_lossy(value).into_owned());
        }
        fields = rest;
    }
    Some(roles)
}

/// Takes a packet apart and puts it together again; nothing if the bytes are no packet. For fuzzing alone.
#[doc(hidden)]
#[must_use]
pub fn packet_again(bytes: &[u8]) -> Option<Vec<u8>> {
    Packet::decode(bytes).ok()?.encode().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes in hexadecimal digits, for frozen packets.
    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn every_kind_is_read_back_as_it_was_sent() {
        for (_, kind) in PACKET_KINDS {
            let packet = Packet {
                flags: 3,
                first: vec![1; 64],
                roles: vec!["fuse".to_owned(), "loop".to_owned()],
                rest: vec![2; 1000],
                ..Packet::new(kind, u64::MAX - 1)
            };
            assert_eq!(Packet::decode(&packet.encode().unwrap()).unwrap(), packet);
        }
    }

    /// As a program of version 1 sends them. These bytes never change.
    #[test]
    fn packets_of_version_1_are_read() {
        let frozen = [
            ("01 03 0400 00000000 0000000000000000 74657374 7265636f7264", PacketKind::Open, 3, 0, "test", "record"),
            ("02 00 0300 00000000 0700000000000000 616263", PacketKind::Negotiated, 0, 7, "abc", ""),
            ("03 00 0000 00000000 0700000000000000", PacketKind::Closed, 0, 7, "", ""),
            ("04 00 0000 00000000 0000000000000000", PacketKind::List, 0, 0, "", ""),
            ("05 00 0000 00000000 0000000000000000", PacketKind::Ready, 0, 0, "", ""),
            ("10 00 0000 00000000 0700000000000000", PacketKind::Opened, 0, 7, "", ""),
            ("11 00 0000 00000000 0000000000000000 6e6f", PacketKind::Failed, 0, 0, "", "no"),
            ("12 00 0300 00000000 0700000000000000 616263 7265636f7264", PacketKind::Held, 0, 7, "abc", "record"),
            ("13 00 0000 00000000 0700000000000000", PacketKind::End, 0, 7, "", ""),
        ];
        for (hex, kind, flags, id, first, rest) in frozen {
            let packet = Packet::decode(&bytes(hex)).unwrap();
            let wanted = Packet { flags, version: 1, first: first.into(), rest: rest.into(), ..Packet::new(kind, id) };
            assert_eq!(packet, wanted);
        }
    }

    /// What a keeper of version 1 gets from this program differs from its own only in bytes that it does not look at.
    #[test]
    fn a_packet_without_roles_is_one_of_version_1_but_for_the_version() {
        let packet =
            Packet { flags: 3, first: b"test".to_vec(), rest: b"record".to_vec(), ..Packet::new(PacketKind::Open, 0) };
        let mut sent = packet.encode().unwrap();
        assert_eq!(sent[4..6], VERSION.to_le_bytes());
        sent[4..6].fill(0);
        assert_eq!(sent, bytes("01 03 0400 00000000 0000000000000000 74657374 7265636f7264"));
    }

    /// As a program of version 2 sends them. These bytes never change.
    #[test]
    fn packets_of_version_2_are_read_and_written() {
        let frozen = "12 00 0300 0200 0e00 0700000000000000 616263 01 0400 66757365 01 0400 6c6f6f70 7265636f7264";
        let packet = Packet {
            version: 2,
            first: b"abc".to_vec(),
            roles: vec!["fuse".to_owned(), "loop".to_owned()],
            rest: b"record".to_vec(),
            ..Packet::new(PacketKind::Held, 7)
        };
        assert_eq!(Packet::decode(&bytes(frozen)).unwrap(), packet);
        assert_eq!(packet.encode().unwrap(), bytes(frozen));
    }

    #[test]
    fn kinds_and_fields_of_a_later_version_are_passed_over() {
        let later = "63 00 0000 0900 0b00 0700000000000000 c8 0100 ff 01 0400 66757365";
        let packet = Packet::decode(&bytes(later)).unwrap();
        assert_eq!((packet.kind, packet.version, packet.roles), (PacketKind::Unknown, 9, vec!["fuse".to_owned()]));
    }

    #[test]
    fn damaged_and_oversized_packets_are_refused() {
        let good = Packet { first: vec![9; 8], roles: vec!["fuse".into()], ..Packet::new(PacketKind::Held, 1) };
        let good = good.encode().unwrap();
        for length in 0..good.len() {
            assert!(Packet::decode(&good[..length]).is_err(), "{length}");
        }
        let mut cut = good.clone();
        // The role is longer than the fields.
        cut[HEAD + 8 + 1] = 200;
        assert!(Packet::decode(&cut).is_err());
        let mut large = Packet::new(PacketKind::Open, 0);
        large.rest = vec![0; MAX_RECORD + 1];
        assert!(large.encode().is_err());
        let bytes = [good, vec![0; MAX_RECORD + 1]].concat();
        assert!(Packet::decode(&bytes).is_err());
    }
}
