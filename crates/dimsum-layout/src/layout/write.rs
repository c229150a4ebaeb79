//! The layout as a target: nothing is visible before it is whole and durable.
//!
//! A blob is written into a file without a name, so that even `kill -9` leaves nothing behind. Where the file system
//! has no such files, it is written under a temporary name that is removed again. Order: the data of all blobs, each
//! fsync, then its name; fsync of their directory, once; then the index that lists them. Large blobs are on their way
//! to the disk while they are written, so that the fsync has little left to wait for. Only a copy of a large blob
//! leaves something behind when it is interrupted, to go on from there (`partial.rs`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dimsum_format::Digest;
use dimsum_format::manifest::{Blob, Descriptor};
use dimsum_source::referrers::{Referrer, list_in_tag};
use dimsum_source::{
    BlobWriter, Document, ErrorKind, ImageName, Place, Role, Source, SourceError, SourceFault, Target,
    open_without_waiting,
};
use dimsum_sys::writeback::start_writeback;
use rustix::fs::{AtFlags, CWD, OFlags};
use sha2::{Digest as _, Sha256};

use super::index::EMPTY;
use super::{INDEX, MARKER, MARKER_CONTENT, OciLayout, find_named, io_error};

/// Bytes gathered before they are written: frames of a few KiB would each cost a system call.
const WRITE_BUFFER: usize = 256 << 10;
/// Bytes after which the kernel is asked to write its dirty pages: a few large requests to a disk, and little left for
/// the fsync.
const WRITEBACK: u64 = 4 << 20;

impl OciLayout {
    /// Makes the missing files of an empty layout.
    pub(super) fn make(&self) -> Result<(), SourceError> {
        let blobs = self.blobs();
        let fresh = match fs::read_dir(&self.dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(io_error(&self.dir, error)),
        };
        if !fresh {
            let has = |name: &str| self.dir.join(name).exists();
            // Our own half-made layout (killed in the middle) is completed, anything else is left alone.
            if !has(MARKER) && !has("blobs") {
                let reason = "the directory is not empty and not an OCI image layout";
                return Err(SourceFault::Target { reason }.at(&self.text));
            }
        }
        fs::create_dir_all(&blobs).map_err(|error| io_error(&blobs, error))?;
        for (name, content) in [(INDEX, EMPTY), (MARKER, MARKER_CONTENT)] {
            if !self.dir.join(name).exists() {
                self.replace(name, content)?;
            }
        }
        self.forget_partials()
    }

    /// Makes the names of all blobs durable, also those of other processes: a lister of a blob has seen it.
    pub(super) fn sync_blobs(&self) -> Result<(), SourceError> {
        let blobs = self.blobs();
        sync_directory(&blobs).map_err(|error| io_error(&blobs, error))
    }

    /// Replaces a file of the layout as a whole, durably.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<(), SourceError> {
        let path = self.dir.join(name);
        let failed = |error| io_error(&path, error);
        let mut temporary = Temporary::named(&self.dir).map_err(failed)?;
        temporary.file.write_all(content).map_err(failed)?;
        temporary.file.sync_all().map_err(failed)?;
        temporary.rename(&path).map_err(failed)?;
        sync_directory(&self.dir).map_err(failed)
    }
}

impl Target for OciLayout {
    fn name(&self) -> &str {
        &self.text
    }

    fn has(&self, blob: Digest, size: u64) -> Result<bool, SourceError> {
        let path = self.blob_path(blob);
        match holds(&path, blob, size) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            held => held.map_err(|error| io_error(&path, error)),
        }
    }

    fn start_blob(&self) -> Result<Box<dyn BlobWriter + '_>, SourceError> {
        let blobs = self.blobs();
        let temporary = Temporary::new(&blobs).map_err(|error| io_error(&blobs, error))?;
        Ok(Box::new(LayoutBlob { layout: self, temporary, buffer: Vec::new(), written: 0, on_its_way: 0 }))
    }

    fn copy_blob(
        &self,
        blob: Blob,
        from: &dyn Source,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.copy_resumable(blob, from, progress)
    }

    fn put_manifest(&self, media_type: &str, manifest: &[u8], role: Role) -> Result<Digest, SourceError> {
        let blob = self.put_document(manifest)?;
        if role == Role::Part {
            return Ok(blob.digest);
        }
        let tag = match &self.name {
            Some(ImageName::Tag(tag)) => Some(tag.as_str()),
            _ => None,
        };
        self.add_to_index(&Descriptor::new(media_type, blob), tag)?;
        Ok(blob.digest)
    }

    fn place(&self) -> Option<&dyn Place> {
        Some(self)
    }

    fn read_tag(&self, tag: &str) -> Result<Option<Document>, SourceError> {
        let manifests = match self.index() {
            Ok(index) => index.manifests,
            // A layout that is being made.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok((digest, _)) = find_named(&manifests, Some(&ImageName::Tag(tag.to_owned()))) else { return Ok(None) };
        let document = Document::new(digest, self.read_manifest(digest)?);
        document.map(Some).map_err(|source| self.format_error(source))
    }

    fn put_tag(&self, tag: &str, media_type: &str, manifest: &[u8]) -> Result<bool, SourceError> {
        let blob = self.put_document(manifest)?;
        self.add_to_index(&Descriptor::new(media_type, blob), Some(tag))?;
        Ok(true)
    }

    fn refuses_referrers(&self) -> Option<&'static str> {
        None
    }

    fn put_referrer(&self, manifest: &[u8]) -> Result<Digest, SourceError> {
        let referrer = Referrer::parse(self, manifest)?;
        self.put_document(manifest)?;
        list_in_tag(self, referrer.subject, &referrer.entry)?;
        Ok(referrer.entry.digest)
    }
}

