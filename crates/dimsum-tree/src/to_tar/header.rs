//! Writes one POSIX header block, with an extended header before it for fields that do not fit.

use crate::record::Inode;
use crate::types::{FileType, Timestamp, Xattr};

/// All of a tar is made of blocks of this size.
pub(super) const BLOCK: usize = 512;

/// Bytes of the name field, and of the link's target.
const NAME: usize = 100;
/// Bytes of the field for what stands in front of the name.
const PREFIX: usize = 155;
/// The first value beyond seven octal digits: ids, device numbers.
const IDS: u32 = 1 << 21;
/// The first value beyond eleven octal digits: 8 GiB, and seconds up to the year 2242.
const LARGE: u64 = 1 << 33;
/// Before the name of an xattr in a record.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry is, beyond the types of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryType {
    File(FileType),
    HardLink,
}

/// An entry to be written, borrowed from the tree.
#[derive(Debug)]
pub(super) struct HeaderEntry<'e> {
    pub(super) entry_type: EntryType,
    pub(super) path: &'e [u8],
    /// Of a symbolic or hard link.
    pub(super) link: &'e [u8],
    pub(super) inode: Inode,
    pub(super) xattrs: &'e [Xattr],
    /// Bytes that follow.
    pub(super) size: u64,
    /// Of a sparse file: the real length.
    pub(super) sparse: Option<u64>,
}

impl HeaderEntry<'_> {
    /// Returns all blocks in front of the entry's content. Xattrs whose names cannot be said are left out; see
    /// [`can_be_said`].
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut block = HeaderBlock([0; BLOCK]);
        let mut records = Records(Vec::new());
        self.names(&mut block, &mut records);
        self.numbers(&mut block, &mut records);
        for xattr in self.xattrs.iter().filter(|xattr| can_be_said(xattr)) {
            records.add(&[XATTR, &xattr.name].concat(), &xattr.value);
        }
        let mut bytes = Vec::with_capacity(3 * BLOCK);
        if !records.0.is_empty() {
            let mut before = HeaderBlock([0; BLOCK]);
            before.put(0, b"PaxHeaders");
            before.octal(100, 7, 0o644);
            before.octal(108, 7, 0);
            before.octal(116, 7, 0);
            before.octal(124, 11, records.0.len() as u64);
            before.octal(136, 11, 0);
            bytes.extend_from_slice(&before.seal(b'x'));
            bytes.extend_from_slice(&records.0);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend_from_slice(&block.seal(self.flag()));
        bytes
    }

    fn names(&self, block: &mut HeaderBlock, records: &mut Records) {
        if let Some(size) = self.sparse {
            // Readers that do not know sparse files get a name that says so, with the map in front of the content.
            block.put(0, start(&[b"GNUSparseFile.0/", self.path].concat(), NAME));
            records.add(b"GNU.sparse.major", b"1");
            records.add(b"GNU.sparse.minor", b"0");
            records.add(b"GNU.sparse.name", self.path);
            records.add(b"GNU.sparse.realsize", size.to_string().as_bytes());
        } else if let Some((prefix, name)) = split(self.path) {
            block.put(0, name);
            block.put(345, prefix);
        } else {
            block.put(0, start(self.path, NAME));
            records.add(b"path", self.path);
        }
        block.put(157, start(self.link, NAME));
        if self.link.len() > NAME {
            records.add(b"linkpath", self.link);
        }
    }

    fn numbers(&self, block: &mut HeaderBlock, records: &mut Records) {
        let inode = &self.inode;
        block.octal(100, 7, inode.permissions().into());
        for (key, at, id) in [("uid", 108, inode.uid()), ("gid", 116, inode.gid())] {
            block.octal(at, 7, if id < IDS { id.into() } else { 0 });
            if id >= IDS {
                records.add(key.as_bytes(), id.to_string().as_bytes());
            }
        }
        block.octal(124, 11, if self.size < LARGE { self.size } else { 0 });
        if self.size >= LARGE {
            records.add(b"size", self.size.to_string().as_bytes());
        }
        let mtime = inode.mtime();
        let seconds = u64::try_from(mtime.seconds).ok().filter(|&seconds| seconds < LARGE);
        block.octal(136, 11, seconds.unwrap_or(0));
        if seconds.is_none() || mtime.nanoseconds != 0 {
            records.add(b"mtime", time(mtime).as_bytes());
        }
        let device = inode.rdev();
        block.octal(329, 7, device.major.into());
        block.octal(337, 7, device.minor.into());
    }

    fn flag(&self) -> u8 {
        match self.entry_type {
            EntryType::HardLink => b'1',
            EntryType::File(FileType::Symlink) => b'2',
            EntryType::File(FileType::CharDevice) => b'3',
            EntryType::File(FileType::BlockDevice) => b'4',
            EntryType::File(FileType::Directory) => b'5',
            EntryType::File(FileType::Fifo) => b'6',
            EntryType::File(FileType::Regular | FileType::Socket) => b'0',
        }
    }
}

