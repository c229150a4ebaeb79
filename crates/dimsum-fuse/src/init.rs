//! The start of a session: the kernel's offer, our choice, and the record of it.
//!
//! The choice is a pure function of the offer and the [`SessionOptions`]. Its result, the [`InitReply`], goes to the
//! keeper before it goes to the kernel, so a successor always knows the agreement.

use zerocopy::{FromBytes, IntoBytes};

use crate::wire::{self, InitOut, flag};
use crate::{Error, MAX_READ};

/// Requests that the kernel may have in the background (read-ahead) per session. Its default of 12 would let a
/// dozen hung chunks of an image stop all read-ahead of that image.
const MAX_BACKGROUND: u16 = 512;

/// From this many on the kernel calls the session congested: three quarters, as its own default ratio is.
const CONGESTION_THRESHOLD: u16 = 384;

/// The kernel's minimum: nothing is written here, and each thread holds one buffer for the largest request.
const MAX_WRITE: u32 = 4096;

/// Pages of 4 KiB per request, so that one READ may be [`MAX_READ`] long.
const MAX_PAGES: u16 = 256;

/// Flags taken whenever the kernel offers them. The kernel understands ENOSYS to OPEN and OPENDIR without a flag of
/// ours. Its offer has a flag for it, and the reply repeats it as a record.
const ALWAYS: u64 = flag::ASYNC_READ
    | flag::ASYNC_DIO
    | flag::DO_READDIRPLUS
    | flag::READDIRPLUS_AUTO
    | flag::PARALLEL_DIROPS
    | flag::MAX_PAGES
    | flag::CACHE_SYMLINKS
    | flag::NO_OPEN_SUPPORT
    | flag::NO_OPENDIR_SUPPORT
    | flag::INIT_EXT
    | flag::HAS_RESEND;

/// The kernel's offer at the start of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InitRequest {
    /// Major version of the protocol.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Read-ahead of the kernel in bytes.
    pub max_readahead: u32,
    /// Its abilities: `FUSE_*` flags, 64 bits.
    pub flags: u64,
}

/// Settings that depend on the file system behind a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// A node id names the same node as long as the image exists, and LOOKUP answers `.` and `..`. File handles (NFS,
    /// `open_by_handle_at`) then survive the kernel's cache. Otherwise file handles are not offered at all.
    pub stable_nodes: bool,
    /// The kernel enforces POSIX ACLs itself; GETXATTR of `system.posix_acl_access` and `_default` must answer
    /// them in the kernel's own layout. Implies `default_permissions`.
    pub posix_acl: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { stable_nodes: true, posix_acl: false }
    }
}

/// The agreement with the kernel, as bytes that another process can keep.
#[derive(Clone, Copy)]
pub struct InitReply {
    raw: InitOut,
}

impl InitReply {
    /// Length of the record in bytes: the kernel's `fuse_init_out`.
    pub const LENGTH: usize = 64;

    /// Returns the record as bytes; they are in host byte order and do not leave the machine.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.raw.as_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::BadInitReply`] if it has the wrong length or another protocol.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let bad = Error::BadInitReply { length: bytes.len() };
        match InitOut::read_from_bytes(bytes) {
            Ok(raw) if raw.major == wire::MAJOR && raw.minor >= wire::MIN_MINOR => Ok(Self { raw }),
            _ => Err(bad),
        }
    }

    /// Returns the minor version of the protocol that is spoken.
    #[must_use]
    pub fn minor(&self) -> u32 {
        self.raw.minor
    }

    /// Returns the flags that are on, 64 bits.
    #[must_use]
    pub fn flags(&self) -> u64 {
        u64::from(self.raw.flags) | u64::from(self.raw.flags2) << 32
    }

    /// Returns how many data bytes a request to us may carry.
    #[must_use]
    pub fn max_write(&self) -> u32 {
        self.raw.max_write
    }

    /// Returns whether the kernel can send requests in flight again.
    #[must_use]
    pub fn can_resend(&self) -> bool {
        self.flags() & flag::HAS_RESEND != 0
    }
}

impl std::fmt::Debug for InitReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitReply")
            .field("minor", &self.raw.minor)
            .field("flags", &format_args!("{:#x}", self.flags()))
            .field("max_readahead", &self.raw.max_readahead)
            .finish_non_exhaustive()
    }
}

