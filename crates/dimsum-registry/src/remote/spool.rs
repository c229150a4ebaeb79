//! Blobs that wait for their digest. A registry wants it before, or at the latest with, the last byte. A blob that it
//! has already is not sent at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{BlobWriter, SourceError, SourceFault, Target as _};
use rustix::fs::OFlags;

use super::RemoteRepository;
use super::upload::Supply;

/// Bytes gathered before they are written: frames of a few KiB would each cost a system call.
const WRITE_BUFFER: usize = 256 << 10;

/// A blob on its way, in a file that has no name and ends with us.
pub(super) struct Spool<'r> {
    target: &'r RemoteRepository,
    file: Arc<File>,
    buffer: Vec<u8>,
    written: u64,
}

impl<'r> Spool<'r> {
    pub(super) fn new(target: &'r RemoteRepository) -> Result<Self, SourceError> {
        let dir = &target.repo.hub.access.temp_dir;
        let file = nameless(dir).map_err(|source| SourceError::io(dir.display().to_string(), source))?;
        Ok(Self { target, file: Arc::new(file), buffer: Vec::new(), written: 0 })
    }
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len().saturating_add(bytes.len()) > WRITE_BUFFER {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BUFFER {
            (&*self.file).write_all(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.file).write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl BlobWriter for Spool<'_> {
    fn commit(
        mut self: Box<Self>,
        digest: Digest,
        size: u64,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let path = self.target.repo.hub.access.temp_dir.display().to_string();
        if self.written != size {
            let reason = "a blob was committed with another length than was written";
            return Err(SourceFault::Target { reason }.at(&self.target.repo.text));
        }
        self.flush().map_err(|source| SourceError::io(path, source))?;
        if self.target.has(digest, size)? {
            return Ok(());
        }
        let supply = SpooledBlob(Arc::clone(&self.file));
        self.target.upload(Blob { digest, size }, &supply, progress)
    }
}

/// A spooled blob, read from wherever an upload goes on.
struct SpooledBlob(Arc<File>);

impl Supply for SpooledBlob {
    fn name(&self) -> &str {
        "the spooled blob"
    }

    fn open_at(&self, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        Ok(Box::new(At { file: Arc::clone(&self.0), at: start }))
    }
}

struct At {
    file: Arc<File>,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

/// Makes a file without a name, where the file system cannot do that by taking the name away again.
fn nameless(dir: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if let Ok(file) = options.clone().custom_flags(OFlags::TMPFILE.bits() as i32).open(dir) {
        return Ok(file);
    }
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".dimsum-{}-{number}.tmp", std::process::id()));
        match options.create_new(true).open(&path) {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
