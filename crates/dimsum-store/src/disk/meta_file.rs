//! A meta on this disk: 16 KiB groups, each proven from the meta root when it is read.
//!
//! On disk are `meta`, the uncompressed bytes, and `index`, the index of the compressed blob. The index proves itself by its chaining
//! values; its frame lengths are only where to look, and are fetched again when they lead nowhere.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use dimsum_format::MetaRoot;
use dimsum_format::codec::Decompressor;
use dimsum_format::group::{GROUP_U64, Groups};
use dimsum_format::index::MetaIndex;
use dimsum_format::manifest::Blob;
use dimsum_format::map::FrameMap;
use dimsum_format::pack::META_FRAME;
use parking_lot::RwLock;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::budget::SharedPot;
use crate::disk::cache::GroupCache;
use crate::disk::device::WriteFailure;
use crate::disk::frames::LocalFrames;
use crate::disk::layout::{self, StagedFile};
use crate::error::FailureReason;
use crate::role::RoleFlag;
use crate::stats::{Counters, add};

/// Groups of a frame of the compressed meta.
pub(crate) const GROUPS_PER_FRAME: u64 = META_FRAME as u64 / GROUP_U64;

/// What a look for a group gave.
pub(crate) enum GroupLook {
    /// Its bytes, proven.
    Good(Bytes),
    /// It has to be fetched.
    Miss {
        /// Whether wrong bytes stand in its place.
        damaged: bool,
    },
}

/// A meta on this disk: what the gate and the fetcher share of it.
#[derive(Debug)]
pub(crate) struct MetaFile {
    root: MetaRoot,
    blob: Blob,
    local: LocalFrames,
    path: PathBuf,
    index_path: PathBuf,
    groups: Groups,
    frames: RwLock<Arc<FrameMap>>,
    /// Whether the frame lengths come from this store's disk, where nothing proves them.
    frames_are_hint: AtomicBool,
    file: RwLock<Option<Arc<File>>>,
    /// Whether a frame could not be written.
    is_torn: AtomicBool,
    /// Whether the file has no name yet: then it is this process' alone.
    is_own: AtomicBool,
    role: Arc<RoleFlag>,
    cache: Arc<GroupCache>,
    fills: AtomicU64,
}

impl MetaFile {
    pub(crate) fn new(
        directory: &Path,
        root: MetaRoot,
        blob: Blob,
        local: LocalFrames,
        index: MetaIndex,
        from_disk: bool,
        (role, cached): (&Arc<RoleFlag>, &Arc<SharedPot>),
    ) -> Self {
        Self {
            root,
            blob,
            local,
            path: directory.join(META_FILE),
            index_path: directory.join(INDEX_FILE),
            groups: index.groups,
            frames: RwLock::new(Arc::new(index.frames)),
            frames_are_hint: AtomicBool::new(from_disk),
            file: RwLock::new(None),
            is_torn: AtomicBool::new(false),
            is_own: AtomicBool::new(false),
            role: Arc::clone(role),
            cache: GroupCache::new(cached),
            fills: AtomicU64::new(0),
        }
    }

    /// Length of the uncompressed meta.
    pub(crate) fn length(&self) -> u64 {
        self.groups.length()
    }

    pub(crate) const fn root(&self) -> MetaRoot {
        self.root
    }

    pub(crate) const fn blob(&self) -> Blob {
        self.blob
    }

    pub(crate) const fn local(&self) -> &LocalFrames {
        &self.local
    }

    pub(crate) fn frame(&self, frame: u32) -> Option<Range<u64>> {
        self.frames.read().frame(frame)
    }

    pub(crate) fn frame_content(&self, frame: u32) -> Range<u64> {
        let start = u64::from(frame) * META_FRAME as u64;
        start.min(self.groups.length())..(start + META_FRAME as u64).min(self.groups.length())
    }

    pub(crate) fn fills(&self) -> u64 {
        self.fills.load(Ordering::Acquire)
    }

    /// Length of the file, `None` if it is not there; what is in it is proven when it is read.
    pub(crate) fn length_on_disk(&self) -> Option<u64> {
        self.file().and_then(|file| file.metadata()).ok().map(|metadata| metadata.len())
    }

