//! One read: what is here is taken, for the rest it waits in flights. The gate's inside; `image.rs` is its door.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dimsum_format::BLOCK_U64;
use dimsum_format::group::GROUP_U64;
use dimsum_format::pack::META_FRAME;
use tracing::{Span, debug};

use crate::budget::{OpenMaps, ReadRoom};
use crate::buf::{ReadBuf, ReadRun};
use crate::disk::device::DevicePiece;
use crate::disk::meta_file::GroupLook;
use crate::error::ReadError;
use crate::fetch::feed::{Feed, META};
use crate::fetch::fetcher::{Fetcher, MissingUnit};
use crate::limits::{MAX_EXTENTS, MAX_PARKED, MAX_READ};
use crate::parked::{Parked, ReadDone};
use crate::stats::add;

/// How often a read looks again for chunks that others may have filled meanwhile, before it insists on a flight of its own.
const LOOKS: usize = 4;
/// What a read that waits is charged for an extent besides its bytes: its place and its part in a flight.
const EXTENT_COST: u64 = 512;
/// What a read that waits is charged for a byte that it asks for: it keeps at most twice as many of decoded chunks (`parked.rs`).
const BYTE_COST: u64 = 2;

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

/// A part of a read that is not here.
#[derive(Debug)]
pub(crate) struct WantedPart {
    /// Place in the result.
    pub(crate) slot: usize,
    pub(crate) miss: MissingUnit,
    /// Bytes wanted of the unit.
    pub(crate) range: Range<u64>,
}

/// A read as far as it got.
#[derive(Default)]
struct ReadLook {
    runs: Vec<ReadRun>,
    wanted: Vec<WantedPart>,
}

impl ReadLook {
    fn good(&mut self, bytes: Bytes) {
        self.runs.push(ReadRun::Bytes(bytes));
    }

    fn miss(&mut self, miss: MissingUnit, range: Range<u64>) {
        self.wanted.push(WantedPart { slot: self.runs.len(), miss, range });
        self.runs.push(ReadRun::Zeros(0));
    }
}

/// What reads of an image need.
#[derive(Debug, Clone)]
pub(crate) struct ReadGate {
    maps: Arc<OpenMaps>,
    fetcher: Arc<Fetcher>,
}

impl ReadGate {
    pub(crate) const fn new(maps: Arc<OpenMaps>, fetcher: Arc<Fetcher>) -> Self {
        Self { maps, fetcher }
    }

    pub(crate) const fn maps(&self) -> &Arc<OpenMaps> {
        &self.maps
    }

    pub(crate) const fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Reads extents; see [`crate::Image::read`].
    pub(crate) fn read(&self, extents: &[Extent], done: impl FnOnce(Result<ReadBuf, ReadError>) + Send + 'static) {
        let (look, length) = match self.check(extents) {
            Ok(length) => (self.look(extents), length),
            Err(error) => {
                add(&self.fetcher.counters().read_errors, 1);
                return done(Err(error));
            }
        };
        if look.wanted.is_empty() {
            return done(Ok(ReadBuf::new(look.runs)));
        }
        let cost = length.saturating_mul(BYTE_COST).saturating_add(extents.len() as u64 * EXTENT_COST);
        let (room, image) = (self.room(), self.fetcher.id());
        if room.enter(image, cost) {
            return self.park(look, cost, Box::new(done));
        }
        if room.waiting_of(image) >= MAX_PARKED {
            add(&self.fetcher.counters().read_errors, 1);
            return done(Err(ReadError::Busy { limit: MAX_PARKED }));
        }
        // What it found is let go: it looks again when there is room.
        drop(look);
        let (gate, extents) = (self.clone(), extents.to_vec());
        let (services, span) = (self.fetcher.services(), Span::current());
        debug!(bytes = cost, "waits for room");
        let turn = Box::new(move |turn| span.in_scope(|| gate.take_turn(&extents, cost, Box::new(done), turn)));
        room.wait(image, cost, turn, (services.runtime(), services.deadline()));
    }

    fn room(&self) -> &Arc<ReadRoom> {
        &self.fetcher.services().budgets().reads
    }

