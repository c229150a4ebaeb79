//! The obligation to answer one request, as a value.
//!
//! A [`Reply`] is owned, can go to any thread, and is consumed by its one answer. Answers are written with one
//! `writev` of header and the caller's own buffers: data is not copied on the way to the kernel.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use dimsum_events::counters::{add, fall};
use rustix::io::{Errno, writev};
use zerocopy::IntoBytes;

use crate::session::Channel;
use crate::wire::{GetxattrOut, LseekOut, OpenOut, OutHeader, UNIQUE_RESEND};
use crate::{Attr, DirBuffer, DirPlusBuffer, Entry, StatFs};

/// `writev` takes this many buffers (`UIO_MAXIOV`); one is the header. More are joined first.
const MAX_PARTS: usize = 1023;

/// How the answer of a request is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// A READ: the whole length, or less only at the end of the file.
    Whole(u32),
    /// Anything up to this length.
    AtMost(u32),
}

/// The answer to an OPEN or OPENDIR besides the handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Read past the page cache (`FOPEN_DIRECT_IO`).
    pub direct_io: bool,
    /// Keep what the page cache has of the file (`FOPEN_KEEP_CACHE`).
    pub keep_cache: bool,
    /// Keep the listing of the directory in the cache (`FOPEN_CACHE_DIR`).
    pub cache_dir: bool,
    /// Do not ask when a descriptor is closed (`FOPEN_NOFLUSH`).
    pub no_flush: bool,
}

impl OpenFlags {
    fn bits(self) -> u32 {
        u32::from(self.direct_io)
            | u32::from(self.keep_cache) << 1
            | u32::from(self.cache_dir) << 3
            | u32::from(self.no_flush) << 5
    }
}

/// The one answer to a request.
///
/// Dropped without an answer, it answers `EIO`. An answer that comes after the session ended, or after the
/// kernel gave the request up, is thrown away.
#[must_use = "a request that is not answered is answered EIO"]
#[derive(Debug)]
pub struct Reply {
    /// Empty once answered.
    channel: Option<Arc<Channel>>,
    unique: u64,
    bound: Bound,
}

impl Reply {
    pub(crate) fn new(channel: &Arc<Channel>, unique: u64, bound: Bound) -> Self {
        add(&channel.counters.parked, 1);
        Self { channel: Some(Arc::clone(channel)), unique, bound }
    }

    /// Returns the id of the request without its resend mark, as [`crate::Filesystem::interrupted`] names it.
    #[must_use]
    pub fn unique(&self) -> u64 {
        self.unique & !UNIQUE_RESEND
    }

    /// Refuses the request.
    pub fn error(mut self, errno: Errno) {
        self.finish_error(errno);
    }

    /// Answers "done" without data (RELEASE, RELEASEDIR, ACCESS).
    pub fn done(self) {
        self.bytes(&[]);
    }

    /// Answers READ with exactly the bytes asked for, or READLINK, GETXATTR, LISTXATTR with the value.
    ///
    /// A READ is never answered short: with another length than asked for the reader gets `EIO`. The tail of a
    /// file is answered by [`Reply::data_to_eof`].
    pub fn data(self, data: &[u8]) {
        self.data_vectored(&[IoSlice::new(data)]);
    }

