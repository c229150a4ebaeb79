//! An open image: the gate for its data.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use dimsum_format::group::GROUP_U64;
use dimsum_format::manifest::DimsumManifest;
use dimsum_format::meta::MetaMaps;
use dimsum_format::pack::META_FRAME;
use dimsum_format::{BLOCK_U64, Digest};
use dimsum_source::Source;

use crate::buf::{ReadBuf, Run};
use crate::device::Piece;
use crate::error::ReadError;
use crate::feed::{Feed, META};
use crate::fetch::{Fetcher, Miss};
use crate::fill::{self, Fill, FillProgress};
use crate::limits::{MAX_EXTENTS, MAX_PARKED, MAX_READ};
use crate::meta::{Found, Meta};
use crate::parked::Parked;
use crate::stats::{ImageStats, add};

/// How often a read looks again for chunks that others may have filled meanwhile, before it insists on a flight of its own.
const LOOKS: usize = 4;

/// A part of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Zeros.
    Hole {
        /// How many.
        length: u64,
    },
    /// Bytes of the flat image, in the meta or in devices; may cross chunks and devices.
    Flat {
        /// Byte range in the flat image.
        range: Range<u64>,
    },
}

/// An image whose manifest, config and maps are proven and in memory.
#[derive(Debug)]
pub struct Image {
    manifest: DimsumManifest,
    config: Vec<u8>,
    maps: Arc<MetaMaps>,
    meta: Meta,
    fetcher: Arc<Fetcher>,
}

/// A part of a read that is not here.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Place in the result.
    pub(crate) slot: usize,
    pub(crate) miss: Miss,
    /// Bytes wanted of the unit.
    pub(crate) range: Range<u64>,
}

/// A read as far as it got.
#[derive(Default)]
struct Look {
    runs: Vec<Run>,
    wanted: Vec<Wanted>,
}

impl Look {
    fn good(&mut self, bytes: Bytes) {
        self.runs.push(Run::Bytes(bytes));
    }

    fn miss(&mut self, miss: Miss, range: Range<u64>) {
        self.wanted.push(Wanted { slot: self.runs.len(), miss, range });
        self.runs.push(Run::Zeros(0));
    }
}

impl Image {
    pub(crate) const fn new(
        manifest: DimsumManifest,
        config: Vec<u8>,
        maps: Arc<MetaMaps>,
        meta: Meta,
        fetcher: Arc<Fetcher>,
    ) -> Self {
        Self { manifest, config, maps, meta, fetcher }
    }

    /// Lets the image ask these sources too.
    pub(crate) fn with_sources(self: Arc<Self>, sources: &[Arc<dyn Source>]) -> Arc<Self> {
        self.fetcher.origins.add(sources);
        self
    }