    /// Starts the file under another name, so that a meta in the store is a whole one even if this process is killed.
    pub(crate) fn begin(&self) -> Result<StagedFile, WriteFailure> {
        let failed = |error| (self.path.clone(), error);
        let begin = || {
            let temporary = StagedFile::create(layout::directory_of(&self.path))?;
            let length = self.groups.length();
            match rustix::fs::fallocate(&temporary.file, FallocateFlags::empty(), 0, length) {
                // Not every file system can reserve; then a full disk shows while writing.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
            *self.file.write() = Some(Arc::new(temporary.file.try_clone()?));
            self.is_own.store(true, Ordering::Release);
            Ok(temporary)
        };
        begin().map_err(failed)
    }

    /// Gives the file its name, unless a part of it could not be written.
    pub(crate) fn complete(&self, temporary: StagedFile) -> Result<(), WriteFailure> {
        if self.is_torn.load(Ordering::Acquire) {
            // Counted when it happened. The file goes with its temporary name; what is in it still serves this process.
            return Ok(());
        }
        self.is_own.store(false, Ordering::Release);
        temporary.place(&self.path, false).map_err(|error| (self.path.clone(), error))
    }

    /// Returns a group from the cache, or from disk if it is right.
    pub(crate) fn group(&self, group: u64, counters: &Counters) -> GroupLook {
        if let Some(bytes) = self.cache.get(group) {
            return GroupLook::Good(bytes);
        }
        let range = self.groups.range(group);
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        let read = self.file().and_then(|file| layout::read_at(&file, length, range.start));
        let Ok(bytes) = read else { return GroupLook::Miss { damaged: false } };
        if self.groups.verify(group, &bytes) {
            add(&counters.groups_verified, 1);
            let bytes = Bytes::from(bytes);
            self.cache.put(group, bytes.clone());
            return GroupLook::Good(bytes);
        }
        // All zeros is a group that was never written (the file is sparse), or was cut off or punched out: nothing to tell apart.
        GroupLook::Miss { damaged: self.role.is_owner() && bytes.iter().any(|byte| *byte != 0) }
    }

    /// Proves the groups of a decoded frame and puts them into the cache.
    pub(crate) fn accept(&self, frame: u32, bytes: &[u8]) -> Result<(), FailureReason> {
        let first = u64::from(frame) * GROUPS_PER_FRAME;
        let groups = || (first..).zip(bytes.chunks(usize::try_from(GROUP_U64).unwrap_or(1)));
        if let Some((group, _)) = groups().find(|(group, bytes)| !self.groups.verify(*group, bytes)) {
            return Err(FailureReason::Group { group });
        }
        for (group, bytes) in groups() {
            // Copied, so that one group in the cache does not keep the whole frame.
            self.cache.put(group, Bytes::copy_from_slice(bytes));
        }
        self.fills.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Decodes and proves a frame, and writes it. Nothing if it is wrong; else how the writing went.
    pub(crate) fn take_frame(
        &self,
        frame: u32,
        bytes: &[u8],
        decompressor: &mut Decompressor,
    ) -> Option<Result<(), WriteFailure>> {
        let content = self.frame_content(frame);
        let length = usize::try_from(content.end - content.start).unwrap_or(0);
        let bytes = decompressor.decompress(bytes, length).ok()?;
        self.accept(frame, &bytes).ok()?;
        Some(self.keep(frame, &bytes))
    }

    /// Writes a proven frame, if this process may.
    pub(crate) fn keep(&self, frame: u32, bytes: &[u8]) -> Result<(), WriteFailure> {
        if !self.role.is_owner() && !self.is_own.load(Ordering::Acquire) {
            return Ok(());
        }
        let written = self.file().and_then(|file| file.write_all_at(bytes, self.frame_content(frame).start));
        written.map_err(|error| {
            self.is_torn.store(true, Ordering::Release);
            (self.path.clone(), error)
        })
    }

    /// Where its frames lie.
    pub(crate) fn frames(&self) -> Arc<FrameMap> {
        Arc::clone(&self.frames.read())
    }

    /// Says, once, whether the frame lengths come from this store's disk, where nothing proves them.
    pub(crate) fn take_hint(&self) -> bool {
        self.frames_are_hint.swap(false, Ordering::AcqRel)
    }

    /// Takes frame lengths and the index with them from a source; says whether they are others than before.
    pub(crate) fn reframe(&self, frames: FrameMap, index: &[u8]) -> bool {
        if **self.frames.read() == frames {
            return false;
        }
        *self.frames.write() = Arc::new(frames);
        // Only saves the next process this detour.
        drop(layout::put_file(&self.index_path, index, false));
        true
    }

    pub(crate) fn frame_count(&self) -> u32 {
        u32::try_from(self.frames.read().frames()).unwrap_or(u32::MAX)
    }

    fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = &*self.file.read() {
            return Ok(Arc::clone(file));
        }
        let file = layout::open_regular(&self.path, true)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(self.file.write().get_or_insert_with(|| Arc::new(file))))
    }
}

/// Name of the uncompressed meta in an image's directory.
pub(crate) const META_FILE: &str = "meta";
/// Name of the index of the meta in an image's directory.
pub(crate) const INDEX_FILE: &str = "index";