    /// Answers like [`Reply::data`] with bytes that lie in several places.
    pub fn data_vectored(mut self, parts: &[IoSlice<'_>]) {
        if let Bound::Whole(size) = self.bound
            && total(parts) != Some(size)
        {
            return self.refuse_length();
        }
        self.finish(parts);
    }

    /// Answers a READ with the bytes from its offset up to the end of the file, at most as many as asked for.
    pub fn data_to_eof(self, data: &[u8]) {
        self.data_to_eof_vectored(&[IoSlice::new(data)]);
    }

    /// Answers like [`Reply::data_to_eof`] with bytes that lie in several places.
    pub fn data_to_eof_vectored(mut self, parts: &[IoSlice<'_>]) {
        self.finish(parts);
    }

    /// Answers a LOOKUP.
    pub fn entry(self, entry: &Entry) {
        self.bytes(entry.out().as_bytes());
    }

    /// Answers a LOOKUP: there is no such name, and that stays so for `validity`.
    pub fn no_entry(self, validity: Duration) {
        self.bytes(Entry::negative(validity).as_bytes());
    }

    /// Answers a GETATTR.
    pub fn attr(self, attr: &Attr, validity: Duration) {
        self.bytes(attr.out(validity).as_bytes());
    }

    /// Answers a STATX with what [`Attr`] has; a birth time is not among it.
    pub fn statx(self, attr: &Attr, validity: Duration) {
        self.bytes(attr.statx_out(validity).as_bytes());
    }

    /// Answers an OPEN or OPENDIR.
    pub fn opened(self, handle: u64, flags: OpenFlags) {
        let out = OpenOut { fh: handle, open_flags: flags.bits(), padding: 0 };
        self.bytes(out.as_bytes());
    }

    /// Answers a STATFS.
    pub fn statfs(self, figures: &StatFs) {
        self.bytes(figures.out().as_bytes());
    }

    /// Answers GETXATTR or LISTXATTR with the whole `value`: its length if no room was given, `ERANGE` if the
    /// room is too small, else the bytes.
    pub fn xattr(self, value: &[u8]) {
        let Ok(length) = u32::try_from(value.len()) else {
            return self.error(Errno::TOOBIG);
        };
        match self.bound {
            Bound::AtMost(0) => {
                let out = GetxattrOut { size: length, padding: 0 };
                // The bound is the caller's room for the value, not for its length.
                self.unbounded(out.as_bytes());
            }
            Bound::AtMost(room) | Bound::Whole(room) if length > room => self.error(Errno::RANGE),
            _ => self.data(value),
        }
    }

    /// Answers an LSEEK.
    pub fn lseek(self, offset: u64) {
        self.bytes(LseekOut { offset }.as_bytes());
    }

    /// Answers a READDIR; an empty buffer is the end of the directory.
    pub fn directory(self, entries: &DirBuffer) {
        self.bytes(entries.as_bytes());
    }

    /// Answers a READDIRPLUS; an empty buffer is the end of the directory.
    pub fn directory_plus(self, entries: &DirPlusBuffer) {
        self.bytes(entries.as_bytes());
    }

    /// Lets go of the request without an answer, so that a successor on the same descriptor gets it again.
    ///
    /// Only for a server that is about to end while another process holds the session: else the caller waits as long as
    /// the mount lives.
    pub fn abandon(mut self) {
        if let Some(channel) = self.channel.take() {
            fall(&channel.counters.parked);
        }
    }

    /// Answers a request of the session itself, whose structure has a fixed length.
    pub(crate) fn unbounded(mut self, bytes: &[u8]) {
        self.bound = Bound::AtMost(u32::MAX);
        self.bytes(bytes);
    }

    fn bytes(mut self, bytes: &[u8]) {
        self.finish(&[IoSlice::new(bytes)]);
    }

    fn refuse_length(&mut self) {
        if let Some(channel) = &self.channel {
            add(&channel.counters.refused, 1);
        }
        self.finish_error(Errno::IO);
    }

    fn finish(&mut self, parts: &[IoSlice<'_>]) {
        let (Bound::AtMost(limit) | Bound::Whole(limit)) = self.bound;
        let Some(length) = total(parts).filter(|&length| length <= limit) else {
            return self.refuse_length();
        };
        let Some(channel) = self.channel.take() else {
            return;
        };
        // Before the answer: its receiver must not see the request as parked.
        fall(&channel.counters.parked);
        match send(&channel, self.unique, 0, length, parts) {
            Ok(()) => {}
            Err(error) if is_gone(error) => add(&channel.counters.late, 1),
            Err(_) => {
                // An answer that the kernel does not accept must not leave the request open.
                add(&channel.counters.refused, 1);
                refuse(&channel, self.unique, Errno::IO);
            }
        }
    }

    fn finish_error(&mut self, errno: Errno) {
        if let Some(channel) = self.channel.take() {
            fall(&channel.counters.parked);
            refuse(&channel, self.unique, errno);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.finish_error(Errno::IO);
    }
}

/// Writes an error; a request that is gone, or a session that ended, needs none.
pub(crate) fn refuse(channel: &Channel, unique: u64, errno: Errno) {
    if send(channel, unique, errno.raw_os_error(), 0, &[]).is_err() {
        add(&channel.counters.late, 1);
    }
}

/// Tells whether the kernel has no such request any more, or no such session.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NODEV | Errno::PERM)
}

/// Sums up lengths; `None` if they are more than the protocol can say.
fn total(parts: &[IoSlice<'_>]) -> Option<u32> {
    parts.iter().try_fold(0_u32, |sum, part| sum.checked_add(u32::try_from(part.len()).ok()?))
}

fn send(channel: &Channel, unique: u64, errno: i32, length: u32, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
    let header_length = u32::try_from(size_of::<OutHeader>()).map_err(|_| Errno::INVAL)?;
    let header = OutHeader {
        len: header_length.checked_add(length).ok_or(Errno::TOOBIG)?,
        // The kernel wants the number negative.
        error: errno.wrapping_neg(),
        unique,
    };
    let header = IoSlice::new(header.as_bytes());
    let written = match parts {
        [] => writev(&channel.fd, &[header]),
        [one] => writev(&channel.fd, &[header, IoSlice::new(one)]),
        many if many.len() <= MAX_PARTS => {
            let mut all = Vec::with_capacity(many.len() + 1);
            all.push(header);
            all.extend(many.iter().map(|part| IoSlice::new(part)));
            writev(&channel.fd, &all)
        }
        many => {
            let joined: Vec<u8> = many.iter().flat_map(|part| part.iter().copied()).collect();
            writev(&channel.fd, &[header, IoSlice::new(&joined)])
        }
    };
    // The device takes an answer whole or not at all.
    written.map(drop)
}
