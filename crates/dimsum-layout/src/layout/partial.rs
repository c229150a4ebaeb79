//! A blob that is copied in more than one attempt.
//!
//! The bytes of an interrupted copy stay in a file of its own, `blobs/.dimsum-partial-HEX`. It is outside of
//! `blobs/sha256`, where other tools look. The next attempt hashes it again, since nothing on disk is trusted, and goes
//! on where it ends. Whoever writes such a file holds a lock on it; a second copier of the same blob finds it locked
//! and copies for itself.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{Source, SourceError, SourceFault, Target as _, check, copy_through};
use sha2::{Digest as _, Sha256};

use super::{OciLayout, io_error};

/// Blobs below this are not worth a second attempt's file: they are copied again.
const MIN_SIZE: u64 = 1 << 20;
/// Partial blobs that a layout keeps; the oldest go first. More than one copy leaves behind, few enough that forgotten ones
/// do not pile up.
const MAX_KEPT: usize = 16;
/// Bytes that are copied at once.
const BUFFER: usize = 256 << 10;
const PREFIX: &str = ".dimsum-partial-";

/// A partial blob with one writer.
struct Partial {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    /// Bytes in the file, all of which are hashed.
    length: u64,
}

impl OciLayout {
    /// Copies a blob, going on where an earlier attempt stopped.
    pub(super) fn copy_resumable(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let path = self.partials().join(format!("{PREFIX}{}", blob.digest.hex()));
        let partial = if blob.size < MIN_SIZE { Ok(None) } else { Partial::open(&path) };
        let Some(mut partial) = partial.map_err(|error| io_error(&path, error))? else {
            return copy_through(self.start_blob()?, blob, from, progress);
        };
        let resumed = partial.rehash(blob.size, from, progress)?;
        let mut is = partial.fill(blob, from, progress)?;
        if resumed && is != blob.digest {
            // The kept bytes may be the wrong ones.
            partial.clear().map_err(|error| io_error(&path, error))?;
            is = partial.fill(blob, from, progress)?;
        }
        if let Err(error) = check(blob, from, is, partial.length) {
            // Going on from here would end the same way.
            fs::remove_file(&path).map_err(|error| io_error(&path, error))?;
            return Err(error);
        }
        self.finish(&partial, blob.digest)
    }

    fn finish(&self, partial: &Partial, digest: Digest) -> Result<(), SourceError> {
        let path = self.blob_path(digest);
        let failed = |error| io_error(&path, error);
        partial.file.sync_all().map_err(failed)?;
        fs::rename(&partial.path, &path).map_err(failed)
    }

    /// Removes partial blobs that are whole by now, or are too many.
    pub(super) fn forget_partials(&self) -> Result<(), SourceError> {
        let dir = self.partials();
        let mut kept = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|error| io_error(&dir, error))? {
            let entry = entry.map_err(|error| io_error(&dir, error))?;
            let name = entry.file_name();
            let Some(hex) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let whole = Digest::from_hex(hex).is_ok_and(|digest| self.blob_path(digest).exists());
            match entry.metadata() {
                Ok(metadata) if !whole => kept.push((metadata.mtime(), metadata.mtime_nsec(), entry.path())),
                Ok(_) => remove_unlocked(&entry.path()),
                // Its copier has just come to the end.
                Err(_) => {}
            }
        }
        kept.sort_unstable();
        let surplus = kept.len().saturating_sub(MAX_KEPT);
        kept.iter().take(surplus).for_each(|(_, _, path)| remove_unlocked(path));
        Ok(())
    }

    /// Says whether there is a partial blob.
    pub(crate) fn has_partials(&self) -> bool {
        let is_partial = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        fs::read_dir(self.partials())
            .is_ok_and(|mut all| all.any(|each| each.is_ok_and(|each| is_partial(&each.file_name()))))
    }

    fn partials(&self) -> PathBuf {
        self.dir.join("blobs")
    }
}

/// Removes a file without a writer. Nothing depends on it.
fn remove_unlocked(path: &Path) {
    if File::open(path).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ignored: io::Result<()> = fs::remove_file(path);
    }
}

impl Partial {
    /// Opens the file, or makes it; none if another process writes it.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking its copier may have come to the end and given it its name.
        let same = |named: &fs::Metadata, own: &fs::Metadata| (named.dev(), named.ino()) == (own.dev(), own.ino());
        let own = file.metadata()?;
        if !fs::metadata(path).is_ok_and(|named| same(&named, &own)) {
            return Ok(None);
        }
        Ok(Some(Self { file, path: path.to_owned(), hasher: Sha256::new(), length: 0 }))
    }

    /// Hashes the bytes that are there; says whether there are any.
    fn rehash(
        &mut self,
        size: u64,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<bool, SourceError> {
        let path = self.path.clone();
        let failed = |error| io_error(&path, error);
        if self.file.metadata().map_err(failed)?.len() > size {
            self.clear().map_err(failed)?;
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self.file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Ok(self.length > 0);
            }
            self.hasher.update(buffer.get(..count).unwrap_or_default());
            self.length += count as u64;
            // Nothing has moved, but it takes its time.
            if progress(0).is_break() {
                return Err(SourceFault::Cancelled.at(from.name()));
            }
        }
    }

    /// Fetches the missing bytes and returns the digest of all.
    fn fill(
        &mut self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<Digest, SourceError> {
        let path = self.path.clone();
        let failed = |error| io_error(&path, error);
        let read_failed = |source| SourceError::io(format!("{} {}", from.name(), blob.digest), source);
        if self.length < blob.size {
            // One byte more tells a blob that is too long.
            let left = (blob.size - self.length).saturating_add(1);
            let mut reader = from.open_at(blob.digest, self.length)?.take(left);
            let mut buffer = vec![0; BUFFER];
            loop {
                let count = reader.read(&mut buffer).map_err(read_failed)?;
                let bytes = buffer.get(..count).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                self.file.write_all(bytes).map_err(failed)?;
                self.hasher.update(bytes);
                self.length += count as u64;
                if progress(count as u64).is_break() {
                    return Err(SourceFault::Cancelled.at(from.name()));
                }
            }
        }
        Ok(Digest::new(std::mem::take(&mut self.hasher).finalize().into()))
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }
}
