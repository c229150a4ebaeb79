//! Builds the operations of a recipe from the notes of a tar, once every content has its place.
//!
//! Most content lies in the device of this layer or of a lower one. Zeros are written as such. Content that a
//! later entry of the same tar replaced is in no pack. It becomes a part of the recipe, and the source is read
//! again for it.

use std::collections::HashMap;
use std::io::{self, Read};

use dimsum_format::{BLOCK_U64, DeviceId};
use dimsum_recipe::limits::{COPY, MAX_DEVICES, max_references};
use dimsum_recipe::temporary::TemporaryFiles;
use dimsum_recipe::{OperationWriter, RecipeError, Recorded, RecordedReader, Section, Segment};
use dimsum_tree::{ContentId, LayerDecoder};

use super::unkept;
use crate::content::{self, ContentPiece, ContentPlace, ContentTable, FileContent};
use crate::error::ConvertError;

/// The parts of a recipe that give the tar.
pub(crate) struct TarRecipe {
    pub(super) operations: Section,
    pub(super) literals: Section,
    pub(super) devices: Vec<(DeviceId, u32)>,
}

/// The state when all layers have been read.
pub(crate) struct RecipeContext<'a> {
    pub(crate) contents: &'a ContentTable,
    /// Device id and blocks by the number that a place has.
    pub(crate) devices: &'a [Option<(DeviceId, u32)>],
    pub(crate) temporaries: &'a TemporaryFiles,
    /// Opens the blob of the layer again.
    pub(crate) open: &'a dyn Fn() -> Result<Box<dyn Read + Send>, ConvertError>,
}

/// Where some bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RangePlace {
    Null,
    /// At this byte of a device.
    Device {
        number: u16,
        at: u64,
    },
    /// Only in the source.
    Nowhere,
}

/// Some bytes of a file that lie together.
#[derive(Clone, Copy, Debug)]
struct FileRange {
    start: u64,
    end: u64,
    place: RangePlace,
}

/// Makes the operations.
pub(crate) fn build_recipe(recorded: Recorded, context: &RecipeContext<'_>) -> Result<TarRecipe, ConvertError> {
    let mut builder = RecipeBuilder {
        context,
        out: OperationWriter::new(context.temporaries).map_err(unkept)?,
        known: recorded.reader().map_err(unkept)?,
        numbers: HashMap::new(),
        devices: Vec::new(),
        file: None,
        ranges: Vec::new(),
        buffer: vec![0; COPY],
        at: 0,
        source: None,
    };
    while let Some(segment) = builder.known.next_segment().map_err(unkept)? {
        builder.literals(segment.between)?;
        builder.segment(segment)?;
    }
    builder.literals(recorded.tail())?;
    let RecipeBuilder { out, devices, .. } = builder;
    let (operations, literals) = out.finish().map_err(unkept)?;
    Ok(TarRecipe { operations, literals, devices })
}

struct RecipeBuilder<'a> {
    context: &'a RecipeContext<'a>,
    out: OperationWriter,
    /// What is not content.
    known: RecordedReader<'a>,
    /// The number in the recipe of each device used.
    numbers: HashMap<u16, u64>,
    devices: Vec<(DeviceId, u32)>,
    /// The file whose ranges are known.
    file: Option<(u32, u64)>,
    ranges: Vec<FileRange>,
    buffer: Vec<u8>,
    /// Where in the tar we are.
    at: u64,
    /// The tar as it is in the source, and how much of it was read.
    source: Option<(LayerDecoder<Box<dyn Read + Send>>, u64)>,
}

