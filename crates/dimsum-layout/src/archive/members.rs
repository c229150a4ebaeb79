//! The members of a tar, found by reading its headers only: where each begins and how long it is.
//!
//! Contents are skipped, so an archive of many GiB is indexed by some thousand reads. Nothing is unpacked. Still, a
//! name that could not be unpacked safely is refused. A name may come only once, since readers disagree on which one
//! counts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use dimsum_source::SourceError;

use super::fault::ArchiveFault;
use super::header::{BLOCK, Header, text};

/// Headers of an archive, those of directories and of long names too: an index of 1,024 images with 50 blobs each.
const MAX_HEADERS: usize = 1 << 16;
/// Bytes of an extended header or long name. Image tools write some hundred; the rest is room for extended attributes.
const MAX_EXTENDED: u64 = 64 << 10;
/// Bytes of a name, as the file systems that archives are unpacked to have it.
const MAX_NAME: usize = 4096;

/// The members of an archive, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members(BTreeMap<String, Member>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    /// Where the content of a regular file stands in the archive.
    File(Range<u64>),
    /// Where a symbolic link leads, as it is written.
    Link(String),
}

impl Members {
    /// Finds the members of an archive that is in memory.
    ///
    /// # Errors
    /// If it is not whole, or one of its members is refused.
    pub fn parse(source_name: &str, archive: &[u8]) -> Result<Self, SourceError> {
        let read = |bytes: &mut [u8], offset: u64| {
            let start = usize::try_from(offset).ok();
            let from = start.and_then(|start| archive.get(start..)?.get(..bytes.len()));
            bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        };
        Walk::new(source_name, archive.len() as u64, &read).run()
    }

    /// Finds the members of an archive in a file.
    pub(super) fn of_file(source_name: &str, file: &File, length: u64) -> Result<Self, SourceError> {
        let read = |bytes: &mut [u8], offset: u64| file.read_exact_at(bytes, offset);
        Walk::new(source_name, length, &read).run()
    }

    /// Returns where the content of a regular file stands in the archive.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<Range<u64>> {
        match self.0.get(name)? {
            Member::File(range) => Some(range.clone()),
            Member::Link(_) => None,
        }
    }

    /// As [`Members::file`], through at most one symbolic link: `docker save` writes them for layers that occur twice.
    #[must_use]
    pub fn file_or_link(&self, name: &str) -> Option<Range<u64>> {
        match self.0.get(name)? {
            Member::File(range) => Some(range.clone()),
            Member::Link(target) => self.file(&beside(name, target)?),
        }
    }

    /// Returns all regular files, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, Range<u64>)> {
        self.0.iter().filter_map(|(name, member)| match member {
            Member::File(range) => Some((&**name, range.clone())),
            Member::Link(_) => None,
        })
    }

    /// Returns the name of some link, if there is one.
    pub(super) fn any_link(&self) -> Option<&str> {
        self.0.iter().find(|(_, member)| matches!(member, Member::Link(_))).map(|(name, _)| &**name)
    }
}

/// Returns a name without `./` before it; none if it leads out of the archive or could be written in another way too.
pub(super) fn clean(name: &str) -> Option<&str> {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    (name.len() <= MAX_NAME && name.split('/').all(plain)).then_some(name)
}

/// Returns the target of a link at `name`; none if it is outside of the archive.
fn beside(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            // An absolute target begins with an empty part.
            "" => return None,
            "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Reads by position.
type ReadAt<'r> = &'r dyn Fn(&mut [u8], u64) -> io::Result<()>;

/// The way through an archive.
struct Walk<'r> {
    source_name: &'r str,
    read: ReadAt<'r>,
    length: u64,
    offset: u64,
    headers: usize,
    members: BTreeMap<String, Member>,
}

