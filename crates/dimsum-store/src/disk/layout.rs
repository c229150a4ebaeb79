//! Names of files in the store, and how they are read and written.
//!
//! Whole files appear by rename, so a reader sees all of one or none. Files that cannot be derived again (packs of a
//! local conversion, manifests, configs, records) are synced before and after the rename. Device files and metas are
//! not: they are proven at each read and can be fetched again. Only regular files are ever opened, and no symlink is
//! followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dimsum_format::{Blake3, DeviceId, Digest};
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::Digest as _;

use crate::limits::HASH_BUFFER;

/// Content of the file `version`. A change of any file that this crate cannot prove or rebuild changes it.
pub(crate) const VERSION: &str = "dimsum store 1";
/// Start of the names of files that are being written. They are never read; those of a process that was killed stay until somebody
/// removes them.
pub(crate) const TEMPORARY: &str = ".tmp-";
/// Names tried before giving up on a temporary file: they are random, a second one is needed next to never.
const TEMPORARY_TRIES: u32 = 16;

/// The directories of a store.
pub(crate) const PACKS: &str = "packs";
/// Decoded devices.
pub(crate) const DEVICES: &str = "devices";
/// Manifests, configs and metas.
pub(crate) const IMAGES: &str = "images";
/// Conversion records.
pub(crate) const RECORDS: &str = "records";

/// Name of the manifest in an image's directory.
pub(crate) const MANIFEST_FILE: &str = "manifest";
/// Name of the config in an image's directory.
pub(crate) const CONFIG_FILE: &str = "config";

/// Where things lie in a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn pack(&self, digest: Digest) -> PathBuf {
        self.fanned(PACKS, &digest.hex())
    }

    /// The sparse file beside a pack, for one map of it.
    pub(crate) fn part(&self, digest: Digest, map: &str) -> PathBuf {
        let mut path = self.pack(digest).into_os_string();
        path.push(format!(".{map}"));
        path.into()
    }

    pub(crate) fn device(&self, id: DeviceId) -> PathBuf {
        self.fanned(DEVICES, &id.hex())
    }

    pub(crate) fn image(&self, manifest: Digest) -> PathBuf {
        self.root.join(IMAGES).join(manifest.hex())
    }

    pub(crate) fn record(&self, name: Blake3) -> PathBuf {
        self.fanned(RECORDS, &name.hex())
    }

    /// 256 directories of equal size, because names are hashes.
    fn fanned(&self, kind: &str, hex: &str) -> PathBuf {
        let first = hex.get(..2).unwrap_or("00");
        self.root.join(kind).join(first).join(hex)
    }
}

/// Makes a directory and its parents, readable for its owner only: a store holds the files of private images.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a regular file; `None` if nothing has that name.
pub(crate) fn open_regular(path: &Path, write: bool) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // NONBLOCK: a FIFO in the place of a file must not stop us.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    options.read(true).write(write).custom_flags(flags.cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    check_regular(file).map(Some)
}

/// Opens a regular file, making it if nothing has that name.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.cast_signed());
    check_regular(options.open(path)?)
}

fn check_regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
}

/// Reads a whole file of at most `limit` bytes; `None` if nothing has that name. A longer file is an error, not a cut.
pub(crate) fn read_small(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_regular(path, false)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is longer than such files may be"));
    }
    Ok(Some(bytes))
}

/// Reads `length` bytes at `offset`, fewer only if the file ends before.
pub(crate) fn read_at(file: &File, length: usize, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset.saturating_add(bytes.len() as u64);
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may give more room than was asked for.
    bytes.truncate(length);
    Ok(bytes)
}

/// Hashes a whole file; `seen` is told of bytes as they are read.
pub(crate) fn sha256(mut file: &File, mut seen: impl FnMut(u64)) -> io::Result<Digest> {
    file.rewind()?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(Digest::new(hasher.finalize().into()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        seen(count as u64);
    }
}

/// Puts a whole file in place.
pub(crate) fn put_file(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let parent = directory_of(path);
    let mut temporary = StagedFile::create(parent)?;
    temporary.file.write_all(bytes)?;
    temporary.place(path, durable)
}

/// The directory that holds a file.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file that is not visible yet; removed when dropped before [`StagedFile::place`].
#[derive(Debug)]
pub(crate) struct StagedFile {
    pub(crate) file: File,
    path: Option<PathBuf>,
}

impl StagedFile {
    /// Makes one in `directory`, which is made too.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TEMPORARY_TRIES {
            let mut random = [0; 8];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
            let path = directory.join(format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random)));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Self { file, path: Some(path) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Makes the file visible as `path`, in a directory that is made if needed; replaces what has that name.
    pub(crate) fn place(mut self, path: &Path, durable: bool) -> io::Result<()> {
        let parent = directory_of(path);
        make_directory(parent)?;
        if durable {
            self.file.sync_all()?;
        }
        if let Some(temporary) = &self.path {
            fs::rename(temporary, path)?;
        }
        self.path = None;
        if durable {
            sync_directory(parent)?;
            // The directory itself may be new.
            sync_directory(directory_of(parent))?;
        }
        Ok(())
    }

    /// Makes the file visible as `path`, durable, unless something has that name already.
    pub(crate) fn place_new(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(temporary) = &self.path {
            fs::hard_link(temporary, path)?;
        }
        // Dropping removes the temporary name.
        sync_directory(directory_of(path))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // It is never read; if it cannot be removed it only takes space, and `check` lists it.
            drop(fs::remove_file(path));
        }
    }
}
