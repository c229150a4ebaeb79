//! Chooses the parts of a file with large holes that are written, in GNU's PAX sparse format 1.0.

use std::ops::Range;

use super::header::BLOCK;
use crate::contents::{ContentFile, ContentSource};
use crate::error::WriteError;
use crate::tar::MAX_SEGMENTS;

/// The parts of a file that are written.
#[derive(Debug)]
pub(super) struct Map {
    segments: Vec<Range<u64>>,
    size: u64,
}

impl Map {
    /// Returns the map of a file if its holes come to at least `holes` bytes.
    pub(super) fn of<C: ContentSource>(
        contents: &mut C,
        file: &ContentFile<'_>,
        holes: u64,
    ) -> Result<Option<Self>, WriteError<C::Error>> {
        if file.size < holes {
            return Ok(None);
        }
        let mut finder = Finder { segments: Vec::new(), gap: 0 };
        let mut at = 0;
        while let Some(data) = file.next_data(contents, at)? {
            at = data.end;
            finder.add(data);
        }
        let map = Self { segments: finder.segments, size: file.size };
        Ok((file.size - map.data() >= holes).then_some(map))
    }

    pub(super) fn segments(&self) -> &[Range<u64>] {
        &self.segments
    }

    /// Returns the map as it stands in front of the data: a count, then offset and length of each segment, one number a
    /// line. Zeros follow up to a whole block. A segment of no bytes marks the end of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let ends_with_data = self.segments.last().is_some_and(|last| last.end == self.size);
        let end = (!ends_with_data).then_some(self.size..self.size);
        let mut text = format!("{}\n", self.segments.len() + usize::from(end.is_some()));
        for segment in self.segments.iter().chain(&end) {
            text.push_str(&format!("{}\n{}\n", segment.start, segment.end - segment.start));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Returns the bytes of all segments.
    pub(super) fn data(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end - segment.start).sum()
    }
}

/// Gathers segments, never more than readers take: holes that are too many are written out, the smallest first.
struct Finder {
    segments: Vec<Range<u64>>,
    /// Holes of at most so many bytes are written out.
    gap: u64,
}

impl Finder {
    fn add(&mut self, data: Range<u64>) {
        match self.segments.last_mut() {
            Some(last) if data.start - last.end <= self.gap => last.end = data.end,
            _ => self.segments.push(data),
        }
        // One is left for the end of the file. Doubling ends: at 2^44 no hole is left.
        while self.segments.len() >= MAX_SEGMENTS {
            self.gap = (self.gap * 2).max(BLOCK as u64);
            let gap = self.gap;
            self.segments.dedup_by(|next, last| {
                let join = next.start - last.end <= gap;
                if join {
                    last.end = next.end;
                }
                join
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_segments_than_readers_take_are_joined_over_the_smallest_holes() {
        let mut finder = Finder { segments: Vec::new(), gap: 0 };
        let mut at = 0;
        for number in 0..2 * MAX_SEGMENTS as u64 {
            at += if number % 4 == 0 { 100_000 } else { 4096 };
            finder.add(at..at + 10);
            at += 10;
        }
        assert!(finder.segments.len() < MAX_SEGMENTS);
        assert!(finder.segments.len() >= MAX_SEGMENTS / 2);
        assert!(finder.segments.iter().all(|segment| segment.end - segment.start < 20_000));
        assert_eq!(finder.segments.last().map(|last| last.end), Some(at));
    }
}
