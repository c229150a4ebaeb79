//! Answers to READDIR and READDIRPLUS: records of variable length, aligned to 8 bytes, bounded by the room.

use zerocopy::IntoBytes;

use crate::wire::Dirent;
use crate::{Entry, Error, MAX_NAME};

/// Records start at multiples of this.
const ALIGNMENT: usize = 8;

/// One name of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// Inode number as `readdir` shows it.
    pub ino: u64,
    /// Position *after* this entry; reading goes on with it. Not 0.
    pub next: u64,
    /// File type and permissions (`st_mode`); only the type is used.
    pub mode: u32,
    /// The name, `.` and `..` included.
    pub name: &'a [u8],
}

/// The answer to a READDIR.
#[derive(Debug)]
pub struct DirBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

/// The answer to a READDIRPLUS.
#[derive(Debug)]
pub struct DirPlusBuffer {
    inner: DirBuffer,
}

impl DirBuffer {
    /// Returns an empty answer with room for `size` bytes, as the request says.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { bytes: Vec::new(), limit: usize::try_from(size).unwrap_or(usize::MAX) }
    }

    /// Adds an entry; returns false, and adds nothing, if there is no room left.
    ///
    /// # Errors
    /// [`Error::BadName`] if the kernel would refuse the whole listing because of the name.
    pub fn push(&mut self, entry: &DirEntry<'_>) -> Result<bool, Error> {
        self.record(&[], entry)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn record(&mut self, head: &[u8], entry: &DirEntry<'_>) -> Result<bool, Error> {
        let bad = || Error::BadName { name: entry.name.to_vec() };
        let name = entry.name;
        if name.is_empty() || name.len() > MAX_NAME || name.iter().any(|&byte| byte == 0 || byte == b'/') {
            return Err(bad());
        }
        let dirent = Dirent {
            ino: entry.ino,
            off: entry.next,
            namelen: u32::try_from(name.len()).map_err(|_| bad())?,
            // DT_* are the type bits of st_mode.
            kind: (entry.mode >> 12) & 0xf,
        };
        let length = head.len() + size_of::<Dirent>() + name.len();
        let end = self.bytes.len() + length.next_multiple_of(ALIGNMENT);
        if end > self.limit {
            return Ok(false);
        }
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(dirent.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        Ok(true)
    }
}

impl DirPlusBuffer {
    /// Returns an empty answer with room for `size` bytes, as the request says.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { inner: DirBuffer::new(size) }
    }

    /// Adds an entry with the answer to a lookup of it; returns false, and adds nothing, if there is no room left. Each
    /// entry added counts as a lookup of its node.
    ///
    /// `.` and `..` (and whatever shall not be looked up yet) have no `lookup`.
    ///
    /// # Errors
    /// [`Error::BadName`] if the kernel would refuse the whole listing because of the name.
    pub fn push(&mut self, entry: &DirEntry<'_>, lookup: Option<&Entry>) -> Result<bool, Error> {
        let out = lookup.map_or_else(|| Entry::negative(std::time::Duration::ZERO), Entry::out);
        self.inner.record(out.as_bytes(), entry)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.inner.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8]) -> DirEntry<'_> {
        DirEntry { ino: 7, next: 1, mode: 0o100_644, name }
    }

    #[test]
    fn records_are_aligned_and_bounded() {
        let mut buffer = DirBuffer::new(72);
        assert!(buffer.push(&entry(b"a")).unwrap());
        assert_eq!(buffer.as_bytes().len(), 32);
        assert!(buffer.push(&entry(b"12345678")).unwrap());
        assert_eq!(buffer.as_bytes().len(), 64);
        assert!(!buffer.push(&entry(b"b")).unwrap());
        assert_eq!(buffer.as_bytes().len(), 64);
        assert_eq!(buffer.as_bytes()[20], 8, "regular file is DT_REG");
        assert_eq!(&buffer.as_bytes()[24..32], b"a\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_plus_record_has_128_bytes_in_front() {
        let mut buffer = DirPlusBuffer::new(4096);
        assert!(buffer.push(&entry(b"."), None).unwrap());
        assert_eq!(buffer.as_bytes().len(), 160);
        assert!(buffer.as_bytes()[..128].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn names_that_the_kernel_would_refuse_are_refused() {
        let mut buffer = DirBuffer::new(4096);
        for name in [&b""[..], b"a/b", b"a\0", &[b'x'; 256]] {
            assert!(matches!(buffer.push(&entry(name)), Err(Error::BadName { .. })));
        }
        assert!(buffer.as_bytes().is_empty());
    }
}
