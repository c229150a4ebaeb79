//! The layout as a source.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_source::{BoxFuture, Source, SourceError, SourceFault, open_regular};

use super::{OciLayout, io_error};

impl Source for OciLayout {
    fn name(&self) -> &str {
        &self.text
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        let path = self.blob_path(blob);
        Box::pin(async move {
            let cancelled = || SourceFault::Cancelled.at(&self.text);
            // The permit moves into the task: an abandoned read counts until it has ended.
            let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| cancelled())?;
            let wanted = range.clone();
            let read = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                read_exactly(&path, &wanted).map_err(|error| (path, error))
            });
            match read.await.map_err(|_| cancelled())? {
                Ok(bytes) => Ok(bytes),
                Err((path, error)) => Err(self.read_error(&path, blob, range, error)),
            }
        })
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(blob, 0)
    }

    fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        let path = self.blob_path(blob);
        let open = open_regular(&path).and_then(|file| at(file, start));
        match open {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(self.read_error(&path, blob, start..start.saturating_add(1), error)),
        }
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        let path = self.blob_path(blob);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path, error)),
        }
    }
}

impl OciLayout {
    fn not_found(&self, digest: Digest) -> SourceError {
        SourceFault::NotFound { object: "blob", digest }.at(&self.text)
    }

    fn read_error(&self, path: &Path, digest: Digest, range: Range<u64>, error: io::Error) -> SourceError {
        match error.kind() {
            io::ErrorKind::NotFound => self.not_found(digest),
            io::ErrorKind::UnexpectedEof => SourceFault::Range { digest, range }.at(&self.text),
            _ => io_error(path, error),
        }
    }
}

/// Goes to a byte of a file, which must not lie behind its end: a read there would pass for an empty rest.
fn at(mut file: File, start: u64) -> io::Result<File> {
    if start > 0 && start > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}

/// Reads a range, whole or not at all. The file's length is asked for first, so that a wild range costs no memory.
fn read_exactly(path: &Path, range: &Range<u64>) -> io::Result<Bytes> {
    let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let file = open_regular(path)?;
    if range.end > file.metadata()?.len() {
        return Err(eof());
    }
    let length = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok()).ok_or_else(eof)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}