/// Records of extended headers for the member behind them.
#[derive(Default, PartialEq, Eq)]
struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<'r> Walk<'r> {
    fn new(source_name: &'r str, length: u64, read: ReadAt<'r>) -> Self {
        Self { source_name, read, length, offset: 0, headers: 0, members: BTreeMap::new() }
    }

    fn run(mut self) -> Result<Members, SourceError> {
        let mut said: Option<Said> = None;
        while let Some(block) = self.block()? {
            let header = Header::parse(&block).map_err(|reason| self.refuse(b"", reason))?;
            let name = said.as_ref().and_then(|said| said.name.clone()).unwrap_or_else(|| header.name());
            self.headers += 1;
            if self.headers > MAX_HEADERS {
                return Err(self.refuse(&name, "it is one too many: an archive may have 65536 headers"));
            }
            // An extended header counts for the member, not for another header between them.
            let is_member = !matches!(header.kind(), b'x' | b'g' | b'L' | b'K');
            let size = said.as_ref().filter(|_| is_member).and_then(|said| said.size);
            let content = self.content(&header, size, &name)?;
            match header.kind() {
                b'x' => self.records(&content, &name, said.get_or_insert_default())?,
                b'g' => {
                    let mut of_all = Said::default();
                    self.records(&content, &name, &mut of_all)?;
                    if of_all != Said::default() {
                        return Err(self.refuse(&name, "a header for all members gives them one name or size"));
                    }
                }
                b'L' => said.get_or_insert_default().name = Some(text(&self.extended(&content, &name)?).to_vec()),
                b'K' => said.get_or_insert_default().link = Some(text(&self.extended(&content, &name)?).to_vec()),
                kind => {
                    let link = said.take().and_then(|said| said.link).unwrap_or_else(|| header.link());
                    self.member(kind, &name, &link, content.clone())?;
                }
            }
            self.offset = content.end.next_multiple_of(BLOCK as u64);
        }
        if said.is_some() {
            return Err(self.refuse(b"", "the archive ends behind an extended header, where its member should be"));
        }
        Ok(Members(self.members))
    }

    /// Reads the header at the offset; none at the end of the archive.
    fn block(&self) -> Result<Option<[u8; BLOCK]>, SourceError> {
        let block = self.block_at(self.offset)?;
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        // Two blocks of zeros end an archive; padding behind them is ignored.
        let second = self.block_at(self.offset + BLOCK as u64)?;
        if second.iter().any(|&byte| byte != 0) {
            return Err(self.refuse(b"", "there is a lone block of zeros between members"));
        }
        Ok(None)
    }

    fn block_at(&self, offset: u64) -> Result<[u8; BLOCK], SourceError> {
        if self.length < BLOCK as u64 || offset > self.length - BLOCK as u64 {
            return Err(self.refuse(b"", "the archive has no end: cut off, or not a tar"));
        }
        let mut block = [0; BLOCK];
        self.read(&mut block, offset)?;
        Ok(block)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), SourceError> {
        (self.read)(bytes, offset).map_err(|source| SourceError::io(self.source_name, source))
    }

    /// Returns where the content of a header stands, whole.
    fn content(&self, header: &Header<'_>, size: Option<u64>, name: &[u8]) -> Result<Range<u64>, SourceError> {
        let own = header.size().ok_or_else(|| self.refuse(name, "its size is not a number"))?;
        let start = self.offset + BLOCK as u64;
        match start.checked_add(size.unwrap_or(own)) {
            Some(end) if end <= self.length => Ok(start..end),
            _ => Err(self.refuse(name, "it reaches beyond the end of the archive: cut off, or forged")),
        }
    }

    fn member(&mut self, kind: u8, name: &[u8], link: &[u8], content: Range<u64>) -> Result<(), SourceError> {
        let Ok(text) = std::str::from_utf8(name) else {
            return Err(self.refuse(name, "its name is not UTF-8"));
        };
        let directory = kind == b'5' || (matches!(kind, b'0' | 0) && text.ends_with('/'));
        if directory && matches!(text, "." | "./") {
            return Ok(());
        }
        let text = if directory { text.strip_suffix('/').unwrap_or(text) } else { text };
        let Some(text) = clean(text) else {
            return Err(self.refuse(name, "its name leads out of the archive, or is not in its plain form"));
        };
        if kind != b'0' && kind != 0 && !content.is_empty() {
            return Err(self.refuse(name, "it is no regular file and has content"));
        }
        let member = match kind {
            _ if directory => return Ok(()),
            b'0' | 0 => Member::File(content),
            b'2' => match std::str::from_utf8(link) {
                Ok(link) => Member::Link(link.to_owned()),
                Err(_) => return Err(self.refuse(name, "it is a link to a name that is not UTF-8")),
            },
            b'1' => return Err(self.refuse(name, "it is a hard link, which archives of images do not have")),
            _ => return Err(self.refuse(name, "it is no file and no directory")),
        };
        if self.members.contains_key(text) {
            return Err(self.refuse(name, "it is there twice, and readers disagree on which one counts"));
        }
        self.members.insert(text.to_owned(), member);
        Ok(())
    }

    fn extended(&self, content: &Range<u64>, name: &[u8]) -> Result<Vec<u8>, SourceError> {
        let length = content.end - content.start;
        if length > MAX_EXTENDED {
            return Err(self.refuse(name, "its extended header is larger than 64 KiB"));
        }
        let mut bytes = vec![0; usize::try_from(length).expect("64 KiB fit")];
        self.read(&mut bytes, content.start)?;
        Ok(bytes)
    }

    /// Takes from an extended header what concerns names and sizes.
    fn records(&self, content: &Range<u64>, name: &[u8], said: &mut Said) -> Result<(), SourceError> {
        let bytes = self.extended(content, name)?;
        let malformed = || self.refuse(name, "its extended header is malformed");
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let (key, value, behind) = record(rest).ok_or_else(malformed)?;
            rest = behind;
            match key {
                b"path" => said.name = Some(value.to_vec()),
                b"linkpath" => said.link = Some(value.to_vec()),
                b"size" => {
                    let digits =
                        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
                    said.size = Some(digits.and_then(|text| text.parse().ok()).ok_or_else(malformed)?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.refuse(name, "it is a sparse file, which archives of images do not have"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn refuse(&self, member: &[u8], reason: &'static str) -> SourceError {
        /// Characters of a name from outside that an error shows.
        const SHOWN: usize = 200;
        let member: String = member.escape_ascii().map(char::from).take(SHOWN).collect();
        ArchiveFault { member, offset: self.offset, reason }.at(self.source_name)
    }
}

/// Splits off the first `LENGTH KEY=VALUE\n`.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let digits = bytes.get(..space)?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let length: usize = digits.parse().ok()?;
    let (line, rest) = bytes.split_at_checked(length)?;
    let line = line.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let (key, value) = line.split_at(equals);
    (!key.is_empty()).then_some((key, value.get(1..)?, rest))
}
