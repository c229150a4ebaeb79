//! The gate of the meta: 16 KiB groups, proven from the meta root at each read that leaves the cache.
//!
//! What is on this disk is read in `disk/meta_file.rs`; a frame that is missing or wrong is fetched, joined and repaired like a chunk.

use std::sync::{Arc, mpsc};

use bytes::Bytes;
use dimsum_format::group::GROUP_U64;
use parking_lot::Mutex;

use crate::disk::meta_file::{GROUPS_PER_FRAME, GroupLook, MetaFile};
use crate::error::{MetaError, ReadError};
use crate::fetch::feed::META;
use crate::fetch::fetcher::{Fetcher, MissingUnit};
use crate::fetch::traffic::Waiter;
use crate::limits::META_WINDOW;
use crate::stats::add;

/// Bytes that a blocking read looks for together: some dozen frames, which one request brings.
const READ_WINDOW: usize = 4 << 20;
/// What decoding a frame of a meta costs the pool: its bytes.
const META_FRAME_COST: u64 = dimsum_format::pack::META_FRAME as u64;

/// The meta of an open image.
#[derive(Debug)]
pub struct Meta {
    file: Arc<MetaFile>,
    fetcher: Arc<Fetcher>,
}

impl Meta {
    pub(crate) const fn new(file: Arc<MetaFile>, fetcher: Arc<Fetcher>) -> Self {
        Self { file, fetcher }
    }

    /// Returns the length of the uncompressed meta in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.file.length()
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
            let seen = self.file.fills();
            let bytes = match self.file.group(group, self.fetcher.counters()) {
                GroupLook::Good(bytes) => bytes,
                GroupLook::Miss { damaged } => {
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
        let seen = self.file.fills();
        let ready = Arc::new(Mutex::new(Some(ready)));
        let later = Arc::clone(&ready);
        let found = self.file.group(group, self.fetcher.counters());
        let started = match found {
            GroupLook::Miss { damaged } => self.fly(group, damaged, seen, move |store| {
                let (ready, store) = (Arc::clone(&later), Arc::clone(store));
                Some(Box::new(move |result: Result<Bytes, ReadError>| {
                    // A flight that ends at once calls from this very thread, where the caller may hold locks.
                    store.submit(0, Box::new(move |_| call_once(&ready, result.map(drop))));
                }) as Waiter)
            }),
            GroupLook::Good(_) => false,
        };
        if !started {
            self.fetcher.submit(0, Box::new(move |_| call_once(&ready, Ok(()))));
        }
    }

    /// Reads like [`Meta::read_at`] and waits for what is missing.
    ///
    /// # Errors
    /// If a group cannot be had.
    pub fn read_blocking(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        if range.end > self.length() {
            return Err(ReadError::OutOfRange { range, length: self.length() });
        }
        let mut at = offset;
        for window in buf.chunks_mut(READ_WINDOW) {
            let length = window.len() as u64;
            self.read_window(at, window)?;
            at = at.saturating_add(length);
        }
        Ok(())
    }

    /// Reads a window. Missing units come from the flights themselves, so a disk that takes nothing and a cache that
    /// holds nothing cost one fetch.
    fn read_window(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(buf.len() as u64);
        let mut missing: Vec<MissingUnit> = Vec::new();
        for group in offset / GROUP_U64..end.div_ceil(GROUP_U64) {
            let seen = self.file.fills();
            match self.file.group(group, self.fetcher.counters()) {
                GroupLook::Good(bytes) => copy_into(buf, offset, group * GROUP_U64, &bytes),
                GroupLook::Miss { damaged } => {
                    let unit = u32::try_from(group / GROUPS_PER_FRAME).unwrap_or(u32::MAX);
                    if missing.last().is_none_or(|last| last.unit != unit) {
                        missing.push(MissingUnit { feed: META, unit, damaged, seen });
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (give, take) = mpsc::channel();
        let waiter = |miss: MissingUnit| {
            let give = give.clone();
            let arrived = move |result: Result<Bytes, ReadError>| drop(give.send(result.map(|unit| (miss.unit, unit))));
            Some(Box::new(arrived) as Waiter)
        };
        // Forced: what was filled meanwhile is proven again in microseconds.
        let count = missing.len();
        self.fetcher.join(missing, true, |miss| *miss, waiter);
        drop(give);
        for _ in 0..count {
            let (unit, bytes) = take.recv().map_err(|_| ReadError::Closed)??;
            copy_into(buf, offset, self.file.frame_content(unit).start, &bytes);
        }
        Ok(())
    }

    /// Fetches every frame, some at a time, and waits until they are written.
    pub(crate) fn fetch_all(&self) -> Result<(), ReadError> {
        let frames: Vec<u32> = (0..self.file.frame_count()).collect();
        for window in frames.chunks(META_WINDOW) {
            let (give, take) = mpsc::channel();
            let miss = |unit: &u32| MissingUnit { feed: META, unit: *unit, damaged: false, seen: 0 };
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
        let frames: Vec<u32> = (0..self.file.frame_count()).collect();
        frames.chunks(META_WINDOW).all(|window| {
            let (give, take) = mpsc::channel();
            for frame in window {
                let range = self.file.frame(*frame).unwrap_or(0..0);
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(blob.len());
                let bytes = blob.slice(place(range.start)..place(range.end));
                let (fetcher, file, give, frame) =
                    (Arc::clone(&self.fetcher), Arc::clone(&self.file), give.clone(), *frame);
                let job = move |decompressor: &mut _| {
                    let taken = file.take_frame(frame, &bytes, decompressor);
                    add(&fetcher.counters().chunks_verified, u64::from(taken.is_some()));
                    let is_right = taken.map(|written| written.unwrap_or_else(|failure| fetcher.write_failed(failure)));
                    let _ = give.send(is_right.is_some());
                };
                self.fetcher.submit(META_FRAME_COST, Box::new(job));
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
        let miss = |(): &()| MissingUnit { feed: META, unit, damaged, seen };
        let again = self.fetcher.join(vec![()], false, miss, |()| waiter(&self.fetcher));
        if again.is_empty() {
            return true;
        }
        // Some frame was filled meanwhile; most likely this one.
        if matches!(self.file.group(group, self.fetcher.counters()), GroupLook::Good(_)) {
            return false;
        }
        self.fetcher.join(again, true, miss, |()| waiter(&self.fetcher));
        true
    }
}

/// Copies what a piece has of the bytes that `buf` wants.
fn copy_into(buf: &mut [u8], offset: u64, start: u64, piece: &[u8]) {
    let end = offset.saturating_add(buf.len() as u64);
    let from = offset.max(start);
    let to = end.min(start.saturating_add(piece.len() as u64));
    let place = |at: u64, base: u64| usize::try_from(at.saturating_sub(base)).unwrap_or(usize::MAX);
    if let (Some(into), Some(bytes)) = (
        buf.get_mut(place(from, offset)..place(to, offset).max(place(from, offset))),
        piece.get(place(from, start)..place(to, start).max(place(from, start))),
    ) {
        into.copy_from_slice(bytes);
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