    /// There is room for a read that waited for it, or it has waited too long.
    fn take_turn(&self, extents: &[Extent], cost: u64, done: ReadDone, turn: Result<(), Duration>) {
        if let Err(after) = turn {
            add(&self.fetcher.counters().read_errors, 1);
            return done(Err(ReadError::NoRoom { after }));
        }
        let look = self.look(extents);
        if look.wanted.is_empty() {
            self.room().leave(self.fetcher.id(), cost);
            return done(Ok(ReadBuf::new(look.runs)));
        }
        self.park(look, cost, done);
    }

    /// Waits for what is missing.
    fn park(&self, look: ReadLook, cost: u64, done: ReadDone) {
        let parked = Parked::new(&self.fetcher, look.runs, (look.wanted.len(), cost), done);
        let mut wanted = look.wanted;
        for looks_left in (0..LOOKS).rev() {
            let waiter = |wanted: WantedPart| Some(parked.waiter(wanted.slot, wanted.range));
            let again = self.fetcher.join(wanted, looks_left == 0, |wanted| wanted.miss, waiter);
            wanted = again.into_iter().filter_map(|wanted| self.look_again(&parked, wanted)).collect();
            if wanted.is_empty() {
                break;
            }
        }
    }

    /// Bounds a read before anything is allocated for it; returns its length.
    fn check(&self, extents: &[Extent]) -> Result<u64, ReadError> {
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
        Ok(length)
    }

    /// Takes what is here.
    fn look(&self, extents: &[Extent]) -> ReadLook {
        let mut look = ReadLook { runs: Vec::with_capacity(extents.len()), wanted: Vec::new() };
        for extent in extents {
            match extent {
                Extent::Hole { length } => look.runs.push(ReadRun::Zeros(*length)),
                Extent::Flat { range } => self.look_flat(range, &mut look),
            }
        }
        look
    }

    fn look_flat(&self, range: &Range<u64>, look: &mut ReadLook) {
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

    fn look_device(&self, feed_index: usize, range: &Range<u64>, look: &mut ReadLook) {
        let Some(Feed::Device(feed)) = self.fetcher.feed(feed_index) else { return };
        let seen = feed.device.fills();
        for piece in feed.device.read(range, self.fetcher.counters()) {
            match piece {
                DevicePiece::Good(bytes) => look.good(bytes),
                DevicePiece::Miss { chunk, range, damaged } => {
                    look.miss(MissingUnit { feed: feed_index, unit: chunk, damaged, seen }, range);
                }
            }
        }
    }

    fn look_meta(&self, range: Range<u64>, look: &mut ReadLook) {
        let Some(Feed::Meta(core)) = self.fetcher.feed(META) else { return };
        let mut at = range.start;
        while at < range.end {
            let group = at / GROUP_U64;
            let end = range.end.min((group + 1) * GROUP_U64);
            let seen = core.fills();
            match core.group(group, self.fetcher.counters()) {
                GroupLook::Good(bytes) => {
                    let start = group * GROUP_U64;
                    let place = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX).min(bytes.len());
                    look.good(bytes.slice(place(at)..place(end)));
                }
                GroupLook::Miss { damaged } => {
                    let frame = at / META_FRAME as u64;
                    let start = frame * META_FRAME as u64;
                    let unit = u32::try_from(frame).unwrap_or(u32::MAX);
                    look.miss(MissingUnit { feed: META, unit, damaged, seen }, at - start..end - start);
                }
            }
            at = end;
        }
    }

    /// Takes a part that may have been filled since; returns it if it was not.
    fn look_again(&self, parked: &Arc<Parked>, wanted: WantedPart) -> Option<WantedPart> {
        let start = match self.fetcher.feed(wanted.miss.feed)? {
            Feed::Meta(core) => core.frame_content(wanted.miss.unit).start,
            Feed::Device(feed) => feed.device.map().chunk_bytes(wanted.miss.unit)?.start,
        };
        let range = start + wanted.range.start..start + wanted.range.end;
        let mut look = ReadLook::default();
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
            (miss, _) => Some(WantedPart { miss: miss.unwrap_or(wanted.miss), ..wanted }),
        }
    }
}
