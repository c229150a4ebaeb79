//! The gate of the meta: 16 KiB groups, proven from the meta root at each read that leaves the cache.
//!
//! On disk are `meta`, the uncompressed bytes, and `index`, the index of the compressed blob. The index proves itself by its chaining
//! values; its frame lengths are only where to look, and are fetched again when they lead nowhere. A frame of the meta is fetched,
//! joined and repaired like a chunk (`fetch.rs`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use bytes::Bytes;
use dimsum_format::MetaRoot;
use dimsum_format::codec::Decompressor;
use dimsum_format::group::{GROUP_U64, Groups};
use dimsum_format::index::MetaIndex;
use dimsum_format::manifest::Blob;
use dimsum_format::map::FrameMap;
use dimsum_format::pack::META_FRAME;
use parking_lot::{Mutex, RwLock};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::cache::GroupCache;
use crate::device::WriteFailure;
use crate::error::{FailureReason, MetaError, ReadError};
use crate::feed::META;
use crate::fetch::{Fetcher, Miss};
use crate::frames::LocalFrames;
use crate::index;
use crate::layout::{self, Temporary};
use crate::limits::META_WINDOW;
use crate::queue::Waiter;
use crate::stats::{Counters, add};

/// Groups of a frame of the compressed meta.
const GROUPS_PER_FRAME: u64 = META_FRAME as u64 / GROUP_U64;

/// The meta of an open image.
#[derive(Debug)]
pub struct Meta {
    core: Arc<MetaCore>,
    fetcher: Arc<Fetcher>,
}

impl Meta {
    pub(crate) const fn new(core: Arc<MetaCore>, fetcher: Arc<Fetcher>) -> Self {
        Self { core, fetcher }
    }

