//! Blobs in an archive: ranges of a file that stays open, read by position.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::limits::MAX_MANIFEST_BYTES;
use dimsum_source::{SourceError, SourceFault, open_without_waiting};
use tokio::sync::Semaphore;

use super::members::Members;

/// Reads under way at the same time, as in a layout.
const MAX_READS: usize = 32;

/// An archive that is open, and what blobs it has.
#[derive(Debug)]
pub(super) struct Content {
    /// The reference as text.
    pub(super) text: String,
    file: Arc<File>,
    blobs: HashMap<Digest, Body>,
    reads: Arc<Semaphore>,
}

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
enum Body {
    /// In the archive.
    Stored(Range<u64>),
    /// Only here: it was made for the archive, which has no such blob.
    Made(Bytes),
}

impl Content {
    /// Opens an archive and finds its members.
    pub(super) fn open(path: &Path, text: String) -> Result<(Self, Members), SourceError> {
        let failed = |source| SourceError::io(path.display().to_string(), source);
        let file = open_without_waiting(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let refuse = |reason: &str| SourceFault::Name { reason: reason.to_owned() }.at(&text);
        if !metadata.is_file() {
            return Err(refuse(
                "an archive is read by position, so it must be a regular file; save a stream to one first",
            ));
        }
        let mut start = [0; 6];
        let head = start.get_mut(..metadata.len().min(6) as usize).unwrap_or_default();
        file.read_exact_at(head, 0).map_err(failed)?;
        if let Some(tool) = compression(&start) {
            let reason = format!(
                "the archive is compressed, so its members cannot be read by position; decompress it first, with {tool}"
            );
            return Err(refuse(&reason));
        }
        let members = Members::of_file(&text, &file, metadata.len())?;
        let reads = Arc::new(Semaphore::new(MAX_READS));
        Ok((Self { text, file: Arc::new(file), blobs: HashMap::new(), reads }, members))
    }

    /// Gives a blob of this digest the bytes of a member.
    pub(super) fn store(&mut self, digest: Digest, range: Range<u64>) {
        self.blobs.insert(digest, Body::Stored(range));
    }

    /// Adds a blob that is not in the archive.
    pub(super) fn make(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs.insert(digest, Body::Made(bytes.into()));
        digest
    }

    /// Returns a reader of a member.
    pub(super) fn member(&self, range: Range<u64>) -> impl Read + Send + use<> {
        Stored { file: Arc::clone(&self.file), range }
    }

    /// Reads a member that is a document.
    pub(super) fn document(&self, object: &'static str, range: Range<u64>, limit: u64) -> Result<Vec<u8>, SourceError> {
        let length = range.end - range.start;
        if length > limit {
            let reason = format!("its {object} has {length} bytes, the limit is {limit}");
            return Err(SourceFault::Name { reason }.at(&self.text));
        }
        let mut bytes = Vec::new();
        self.member(range).read_to_end(&mut bytes).map_err(|error| self.io_error(error))?;
        Ok(bytes)
    }

    /// Reads the document that says what the archive holds.
    pub(super) fn listing(&self, name: &'static str, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
        self.document(name, range, MAX_MANIFEST_BYTES)
    }

    pub(super) fn size(&self, blob: Digest) -> Option<u64> {
        self.blobs.get(&blob).map(Body::length)
    }

    pub(super) fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let body = self.body(blob)?;
        if start > body.length() {
            return Err(self.no_range(blob, start..start.saturating_add(1)));
        }
        Ok(match body {
            Body::Stored(range) => Box::new(self.member(range.start + start..range.end)),
            Body::Made(bytes) => {
                let mut reader = io::Cursor::new(bytes);
                reader.set_position(start);
                Box::new(reader)
            }
        })
    }

    pub(super) async fn read_range(&self, blob: Digest, range: Range<u64>) -> Result<Bytes, SourceError> {
        let body = self.body(blob)?;
        let inside = range.start <= range.end && range.end <= body.length();
        let Some(length) = inside.then(|| usize::try_from(range.end - range.start).ok()).flatten() else {
            return Err(self.no_range(blob, range));
        };
        let base = match body {
            Body::Made(bytes) => {
                let start = usize::try_from(range.start).unwrap_or(usize::MAX);
                return Ok(bytes.slice(start..start.saturating_add(length)));
            }
            Body::Stored(stored) => stored.start,
        };
        let cancelled = || SourceFault::Cancelled.at(&self.text);
        // The permit moves into the task: an abandoned read counts until it has ended.
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| cancelled())?;
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, base + range.start).map(|()| Bytes::from(bytes))
        });
        read.await.map_err(|_| cancelled())?.map_err(|error| self.io_error(error))
    }

    fn body(&self, digest: Digest) -> Result<Body, SourceError> {
        let not_found = || SourceFault::NotFound { object: "blob", digest }.at(&self.text);
        self.blobs.get(&digest).cloned().ok_or_else(not_found)
    }

    fn no_range(&self, digest: Digest, range: Range<u64>) -> SourceError {
        SourceFault::Range { digest, range }.at(&self.text)
    }

    pub(super) fn io_error(&self, source: io::Error) -> SourceError {
        SourceError::io(&self.text, source)
    }
}

impl Body {
    fn length(&self) -> u64 {
        match self {
            Self::Stored(range) => range.end - range.start,
            Self::Made(bytes) => bytes.len() as u64,
        }
    }
}

/// Reads a range of a file that others read too.
struct Stored {
    file: Arc<File>,
    range: Range<u64>,
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.file.read_at(buffer, self.range.start)?;
        if count == 0 {
            // The index saw that many bytes: the file was cut while it was open.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.range.start += count as u64;
        Ok(count)
    }
}

/// Returns the command that decompresses a file, if it is compressed.
const fn compression(start: &[u8; 6]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip -d"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd -d"),
        [b'B', b'Z', b'h', ..] => Some("bzip2 -d"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz -d"),
        _ => None,
    }
}