impl OciLayout {
    /// Stores a manifest or an index as a blob.
    fn put_document(&self, bytes: &[u8]) -> Result<Blob, SourceError> {
        let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let mut writer = self.start_blob()?;
        writer.write_all(bytes).map_err(|error| io_error(&self.blob_path(blob.digest), error))?;
        writer.commit(blob.digest, blob.size, &|_| ControlFlow::Continue(()))?;
        Ok(blob)
    }
}

/// A blob that is being written; it vanishes when dropped.
struct LayoutBlob<'l> {
    layout: &'l OciLayout,
    temporary: Temporary,
    buffer: Vec<u8>,
    written: u64,
    /// Bytes that the kernel was asked to write.
    on_its_way: u64,
}

impl Write for LayoutBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > WRITE_BUFFER {
            self.flush()?;
        }
        if bytes.len() >= WRITE_BUFFER {
            self.temporary.file.write_all(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.written += bytes.len() as u64;
        self.write_back();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl LayoutBlob<'_> {
    fn write_back(&mut self) {
        let in_file = self.written - self.buffer.len() as u64;
        let length = in_file - self.on_its_way;
        if length >= WRITEBACK {
            // Only a hint: the fsync tells of every error.
            let _ignored = start_writeback(&self.temporary.file, self.on_its_way, length);
            self.on_its_way = in_file;
        }
    }
}

impl BlobWriter for LayoutBlob<'_> {
    fn commit(
        mut self: Box<Self>,
        digest: Digest,
        size: u64,
        _progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let path = self.layout.blob_path(digest);
        let failed = |error| io_error(&path, error);
        if self.written != size {
            let reason = "a blob was committed with another length than was written";
            return Err(SourceFault::Target { reason }.at(&self.layout.text));
        }
        if self.layout.has(digest, size)? {
            return Ok(());
        }
        self.flush().map_err(failed)?;
        self.temporary.file.sync_all().map_err(failed)?;
        let blobs = self.layout.blobs();
        self.temporary.publish(&blobs, &path).map_err(failed)
    }
}

/// Says whether a file has the bytes of a blob. A blob that a disk has damaged is thus written again instead of being
/// taken as whole. To hash a blob is cheaper than to copy it.
fn holds(path: &Path, blob: Digest, size: u64) -> io::Result<bool> {
    let mut file = open_without_waiting(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != size {
        return Ok(false);
    }
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; WRITE_BUFFER]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest::new(hasher.finalize().into()) == blob);
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// A file that is not visible yet.
struct Temporary {
    file: File,
    /// Where it stands meanwhile, if it has a name at all.
    path: Option<PathBuf>,
}

impl Temporary {
    /// Makes a file in `dir`, without a name if the file system can do that.
    fn new(dir: &Path) -> io::Result<Self> {
        // O_TMPFILE includes O_DIRECTORY, so a file system that does not know it fails and makes nothing.
        let nameless = OpenOptions::new().write(true).mode(0o644).custom_flags(OFlags::TMPFILE.bits() as i32).open(dir);
        match nameless {
            Ok(file) => Ok(Self { file, path: None }),
            Err(_) => Self::named(dir),
        }
    }

    /// Makes a file in `dir` under an unused name.
    fn named(dir: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!(".dimsum-{}-{number}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path) {
                Ok(file) => return Ok(Self { file, path: Some(path) }),
                // Left behind by a killed process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the file its name; what had it before (a damaged blob of another length) is replaced.
    fn publish(mut self, dir: &Path, path: &Path) -> io::Result<()> {
        if self.path.is_some() {
            return self.rename(path);
        }
        let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let link = |to: &Path| rustix::fs::linkat(CWD, itself.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW);
        match link(path) {
            Err(rustix::io::Errno::EXIST) => {}
            done => return Ok(done?),
        }
        // A link cannot replace, a rename can.
        let mut between = Self::named(dir)?;
        let name = between.path.take().expect("a named file has a name");
        fs::remove_file(&name)?;
        link(&name)?;
        // From here on the temporary has a name, which drop removes if the rename fails.
        self.path = Some(name);
        self.rename(path)
    }

    fn rename(mut self, path: &Path) -> io::Result<()> {
        if let Some(from) = &self.path {
            fs::rename(from, path)?;
            self.path = None;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing can be done about a failure here, and nothing depends on it.
            let _ignored: io::Result<()> = fs::remove_file(path);
        }
    }
}

pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