    /// Returns the length of the uncompressed meta in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.core.groups.length()
    }

    /// Reads exactly `buf` at `offset`. Never waits.
    ///
    /// # Errors
    /// [`MetaError::Pending`] if a group has to be fetched: call [`Meta::when_ready`] with it, then read again.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), MetaError> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.length() {
            return Err(MetaError::OutOfRange { range: offset..end, length: self.length() });
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let group = at / GROUP_U64;
            let seen = self.core.fills();
            let bytes = match self.core.group(group, &self.fetcher.counters) {
                Found::Good(bytes) => bytes,
                Found::Miss { damaged } => {
                    // Starts the flight, so that the fetch is under way when the caller asks for the callback.
                    self.fly(group, damaged, seen, |_| None);
                    return Err(MetaError::Pending { group });
                }
            };
            let inside = usize::try_from(at % GROUP_U64).unwrap_or(0);
            let found = bytes.get(inside..).unwrap_or_default();
            let length = found.len().min(rest.len());
            let (Some(from), Some((to, behind))) = (found.get(..length), rest.split_at_mut_checked(length)) else {
                break;
            };
            to.copy_from_slice(from);
            at = at.saturating_add(length as u64);
            rest = behind;
        }
        Ok(())
    }

    /// Calls `ready` once `group` can be read or cannot be had, on a thread of the store, which it must not block. How many wait is
    /// the caller's to bound; each costs its callback.
    pub fn when_ready(&self, group: u64, ready: Box<dyn FnOnce(Result<(), ReadError>) + Send>) {
        let seen = self.core.fills();
        let ready = Arc::new(Mutex::new(Some(ready)));
        let later = Arc::clone(&ready);
        let found = self.core.group(group, &self.fetcher.counters);
        let started = match found {
            Found::Miss { damaged } => self.fly(group, damaged, seen, move |store| {
                let (ready, store) = (Arc::clone(&later), Arc::clone(store));
                Some(Box::new(move |result: Result<Bytes, ReadError>| {
                    // A flight that ends at once calls from this very thread, where the caller may hold locks.
                    store.store.pool.submit(Box::new(move |_| call_once(&ready, result.map(drop))));
                }) as Waiter)
            }),
            Found::Good(_) => false,
        };
        if !started {
            self.fetcher.store.pool.submit(Box::new(move |_| call_once(&ready, Ok(()))));
        }
    }

    /// Reads like [`Meta::read_at`] and waits for what is missing.
    ///
    /// # Errors
    /// If a group cannot be had.
    pub fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        loop {
            match self.read_at(offset, buf) {
                Ok(()) => return Ok(()),
                Err(MetaError::OutOfRange { range, length }) => return Err(ReadError::OutOfRange { range, length }),
                Err(MetaError::Pending { group }) => {
                    let (give, take) = mpsc::channel();
                    self.when_ready(group, Box::new(move |result| drop(give.send(result))));
                    take.recv().map_err(|_| ReadError::Closed)??;
                }
            }
        }
    }

    /// Fetches every frame, some at a time, and waits until they are written.
    pub(crate) fn fetch_all(&self) -> Result<(), ReadError> {
        let frames: Vec<u32> = (0..self.core.frame_count()).collect();
        for window in frames.chunks(META_WINDOW) {
            let (give, take) = mpsc::channel();
            let miss = |unit: &u32| Miss { feed: META, unit: *unit, damaged: false, seen: 0 };
            let waiter = |_| {
                let give = give.clone();
                Some(Box::new(move |result: Result<Bytes, ReadError>| drop(give.send(result.map(drop)))) as Waiter)
            };
            self.fetcher.join(window.to_vec(), true, miss, waiter);
            drop(give);
            for result in take {
                result?;
            }
        }
        self.wait_idle();
        Ok(())
    }

    /// Decodes every frame from the whole compressed blob, some at a time, and waits until they are written. Says whether all were
    /// right.
    pub(crate) fn take_whole(&self, blob: &Bytes) -> bool {
        let frames: Vec<u32> = (0..self.core.frame_count()).collect();
        frames.chunks(META_WINDOW).all(|window| {
            let (give, take) = mpsc::channel();
            for frame in window {
                let range = self.core.frame(*frame).unwrap_or(0..0);
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(blob.len());
                let bytes = blob.slice(place(range.start)..place(range.end));
                let (fetcher, core, give, frame) =
                    (Arc::clone(&self.fetcher), Arc::clone(&self.core), give.clone(), *frame);
                self.fetcher.store.pool.submit(Box::new(move |decompressor| {
                    let _ = give.send(core.take_frame(frame, &bytes, decompressor, &fetcher));
                }));
            }
            drop(give);
            take.iter().filter(|right| *right).count() == window.len()
        })
    }

    /// Waits until what was fetched is written.
    pub(crate) fn wait_idle(&self) {
        self.fetcher.wait_idle();
    }

    /// Joins or starts the flight of a group's frame; `false` if it turned out to be readable.
    fn fly(&self, group: u64, damaged: bool, seen: u64, waiter: impl Fn(&Arc<Fetcher>) -> Option<Waiter>) -> bool {
        let unit = u32::try_from(group / GROUPS_PER_FRAME).unwrap_or(u32::MAX);
        let miss = |(): &()| Miss { feed: META, unit, damaged, seen };
        let again = self.fetcher.join(vec![()], false, miss, |()| waiter(&self.fetcher));
        if again.is_empty() {
            return true;
        }
        // Some frame was filled meanwhile; most likely this one.
        if matches!(self.core.group(group, &self.fetcher.counters), Found::Good(_)) {
            return false;
        }
        self.fetcher.join(again, true, miss, |()| waiter(&self.fetcher));
        true
    }
}

/// A callback that two paths could call.
type Once = Mutex<Option<Box<dyn FnOnce(Result<(), ReadError>) + Send>>>;

fn call_once(ready: &Once, result: Result<(), ReadError>) {
    let ready = ready.lock().take();
    if let Some(ready) = ready {
        ready(result);
    }
}

/// What a look for a group gave.
pub(crate) enum Found {
    /// Its bytes, proven.
    Good(Bytes),
    /// It has to be fetched.
    Miss {
        /// Whether wrong bytes stand in its place.
        damaged: bool,
    },
}

/// What the gate and the fetcher share of a meta.
#[derive(Debug)]
pub(crate) struct MetaCore {
    root: MetaRoot,
    blob: Blob,
    local: LocalFrames,
    path: PathBuf,
    index_path: PathBuf,
    groups: Groups,
    frames: RwLock<FrameMap>,
    /// Whether the frame lengths come from this store's disk, where nothing proves them.
    frames_are_hint: AtomicBool,
    file: OnceLock<File>,
    /// Whether a frame could not be written.
    is_torn: AtomicBool,
    cache: GroupCache,
    fills: AtomicU64,
}

impl MetaCore {
    pub(crate) fn new(
        directory: &Path,
        root: MetaRoot,
        blob: Blob,
        local: LocalFrames,
        index: MetaIndex,
        from_disk: bool,
    ) -> Self {
        Self {
            root,
            blob,
            local,
            path: directory.join(META_FILE),
            index_path: directory.join(INDEX_FILE),
            groups: index.groups,
            frames: RwLock::new(index.frames),
            frames_are_hint: AtomicBool::new(from_disk),
            file: OnceLock::new(),
            is_torn: AtomicBool::new(false),
            cache: GroupCache::default(),
            fills: AtomicU64::new(0),
        }
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
        self.file().and_then(File::metadata).ok().map(|metadata| metadata.len())
    }