impl RecipeBuilder<'_> {
    /// Copies bytes that are not content.
    fn literals(&mut self, mut count: u64) -> Result<(), ConvertError> {
        while count > 0 {
            let now = usize::try_from(count).map_or(COPY, |count| count.min(COPY));
            let bytes = self.buffer.get_mut(..now).unwrap_or_default();
            self.known.literals(bytes).map_err(unkept)?;
            self.out.literal(bytes).map_err(unkept)?;
            count -= now as u64;
            self.at += now as u64;
        }
        Ok(())
    }

    fn segment(&mut self, segment: Segment) -> Result<(), ConvertError> {
        let file = (segment.content.get(), segment.size);
        if self.file != Some(file) {
            self.ranges = self.context.ranges(segment.content, segment.size);
            self.file = Some(file);
        }
        let (mut at, end) = (segment.position, segment.position + segment.length);
        while at < end {
            let index = self.ranges.partition_point(|range| range.end <= at);
            let missing = || ConvertError::Recipe { reason: "a file is longer than its slices".to_owned() };
            let &FileRange { start, end: range_end, place } = self.ranges.get(index).ok_or_else(missing)?;
            let count = range_end.min(end) - at;
            let skip = at - start;
            match place {
                RangePlace::Null => self.out.zeros(count).map_err(unkept)?,
                // Who reads it follows no more references than these.
                RangePlace::Device { .. } if self.out.references() >= max_references(self.at) => self.again(count)?,
                RangePlace::Device { number, at } => {
                    let number = self.device(number)?;
                    self.out.content(number, at + skip, count).map_err(unkept)?;
                }
                RangePlace::Nowhere => self.again(count)?,
            }
            at += count;
            self.at += count;
        }
        Ok(())
    }

    /// Returns the number of a device in the recipe.
    fn device(&mut self, number: u16) -> Result<u64, ConvertError> {
        if let Some(&known) = self.numbers.get(&number) {
            return Ok(known);
        }
        let missing =
            || ConvertError::Recipe { reason: "content has a place in a device that is not known".to_owned() };
        let device = self.context.devices.get(usize::from(number)).copied().flatten().ok_or_else(missing)?;
        let next = self.devices.len() as u64;
        if next >= u64::from(MAX_DEVICES) {
            return Err(unkept(RecipeError::Limit { part: "devices", value: next + 1, limit: MAX_DEVICES.into() }));
        }
        self.devices.push(device);
        self.numbers.insert(number, next);
        Ok(next)
    }

    /// Copies bytes out of the source.
    fn again(&mut self, mut count: u64) -> Result<(), ConvertError> {
        let unreadable =
            |source: io::Error| ConvertError::Unreadable { object: "the layer".to_owned(), source: Box::new(source) };
        let (mut tar, mut read) = match self.source.take() {
            Some(source) => source,
            None => (LayerDecoder::new((self.context.open)()?, None).map_err(unreadable)?, 0),
        };
        let skip = self.at.saturating_sub(read);
        read += io::copy(&mut (&mut tar).take(skip), &mut io::sink()).map_err(unreadable)?;
        while count > 0 {
            let now = usize::try_from(count).map_or(COPY, |count| count.min(COPY));
            let bytes = self.buffer.get_mut(..now).unwrap_or_default();
            tar.read_exact(bytes).map_err(unreadable)?;
            self.out.literal(bytes).map_err(unkept)?;
            count -= now as u64;
            read += now as u64;
        }
        self.source = Some((tar, read));
        Ok(())
    }
}

impl RecipeContext<'_> {
    /// Says where the bytes of a file are, from its start to its end.
    fn ranges(&self, content: ContentId, size: u64) -> Vec<FileRange> {
        let mut ranges = Vec::new();
        let mut push = |length: u64, place: RangePlace| {
            let start = ranges.last().map_or(0, |last: &FileRange| last.end);
            let end = start.saturating_add(length).min(size);
            match ranges.last_mut() {
                Some(last) if last.goes_on(place) => last.end = end,
                _ => ranges.push(FileRange { start, end, place }),
            }
        };
        let place = |place: ContentPlace| match place.is_none() {
            true => RangePlace::Nowhere,
            false => RangePlace::Device { number: place.device, at: u64::from(place.block) * BLOCK_U64 },
        };
        match FileContent::of(content) {
            FileContent::Empty => {}
            FileContent::Null => push(size, RangePlace::Null),
            FileContent::Small(id) => push(size, place(self.contents.small.place(id))),
            FileContent::Large(number) => {
                let slices = content::read(&self.contents.slices);
                for piece in self.contents.large.pieces(number, size, &slices) {
                    match piece {
                        ContentPiece::Null { blocks } => push(blocks * BLOCK_U64, RangePlace::Null),
                        ContentPiece::Slice { id, blocks } => push(blocks * BLOCK_U64, place(slices.place(id))),
                    }
                }
            }
        }
        ranges
    }
}

impl FileRange {
    /// Says whether bytes at a place lie directly behind.
    fn goes_on(&self, next: RangePlace) -> bool {
        match self.place {
            RangePlace::Device { number, at } => {
                next == RangePlace::Device { number, at: at + (self.end - self.start) }
            }
            place => next == place,
        }
    }
}