    /// Returns the digest of the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.fetcher.image
    }

    /// Returns what the manifest says.
    #[must_use]
    pub const fn manifest(&self) -> &DimsumManifest {
        &self.manifest
    }

    /// Returns the bytes of the image config.
    #[must_use]
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Returns the maps of all devices.
    #[must_use]
    pub fn maps(&self) -> &MetaMaps {
        &self.maps
    }

    /// Returns the gate of the meta.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> ImageStats {
        self.fetcher.counters.snapshot()
    }

    /// Starts to bring the rest of the image's packs into the store, in the background, behind the reads. Only a network is asked;
    /// frames are written as they come and proven when they are read. A reader who misses what is arriving waits for it.
    ///
    /// `report` is called on threads of the runtime, which it must not block. Several fills of one image get in each other's way, but
    /// do no harm.
    #[must_use = "dropping it ends the fill"]
    pub fn fill(&self, report: impl Fn(FillProgress) + Send + Sync + 'static) -> Fill {
        fill::start(&self.fetcher, Box::new(report))
    }

    /// Reads extents in order, together at most [`MAX_READ`] bytes.
    ///
    /// `done` is called exactly once: on this thread before `read` returns if everything is in the store and good (or was proven a
    /// moment ago and is being written), else later on a thread of the store, which it must not block. This call itself reads files
    /// and hashes, and never waits for a source, the pool or another reader.
    pub fn read(&self, extents: &[Extent], done: impl FnOnce(Result<ReadBuf, ReadError>) + Send + 'static) {
        let look = match self.check(extents) {
            Ok(()) => self.look(extents),
            Err(error) => {
                add(&self.fetcher.counters.read_errors, 1);
                return done(Err(error));
            }
        };
        if look.wanted.is_empty() {
            return done(Ok(ReadBuf::new(look.runs)));
        }
        if self.fetcher.parked.fetch_add(1, Ordering::Relaxed) >= MAX_PARKED {
            self.fetcher.parked.fetch_sub(1, Ordering::Relaxed);
            add(&self.fetcher.counters.read_errors, 1);
            return done(Err(ReadError::Busy { limit: MAX_PARKED }));
        }
        let parked = Parked::new(&self.fetcher, look.runs, look.wanted.len(), Box::new(done));
        let mut wanted = look.wanted;
        for looks_left in (0..LOOKS).rev() {
            let waiter = |wanted: Wanted| Some(parked.waiter(wanted.slot, wanted.range));
            let again = self.fetcher.join(wanted, looks_left == 0, |wanted| wanted.miss, waiter);
            wanted = again.into_iter().filter_map(|wanted| self.look_again(&parked, wanted)).collect();
            if wanted.is_empty() {
                break;
            }
        }
    }

    /// Reads like [`Image::read`] and waits for the result. Not for threads of the store, nor for those that serve a driver.
    ///
    /// # Errors
    /// As given to `done`.
    pub fn read_blocking(&self, extents: &[Extent]) -> Result<ReadBuf, ReadError> {
        let (give, take) = mpsc::channel();
        self.read(extents, move |result| drop(give.send(result)));
        take.recv().map_err(|_| ReadError::Closed)?
    }

    /// Waits until everything that was fetched so far is in the store's files. A reader gets its bytes before they are written; a
    /// program that ends, and a test that looks at the files, waits here.
    pub fn wait_idle(&self) {
        self.fetcher.wait_idle();
    }

    /// Bounds a read before anything is allocated for it.
    fn check(&self, extents: &[Extent]) -> Result<(), ReadError> {
        let flat = u64::from(self.maps.flat_blocks()) * BLOCK_U64;
        let mut length = 0u64;
        for extent in extents {
            length = length.saturating_add(match extent {
                Extent::Hole { length } => *length,
                Extent::Flat { range } => {
                    if range.start > range.end || range.end > flat {
                        return Err(ReadError::OutOfRange { range: range.clone(), length: flat });
                    }
                    range.end - range.start
                }
            });
        }
        if length > MAX_READ {
            return Err(ReadError::TooLong { length, limit: MAX_READ });
        }
        if extents.len() > MAX_EXTENTS {
            return Err(ReadError::TooManyExtents { extents: extents.len(), limit: MAX_EXTENTS });
        }
        Ok(())
    }

    /// Takes what is here.
    fn look(&self, extents: &[Extent]) -> Look {
        let mut look = Look { runs: Vec::with_capacity(extents.len()), wanted: Vec::new() };
        for extent in extents {
            match extent {
                Extent::Hole { length } => look.runs.push(Run::Zeros(*length)),
                Extent::Flat { range } => self.look_flat(range, &mut look),
            }
        }
        look
    }

    fn look_flat(&self, range: &Range<u64>, look: &mut Look) {
        let mut at = range.start;
        while at < range.end {
            let block = u32::try_from(at / BLOCK_U64).unwrap_or(u32::MAX);
            let end = match self.maps.locate(block).and_then(|(index, _)| Some((index, self.maps.devices.get(index)?)))
            {
                None => {
                    let end = range.end.min(u64::from(self.maps.meta_blocks) * BLOCK_U64);
                    self.look_meta(at..end, look);
                    end
                }
                Some((index, device)) => {
                    let start = u64::from(device.first_block) * BLOCK_U64;
                    let end = range.end.min(start + u64::from(device.map.blocks()) * BLOCK_U64);
                    self.look_device(index + 1, &(at - start..end - start), look);
                    end
                }
            };
            if end <= at {
                // Not possible with maps that were parsed and a range that was checked; a loop without an end is no way to say so.
                debug_assert!(false, "flat byte {at} belongs nowhere");
                return;
            }
            at = end;
        }
    }

    fn look_device(&self, feed_index: usize, range: &Range<u64>, look: &mut Look) {
        let Some(Feed::Device(feed)) = self.fetcher.feeds.get(feed_index) else { return };
        let seen = feed.device.fills();
        for piece in feed.device.read(range, &self.fetcher.counters) {
            match piece {
                Piece::Good(bytes) => look.good(bytes),
                Piece::Miss { chunk, range, damaged } => {
                    look.miss(Miss { feed: feed_index, unit: chunk, damaged, seen }, range);
                }
            }
        }
    }

    fn look_meta(&self, range: Range<u64>, look: &mut Look) {
        let Some(Feed::Meta(core)) = self.fetcher.feeds.get(META) else { return };
        let mut at = range.start;
        while at < range.end {
            let group = at / GROUP_U64;
            let end = range.end.min((group + 1) * GROUP_U64);
            let seen = core.fills();
            match core.group(group, &self.fetcher.counters) {
                Found::Good(bytes) => {
                    let start = group * GROUP_U64;
                    let place = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX).min(bytes.len());
                    look.good(bytes.slice(place(at)..place(end)));
                }
                Found::Miss { damaged } => {
                    let frame = at / META_FRAME as u64;
                    let start = frame * META_FRAME as u64;
                    let unit = u32::try_from(frame).unwrap_or(u32::MAX);
                    look.miss(Miss { feed: META, unit, damaged, seen }, at - start..end - start);
                }
            }
            at = end;
        }
    }

    /// Takes a part that may have been filled since; returns it if it was not.
    fn look_again(&self, parked: &Arc<Parked>, wanted: Wanted) -> Option<Wanted> {
        let start = match self.fetcher.feeds.get(wanted.miss.feed)? {
            Feed::Meta(core) => core.frame_content(wanted.miss.unit).start,
            Feed::Device(feed) => feed.device.map().chunk_bytes(wanted.miss.unit)?.start,
        };
        let range = start + wanted.range.start..start + wanted.range.end;
        let mut look = Look::default();
        match wanted.miss.feed {
            META => self.look_meta(range, &mut look),
            device => self.look_device(device, &range, &mut look),
        }
        // The range lies in one group or one chunk, so there is one piece.
        let miss = look.wanted.pop().map(|again| again.miss);
        match (miss, look.runs.pop()) {
            (None, Some(run)) => {
                parked.arrived(wanted.slot, Ok(run));
                None
            }
            (miss, _) => Some(Wanted { miss: miss.unwrap_or(wanted.miss), ..wanted }),
        }
    }
}