/// Whether a record can name an xattr: the first `=` ends a key. GNU tar writes `%3D`, which no other reader
/// understands.
pub(super) fn can_be_said(xattr: &Xattr) -> bool {
    !xattr.name.contains(&b'=')
}

/// Splits a path into what fits the fields of prefix and name.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME {
        return Some((b"", path));
    }
    // The last slash of a directory's name is no place to split at.
    let slashes = path.iter().enumerate().take(path.len() - 1).filter(|(_, byte)| **byte == b'/');
    let at = slashes.map(|(at, _)| at).find(|&at| at > 0 && path.len() - at - 1 <= NAME)?;
    let (prefix, name) = path.split_at(at);
    (prefix.len() <= PREFIX).then(|| (prefix, name.get(1..).unwrap_or_default()))
}

fn start(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// Writes seconds with a sign and a fraction.
fn time(time: Timestamp) -> String {
    let nanoseconds = time.nanoseconds;
    match (time.seconds, nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (0.., _) => format!("{}.{nanoseconds:09}", time.seconds),
        // Seconds are rounded down, so what is behind the point counts the other way.
        (seconds, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    }
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`.
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        // A space, an equals sign and a line feed.
        let body = key.len() + value.len() + 3;
        // The length counts its own digits, which may make it one digit longer.
        let digits = body.to_string().len();
        let length = body + (body + digits).to_string().len();
        self.0.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }
}

/// A header under construction.
struct HeaderBlock([u8; BLOCK]);

impl HeaderBlock {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let field = self.0.get_mut(at..at + bytes.len()).expect("fields lie inside the block");
        field.copy_from_slice(bytes);
    }

    /// Writes `digits` octal digits; a NUL follows them.
    fn octal(&mut self, at: usize, digits: usize, value: u64) {
        self.put(at, format!("{value:0digits$o}").as_bytes());
    }

    /// Sets type, magic and checksum.
    fn seal(mut self, flag: u8) -> [u8; BLOCK] {
        self.put(156, &[flag]);
        self.put(257, b"ustar\x0000");
        self.put(148, b"        ");
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        self.put(148, format!("{sum:06o}\0").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        for value in [0usize, 1, 2, 3, 89, 90, 91, 92, 983, 984, 985, 986, 9_980, 9_985] {
            let mut records = Records(Vec::new());
            records.add(b"k", &vec![b'v'; value]);
            let text = String::from_utf8(records.0.clone()).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), records.0.len().to_string());
        }
    }

    #[test]
    fn what_does_not_fit_a_header_is_a_record() {
        let inode = Inode { uid: IDS, gid: IDS - 1, mtime_seconds: 1 << 33, ..Inode::mark() };
        let entry_type = EntryType::File(FileType::Regular);
        let entry = HeaderEntry { entry_type, path: b"f", link: b"", inode, xattrs: &[], size: LARGE, sparse: None };
        let bytes = entry.to_bytes();
        let records = b"15 uid=2097152\n19 size=8589934592\n20 mtime=8589934592\n\0";
        assert_eq!(&bytes[BLOCK..][..records.len()], records);
        let header = &bytes[2 * BLOCK..];
        assert_eq!(&header[108..148], b"0000000\x007777777\x0000000000000\x0000000000000\0");
        let inode = Inode { uid: IDS - 1, gid: 0, mtime_seconds: (1 << 33) - 1, ..Inode::mark() };
        assert_eq!(HeaderEntry { inode, size: LARGE - 1, ..entry }.to_bytes().len(), BLOCK, "all of it fits");
    }

    #[test]
    fn times_before_1970_have_a_fraction_that_counts_up() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 5, "1.000000005"),
            (-1, 500_000_000, "-0.500000000"),
            (-2, 0, "-2"),
            (-2, 999_999_999, "-1.000000001"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
            (i64::MAX, 1, "9223372036854775807.000000001"),
        ] {
            assert_eq!(time(Timestamp { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn long_paths_are_split_at_a_slash_if_one_is_in_the_right_place() {
        let [a, b] = [vec![b'a'; 90], vec![b'b'; 99]];
        let both = [&a[..], b"/", &b, b"/"].concat();
        assert_eq!(split(&both), Some((&a[..], &[&b[..], b"/"].concat()[..])));
        assert_eq!(split(&[b'a'; 101]), None);
        assert_eq!(split(&[&[b'a'; 156][..], b"/b"].concat()), None);
        assert_eq!(split(&[&[b'a'; 155][..], b"/b"].concat()), Some((&[b'a'; 155][..], &b"b"[..])));
        assert_eq!(split(&[b"/", &[b'a'; 100][..]].concat()), None);
        assert_eq!(split(&[&[b'a'; 101][..], b"/"].concat()), None);
    }
}