impl PartialEq for InitReply {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for InitReply {}

/// The answer to an INIT.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// The session starts.
    Agreed(InitReply),
    /// The kernel speaks a newer major version; it asks again with ours.
    AskAgain(InitReply),
    /// The kernel is too old.
    Refused,
}

/// Chooses from the kernel's offer.
pub(crate) fn negotiate(offer: &InitRequest, options: &SessionOptions) -> Negotiation {
    if offer.major > wire::MAJOR {
        return Negotiation::AskAgain(reply(wire::MINOR, 0));
    }
    if offer.major < wire::MAJOR || offer.minor < wire::MIN_MINOR {
        return Negotiation::Refused;
    }
    let mut wanted = ALWAYS;
    wanted |= if options.stable_nodes { flag::EXPORT_SUPPORT } else { flag::NO_EXPORT_SUPPORT };
    if options.posix_acl {
        wanted |= flag::POSIX_ACL;
    }
    Negotiation::Agreed(reply(offer.minor.min(wire::MINOR), wanted & offer.flags))
}

fn reply(minor: u32, flags: u64) -> InitReply {
    let [low, high] = [flags & u64::from(u32::MAX), flags >> 32]
        .map(|half| u32::try_from(half).expect("half of 64 bits fits into 32"));
    InitReply {
        raw: InitOut {
            major: wire::MAJOR,
            minor,
            // The kernel takes the smaller one of this and its own, which the mounter may raise at any time.
            max_readahead: MAX_READ,
            flags: low,
            max_background: MAX_BACKGROUND,
            congestion_threshold: CONGESTION_THRESHOLD,
            max_write: MAX_WRITE,
            // Time stamps are exact to the nanosecond.
            time_gran: 1,
            max_pages: MAX_PAGES,
            map_alignment: 0,
            flags2: high,
            max_stack_depth: 0,
            request_timeout: 0,
            unused: [0; 11],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: InitRequest = InitRequest { major: 7, minor: 45, max_readahead: 128 << 10, flags: u64::MAX };

    fn agreed(offer: InitRequest, options: SessionOptions) -> InitReply {
        match negotiate(&offer, &options) {
            Negotiation::Agreed(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_is_offered_is_taken() {
        let reply = agreed(InitRequest { flags: flag::ASYNC_READ, minor: 31, ..OFFER }, SessionOptions::default());
        assert_eq!(reply.flags(), flag::ASYNC_READ);
        assert_eq!(reply.minor(), 31);
        assert!(!reply.can_resend());
    }

    #[test]
    fn a_full_offer_gives_resend_but_no_writing() {
        let reply = agreed(OFFER, SessionOptions::default());
        assert!(reply.can_resend());
        let writeback_cache = 1 << 16;
        assert_eq!(reply.flags() & (writeback_cache | flag::POSIX_ACL), 0);
        assert_ne!(reply.flags() & flag::EXPORT_SUPPORT, 0);
        assert_eq!(reply.raw.max_background, 512);
        let acl = agreed(OFFER, SessionOptions { stable_nodes: false, posix_acl: true });
        assert_ne!(acl.flags() & flag::POSIX_ACL, 0);
        assert_eq!(acl.flags() & flag::EXPORT_SUPPORT, 0);
        assert_ne!(acl.flags() & flag::NO_EXPORT_SUPPORT, 0);
    }

    #[test]
    fn a_newer_major_is_asked_again_and_an_old_kernel_refused() {
        let options = SessionOptions::default();
        let newer = InitRequest { major: 8, ..OFFER };
        assert!(matches!(negotiate(&newer, &options), Negotiation::AskAgain(_)));
        for old in [InitRequest { minor: 30, ..OFFER }, InitRequest { major: 6, ..OFFER }] {
            assert_eq!(negotiate(&old, &options), Negotiation::Refused);
        }
    }

    #[test]
    fn a_stored_reply_is_read_back_and_damage_is_refused() {
        let reply = agreed(OFFER, SessionOptions::default());
        assert_eq!(reply.as_bytes().len(), InitReply::LENGTH);
        assert_eq!(InitReply::from_bytes(reply.as_bytes()).unwrap(), reply);
        assert!(InitReply::from_bytes(&reply.as_bytes()[1..]).is_err());
        assert!(InitReply::from_bytes(&[0; InitReply::LENGTH]).is_err());
    }
}