    /// Starts the file under another name, so that a meta in the store is a whole one even if this process is killed.
    pub(crate) fn begin(&self) -> Result<Temporary, WriteFailure> {
        let failed = |error| (self.path.clone(), error);
        let begin = || {
            let temporary = Temporary::create(layout::directory_of(&self.path))?;
            let length = self.groups.length();
            match rustix::fs::fallocate(&temporary.file, FallocateFlags::empty(), 0, length) {
                // Not every file system can reserve; then a full disk shows while writing.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
            drop(self.file.set(temporary.file.try_clone()?));
            Ok(temporary)
        };
        begin().map_err(failed)
    }

    /// Gives the file its name, unless a part of it could not be written.
    pub(crate) fn complete(&self, temporary: Temporary) -> Result<(), WriteFailure> {
        if self.is_torn.load(Ordering::Acquire) {
            // Counted when it happened. The file goes with its temporary name; what is in it still serves this process.
            return Ok(());
        }
        temporary.place(&self.path, false).map_err(|error| (self.path.clone(), error))
    }

    /// Returns a group from the cache, or from disk if it is right.
    pub(crate) fn group(&self, group: u64, counters: &Counters) -> Found {
        if let Some(bytes) = self.cache.get(group) {
            return Found::Good(bytes);
        }
        let range = self.groups.range(group);
        let length = usize::try_from(range.end - range.start).unwrap_or(0);
        let read = self.file().and_then(|file| layout::read_at(file, length, range.start));
        let Ok(bytes) = read else { return Found::Miss { damaged: false } };
        if self.groups.verify(group, &bytes) {
            add(&counters.groups_verified, 1);
            let bytes = Bytes::from(bytes);
            self.cache.put(group, bytes.clone());
            return Found::Good(bytes);
        }
        // All zeros is a group that was never written (the file is sparse), or was cut off or punched out: nothing to tell apart.
        Found::Miss { damaged: bytes.iter().any(|byte| *byte != 0) }
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

    /// Decodes, proves and writes a frame; says whether it was right.
    fn take_frame(&self, frame: u32, bytes: &[u8], decompressor: &mut Decompressor, fetcher: &Fetcher) -> bool {
        let content = self.frame_content(frame);
        let length = usize::try_from(content.end - content.start).unwrap_or(0);
        let Ok(bytes) = decompressor.decompress(bytes, length) else { return false };
        if self.accept(frame, &bytes).is_err() {
            return false;
        }
        add(&fetcher.counters.chunks_verified, 1);
        if let Err(failure) = self.keep(frame, &bytes) {
            fetcher.write_failed(failure);
        }
        true
    }

    /// Writes a proven frame.
    pub(crate) fn keep(&self, frame: u32, bytes: &[u8]) -> Result<(), WriteFailure> {
        let written = self.file().and_then(|file| file.write_all_at(bytes, self.frame_content(frame).start));
        written.map_err(|error| {
            self.is_torn.store(true, Ordering::Release);
            (self.path.clone(), error)
        })
    }

    /// Fetches the index again if its frame lengths came from disk; says whether they were wrong.
    pub(crate) async fn refresh_index(&self, fetcher: &Arc<Fetcher>) -> bool {
        if !self.frames_are_hint.swap(false, Ordering::AcqRel) {
            return false;
        }
        let asker = index::Asker::new(&fetcher.store, &fetcher.origins.list(), &fetcher.counters);
        let Ok(fetched) = index::fetch(&asker, self.blob, self.root, 0).await else { return false };
        if *self.frames.read() == fetched.index.frames {
            return false;
        }
        *self.frames.write() = fetched.index.frames;
        // Only saves the next process this detour.
        drop(layout::put_file(&self.index_path, &fetched.bytes, false));
        true
    }

    pub(crate) fn frame_count(&self) -> u32 {
        u32::try_from(self.frames.read().frames()).unwrap_or(u32::MAX)
    }

    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = layout::open_regular(&self.path, true)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file.get_or_init(|| file))
    }
}

/// Name of the uncompressed meta in an image's directory.
pub(crate) const META_FILE: &str = "meta";
/// Name of the index of the meta in an image's directory.
pub(crate) const INDEX_FILE: &str = "index";
