//! The store's whole packs as a source, for copying from the store.
//!
//! A pack that came piece by piece (`frames.rs`) becomes a whole one here, when somebody asks for it. It does so only
//! if nothing of it is absent and it has its SHA-256. Reads of an open image do not need that; they prove frames one by
//! one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_source::{BoxFuture, Source, SourceError, SourceFault};
use rustix::fs::SeekFrom;
use tokio::sync::oneshot;

use crate::disk::layout::{self, Layout};
use crate::limits::MAX_DIR_ENTRIES;
use crate::pool::{DecodePool, JobOwner};
use crate::role::RoleFlag;

/// Reads `packs/`. Reading runs on the decode pool, so no thread is added for it.
#[derive(Debug)]
pub(crate) struct LocalPacks {
    layout: Layout,
    pool: Arc<DecodePool>,
    name: String,
    role: Arc<RoleFlag>,
}

impl LocalPacks {
    pub(crate) fn new(layout: &Layout, pool: &Arc<DecodePool>, role: &Arc<RoleFlag>) -> Self {
        let name = format!("store:{}", layout.root().display());
        Self { layout: layout.clone(), pool: Arc::clone(pool), name, role: Arc::clone(role) }
    }

    fn find(&self, blob: Digest) -> Result<Option<File>, SourceError> {
        let path = self.layout.pack(blob);
        layout::open_regular(&path, false).map_err(|source| io_error(&path, source))
    }

    /// Finds a whole pack, or makes one of a sparse file that is complete and right, blocking: that is hashed.
    fn find_or_make(&self, blob: Digest) -> Result<Option<File>, SourceError> {
        if let Some(file) = self.find(blob)? {
            return Ok(Some(file));
        }
        for part in self.parts(blob) {
            // One that cannot be read or made whole is no pack, and hides no other.
            match whole(&part, blob) {
                Ok(Some(file)) if self.role.is_owner() => {
                    let placed = place(&file, &part, &self.layout.pack(blob));
                    if placed.is_ok() {
                        return self.find(blob);
                    }
                }
                // A guest reads it where it is.
                Ok(Some(file)) => return Ok(Some(file)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Removes the sparse files of a pack that is whole now: it has all they have.
    pub(crate) fn forget_parts(&self, blob: Digest) {
        if !self.role.is_owner() {
            return;
        }
        for part in self.parts(blob) {
            // What stays only takes space.
            drop(fs::remove_file(part));
        }
    }

    /// Lists the sparse files of a pack.
    fn parts(&self, blob: Digest) -> Vec<PathBuf> {
        let pack = self.layout.pack(blob);
        let prefix = format!("{}.", blob.hex());
        let Ok(list) = fs::read_dir(layout::directory_of(&pack)) else { return Vec::new() };
        let is_part = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
        };
        list.flatten().take(MAX_DIR_ENTRIES).map(|entry| entry.path()).filter(is_part).collect()
    }

    fn not_found(&self, digest: Digest) -> SourceError {
        SourceFault::NotFound { object: "blob", digest }.at(&self.name)
    }

    fn no_range(&self, digest: Digest, range: Range<u64>) -> SourceError {
        SourceFault::Range { digest, range }.at(&self.name)
    }
}

impl Source for LocalPacks {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(async move {
            // Most images have no pack here: finding that out is one lookup, done at once.
            let file = self.find(blob)?.ok_or_else(|| self.not_found(blob))?;
            let path = self.layout.pack(blob);
            // Before memory is taken for it.
            let is_inside = range.start <= range.end && range.end <= whole_length(&file, &path)?;
            let length = usize::try_from(range.end.saturating_sub(range.start)).ok().filter(|_| is_inside);
            let Some(length) = length else { return Err(self.no_range(blob, range)) };
            let (give, take) = oneshot::channel();
            let start = range.start;
            self.pool.submit(
                JobOwner::STORE,
                length as u64,
                Box::new(move |_| {
                    // Nobody listens if the deadline has passed.
                    drop(give.send(layout::read_at(&file, length, start)));
                }),
            );
            let cancelled = |_| SourceFault::Cancelled.at(&self.name);
            let bytes = take.await.map_err(cancelled)?.map_err(|source| io_error(&path, source))?;
            if bytes.len() != length {
                return Err(self.no_range(blob, range));
            }
            Ok(bytes.into())
        })
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        let file = self.find_or_make(blob)?.ok_or_else(|| self.not_found(blob))?;
        Ok(Box::new(file))
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        let Some(file) = self.find_or_make(blob)? else { return Ok(None) };
        whole_length(&file, &self.layout.pack(blob)).map(Some)
    }
}

fn whole_length(file: &File, path: &Path) -> Result<u64, SourceError> {
    file.metadata().map(|metadata| metadata.len()).map_err(|source| io_error(path, source))
}

/// Opens a sparse file if it is the whole pack.
fn whole(part: &Path, blob: Digest) -> io::Result<Option<File>> {
    let Some(file) = layout::open_regular(part, false)? else { return Ok(None) };
    let length = file.metadata()?.len();
    // Where the file system knows of holes, most incomplete files are known without reading them.
    if rustix::fs::seek(&file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < length) {
        return Ok(None);
    }
    let is_whole = layout::sha256(&file, |_| {})? == blob;
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    Ok(is_whole.then_some(file))
}

/// Gives a sparse file that is a whole pack the name of that.
fn place(file: &File, part: &Path, pack: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(part, pack)?;
    layout::sync_directory(layout::directory_of(pack))
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> SourceError {
    SourceError::io(path.display().to_string(), source)
}
