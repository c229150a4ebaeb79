//! A sink that keeps every content in memory, checks that it is called as promised, and gives the content back.

use std::convert::Infallible;
use std::ops::Range;

use dimsum_tree::{ContentId, ContentSink, ContentSource, FileType, Tree};

#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) hole_bytes: u64,
    open: Option<(u64, Vec<u8>)>,
}

impl ContentSink for MemorySink {
    type Error = Infallible;

    fn begin(&mut self, size: u64) -> Result<(), Infallible> {
        assert!(self.open.replace((size, Vec::new())).is_none(), "files are not interleaved");
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        assert!(!bytes.is_empty());
        self.open.as_mut().expect("begun").1.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), Infallible> {
        assert!(length > 0);
        self.hole_bytes += length;
        let bytes = &mut self.open.as_mut().expect("begun").1;
        bytes.resize(bytes.len() + usize::try_from(length).unwrap(), 0);
        Ok(())
    }

    fn end(&mut self) -> Result<ContentId, Infallible> {
        let (size, bytes) = self.open.take().expect("begun");
        assert_eq!(bytes.len() as u64, size, "a file is as long as announced");
        self.files.push(bytes);
        Ok(ContentId::new(u32::try_from(self.files.len() - 1).unwrap()))
    }
}

impl MemorySink {
    /// All paths with attributes and content, one a line.
    pub(crate) fn lines(&self, tree: &Tree) -> Vec<String> {
        let content = |id: ContentId| self.files[id.get() as usize].as_slice();
        tree.dump()
            .map(|entry| match entry.inode.content() {
                Some(id) => format!("{entry} {:016x}", digest(content(id))),
                None => entry.to_string(),
            })
            .collect()
    }

    /// All paths with type and content only: `dir/`, `file=content`, `link->target`, `gone!`, `*` if opaque,
    /// `~` for hard links.
    pub(crate) fn short(&self, tree: &Tree) -> String {
        let mut words = Vec::new();
        for entry in tree.dump().skip(1) {
            let path = entry.path.escape_ascii();
            let linked = if entry.inode.nlink() > 1 { "~" } else { "" };
            words.push(match entry.inode.file_type() {
                FileType::Directory if entry.inode.is_opaque() => format!("{path}/*"),
                FileType::Directory => format!("{path}/"),
                FileType::Regular => {
                    let id = entry.inode.content().expect("files have content");
                    format!("{path}{linked}={}", self.files[id.get() as usize].escape_ascii())
                }
                FileType::Symlink => format!("{path}{linked}->{}", entry.target.escape_ascii()),
                _ if entry.inode.is_whiteout() => format!("{path}!"),
                other => format!("{path}:{other:?}"),
            });
        }
        words.join(" ")
    }
}

/// FNV-1a: enough to tell contents of a test apart.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What was read can be written again; zeros at the end of a block of 4096 bytes count as a hole.
impl ContentSource for MemorySink {
    type Error = Infallible;

    fn next_data(&mut self, content: ContentId, from: u64) -> Result<Option<Range<u64>>, Infallible> {
        let file = &self.files[content.get() as usize];
        let start = usize::try_from(from).unwrap();
        let Some(rest) = file.get(start..) else { return Ok(None) };
        let Some(first) = rest.iter().position(|&byte| byte != 0) else { return Ok(None) };
        let first = start + first / 4096 * 4096;
        let end = (first + 4096).min(file.len());
        Ok(Some(first as u64..end as u64))
    }

    fn read(&mut self, content: ContentId, offset: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let file = &self.files[content.get() as usize];
        let rest = &file[usize::try_from(offset).unwrap().min(file.len())..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
