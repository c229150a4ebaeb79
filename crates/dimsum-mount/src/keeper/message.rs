//! What keeper and server say to each other: packets of one fixed head and two byte strings.
//!
//! A `SOCK_SEQPACKET` socket keeps packets apart and in order, delivers what a killed sender had sent, and carries
//! descriptors. The format is as small as the keeper has to be: the records in it are bytes that the keeper keeps and
//! never looks into.

use crate::Error;

/// The most bytes of a server's record of one mount: digests, a few references, options.
pub const MAX_RECORD: usize = 48 << 10;

/// The most bytes of the first byte string (an INIT reply, or the name in mount tables).
pub(super) const MAX_FIRST: usize = 4096;

/// The most bytes of a packet. Below the kernel's default send buffer, so that a packet always fits one.
pub(super) const MAX_PACKET: usize = HEAD + MAX_FIRST + MAX_RECORD;

const HEAD: usize = 16;

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
    /// Keeper: with the session's and the mount's descriptor; then `End`, when it has closed its own of the mount.
    Opened,
    /// Keeper: it could not be made (rest: why).
    Failed,
    /// Keeper: with the session's descriptor (first: INIT reply or nothing; rest: record).
    Held,
    /// Keeper: the answer is complete.
    End,
}

/// The numbers on the wire.
const KINDS: [(u8, Kind); 9] = [
    (1, Kind::Open),
    (2, Kind::Negotiated),
    (3, Kind::Closed),
    (4, Kind::List),
    (5, Kind::Ready),
    (16, Kind::Opened),
    (17, Kind::Failed),
    (18, Kind::Held),
    (19, Kind::End),
];

/// `Open`: set-user-id bits and file capabilities take effect.
pub(super) const FLAG_SUID: u8 = 1;
/// `Open`: device nodes can be opened.
pub(super) const FLAG_DEV: u8 = 2;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    /// Which session; 0 where none is meant.
    pub(super) id: u64,
    pub(super) first: Vec<u8>,
    pub(super) rest: Vec<u8>,
}

impl Packet {
    /// Returns a packet that says no more than its kind and session.
    pub(super) fn new(kind: Kind, id: u64) -> Self {
        Self { kind, flags: 0, id, first: Vec::new(), rest: Vec::new() }
    }

    /// Returns the bytes of the packet.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let too_large = || Error::Message { reason: "a packet above its limit" };
        let first = u16::try_from(self.first.len()).map_err(|_| too_large())?;
        if self.first.len() > MAX_FIRST || self.rest.len() > MAX_RECORD {
            return Err(too_large());
        }
        let number = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or(0, |(number, _)| *number);
        let mut bytes = Vec::with_capacity(HEAD + self.first.len() + self.rest.len());
        bytes.extend_from_slice(&[number, self.flags]);
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.first);
        bytes.extend_from_slice(&self.rest);
        Ok(bytes)
    }

    /// Takes a packet apart.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |reason| Error::Message { reason };
        let Some((&[number, flags, low, high, _, _, _, _, ref id @ ..], body)) = bytes.split_first_chunk::<HEAD>()
        else {
            return Err(bad("a packet without a head"));
        };
        let kind = KINDS.iter().find(|(of, _)| *of == number).map(|(_, kind)| *kind);
        let kind = kind.ok_or_else(|| bad("a packet of an unknown kind"))?;
        let first = usize::from(u16::from_le_bytes([low, high]));
        let (first, rest) = body.split_at_checked(first).ok_or_else(|| bad("a packet that is cut off"))?;
        if first.len() > MAX_FIRST || rest.len() > MAX_RECORD {
            return Err(bad("a packet above its limit"));
        }
        Ok(Self { kind, flags, id: u64::from_le_bytes(*id), first: first.to_vec(), rest: rest.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_as_it_was_sent() {
        for (_, kind) in KINDS {
            let packet = Packet { kind, flags: 3, id: u64::MAX - 1, first: vec![1; 64], rest: vec![2; 1000] };
            assert_eq!(Packet::decode(&packet.encode().unwrap()).unwrap(), packet);
        }
    }

    #[test]
    fn damaged_and_oversized_packets_are_refused() {
        let good = Packet { first: vec![9; 8], ..Packet::new(Kind::Held, 1) }.encode().unwrap();
        for length in 0..good.len() {
            assert!(Packet::decode(&good[..length]).is_err(), "{length}");
        }
        let mut unknown = good.clone();
        unknown[0] = 99;
        assert!(Packet::decode(&unknown).is_err());
        let mut large = Packet::new(Kind::Open, 0);
        large.rest = vec![0; MAX_RECORD + 1];
        assert!(large.encode().is_err());
        let bytes = [good, vec![0; MAX_RECORD + 1]].concat();
        assert!(Packet::decode(&bytes).is_err());
    }
}
