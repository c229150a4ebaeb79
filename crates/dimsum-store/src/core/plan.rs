//! Which queued units go together into one request.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::flight::FrameTable;
use crate::limits::{MAX_REQUEST, MAX_REQUEST_CHUNKS};

/// Units of one feed that fit into one request.
pub(crate) struct RequestGroup<'a, F> {
    frames: &'a F,
    gap: u64,
    span: Range<u64>,
    /// Ascending.
    pub(crate) units: VecDeque<u32>,
}

impl<'a, F: FrameTable> RequestGroup<'a, F> {
    pub(crate) fn new(frames: &'a F, unit: u32, gap: u64) -> Self {
        Self { frames, gap, span: frames.frame(unit), units: VecDeque::from([unit]) }
    }

    /// Takes a queued unit with the queued units around it, as long as at most `gap` bytes lie between two and one request holds them.
    pub(super) fn around(frames: &'a F, seed: u32, gap: u64, queued: &BTreeSet<u32>) -> Vec<u32> {
        let mut group = Self::new(frames, seed, gap);
        for next in queued.range(seed.saturating_add(1)..) {
            if !group.append(*next) {
                break;
            }
        }
        for before in queued.range(..seed).rev() {
            if !group.prepend(*before) {
                break;
            }
        }
        group.units.into()
    }

    /// Adds a unit behind the others, if it is near enough.
    pub(crate) fn append(&mut self, unit: u32) -> bool {
        let frame = self.frames.frame(unit);
        let parts = unit.saturating_sub(self.units.front().copied().unwrap_or(unit));
        let length = frame.end.max(self.span.end).saturating_sub(self.span.start);
        let fits = self.fits(frame.start.saturating_sub(self.span.end), length, parts);
        if fits {
            self.span.end = frame.end.max(self.span.end);
            self.units.push_back(unit);
        }
        fits
    }

    /// Adds a unit before the others, if it is near enough.
    fn prepend(&mut self, unit: u32) -> bool {
        let frame = self.frames.frame(unit);
        let parts = self.units.back().copied().unwrap_or(unit).saturating_sub(unit);
        let length = self.span.end.saturating_sub(frame.start.min(self.span.start));
        let fits = self.fits(self.span.start.saturating_sub(frame.end), length, parts);
        if fits {
            self.span.start = frame.start.min(self.span.start);
            self.units.push_front(unit);
        }
        fits
    }

    const fn fits(&self, gap: u64, length: u64, parts: u32) -> bool {
        gap <= self.gap && length <= MAX_REQUEST && (parts as usize) < MAX_REQUEST_CHUNKS
    }
}
