//! The table of small files: one row per different content, 17 bytes of memory each (without the spare room of
//! the hash table).
//!
//! Most of a row is its digest, and digests lie in a temporary file. Memory holds four bytes of each. That is
//! enough to look into the file only for equal content: one look in four billion is in vain.

use std::sync::Arc;

use dimsum_format::{Blake3, FormatError};
use dimsum_recipe::temporary::{BufferedTemporary, TemporaryFile, TemporaryFiles};
use hashbrown::HashTable;

use super::{ContentPlace, MAX_CONTENTS};
use crate::error::ConvertError;

/// Bytes of a row in the file: digest, length, place in the spool.
const ROW: usize = 44;

/// A small content of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SmallId(pub(super) u32);

/// A content in the temporary file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmallRecord {
    pub(crate) digest: Blake3,
    pub(crate) length: u32,
    /// Where the bytes are in the spool of the layer that brought them.
    pub(crate) offset: u64,
}

/// All small contents of an image.
#[derive(Debug)]
pub(crate) struct SmallFiles {
    rows: BufferedTemporary,
    /// The first four bytes of each digest.
    fragments: Vec<u32>,
    places: Vec<ContentPlace>,
    index: HashTable<u32>,
    /// First number of the current layer.
    layer_start: u32,
}

impl SmallFiles {
    pub(super) fn new(temporaries: &TemporaryFiles) -> Result<Self, ConvertError> {
        Ok(Self {
            rows: BufferedTemporary::new(temporaries.create()?),
            fragments: Vec::new(),
            places: Vec::new(),
            index: HashTable::new(),
            layer_start: 0,
        })
    }

    /// Returns the number of a content that is known.
    pub(crate) fn find(&self, digest: Blake3) -> Result<Option<SmallId>, ConvertError> {
        let fragment = fragment(digest);
        let mut failed = None;
        let found = self.index.find(spread(fragment), |&number| {
            self.fragment(SmallId(number)) == fragment
                && match self.record(SmallId(number)) {
                    Ok(record) => record.digest == digest,
                    Err(error) => {
                        failed = Some(error);
                        true
                    }
                }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(found.map(|&number| SmallId(number))),
        }
    }

    /// Adds a content that is not known.
    pub(crate) fn add(&mut self, record: SmallRecord) -> Result<SmallId, ConvertError> {
        let number = u32::try_from(self.places.len()).ok().filter(|&number| number < MAX_CONTENTS);
        let number = number.ok_or_else(|| {
            let source = FormatError::Limit {
                part: "different small files",
                value: self.places.len() as u64,
                limit: u64::from(MAX_CONTENTS),
            };
            ConvertError::format("image", source)
        })?;
        let mut row = [0; ROW];
        let (digest, rest) = row.split_at_mut(32);
        let (length, offset) = rest.split_at_mut(4);
        digest.copy_from_slice(record.digest.as_bytes());
        length.copy_from_slice(&record.length.to_le_bytes());
        offset.copy_from_slice(&record.offset.to_le_bytes());
        self.rows.append(&row)?;
        let fragment = fragment(record.digest);
        self.fragments.push(fragment);
        self.places.push(ContentPlace::NONE);
        let fragments = &self.fragments;
        self.index.insert_unique(spread(fragment), number, |&number| spread(at(fragments, number)));
        Ok(SmallId(number))
    }

    /// Reads what the temporary file has of one content.
    pub(crate) fn record(&self, id: SmallId) -> Result<SmallRecord, ConvertError> {
        let mut row = [0; ROW];
        self.rows.read(u64::from(id.0) * ROW as u64, &mut row)?;
        Ok(parse(&row))
    }

    /// Returns the rows so far for those who pack, while more are added.
    pub(crate) fn rows(&mut self) -> Result<SmallRows, ConvertError> {
        Ok(SmallRows(self.rows.share()?))
    }

    /// Returns the first four bytes of the digest, little-endian.
    pub(crate) fn fragment(&self, id: SmallId) -> u32 {
        at(&self.fragments, id.0)
    }

    pub(crate) fn place(&self, id: SmallId) -> ContentPlace {
        at(&self.places, id.0)
    }

    pub(crate) fn set_place(&mut self, id: SmallId, place: ContentPlace) {
        *self.places.get_mut(id.0 as usize).expect(OURS) = place;
    }

    /// Returns all contents that have a place, by it.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (ContentPlace, SmallId)> {
        let places = self.places.iter().zip(0..);
        places.filter(|(place, _)| !place.is_none()).map(|(&place, number)| (place, SmallId(number)))
    }

    pub(super) fn forget_unplaced(&mut self) {
        let end = u32::try_from(self.places.len()).expect("numbers are below MAX_CONTENTS");
        for number in self.layer_start..end {
            if at(&self.places, number).is_none()
                && let Ok(entry) = self.index.find_entry(spread(at(&self.fragments, number)), |&other| other == number)
            {
                entry.remove();
            }
        }
        self.layer_start = end;
    }

    /// Gives back the memory that only a further layer would need.
    pub(crate) fn end_lookups(&mut self) {
        self.index = HashTable::new();
    }
}

/// What the temporary file has of the contents that were known when this was made.
#[derive(Clone, Debug)]
pub(crate) struct SmallRows(Arc<TemporaryFile>);

impl SmallRows {
    /// Reads the rows of many, in their order. Those that were added one after the other, as most are, are read
    /// at once.
    pub(crate) fn records(&self, ids: &[SmallId]) -> Result<Vec<SmallRecord>, ConvertError> {
        let mut records = Vec::with_capacity(ids.len());
        let mut rows = Vec::new();
        for run in ids.chunk_by(|a, b| a.0 + 1 == b.0) {
            let first = run.first().expect("a run is not empty");
            rows.resize(run.len() * ROW, 0);
            self.0.read(u64::from(first.0) * ROW as u64, &mut rows)?;
            records.extend(rows.as_chunks::<ROW>().0.iter().map(parse));
        }
        Ok(records)
    }
}

fn parse(row: &[u8; ROW]) -> SmallRecord {
    let split = "a row has 32 + 4 + 8 bytes";
    let (digest, rest) = row.split_first_chunk::<32>().expect(split);
    let (length, rest) = rest.split_first_chunk::<4>().expect(split);
    let (offset, _) = rest.split_first_chunk::<8>().expect(split);
    SmallRecord {
        digest: Blake3::new(*digest),
        length: u32::from_le_bytes(*length),
        offset: u64::from_le_bytes(*offset),
    }
}

const OURS: &str = "numbers come from this table";

fn at<T: Copy>(rows: &[T], number: u32) -> T {
    *rows.get(number as usize).expect(OURS)
}

fn fragment(digest: Blake3) -> u32 {
    u32::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

/// The hash table wants 64 bits, the upper seven as good as the lower.
fn spread(fragment: u32) -> u64 {
    // 2^64 divided by the golden ratio: Fibonacci hashing.
    u64::from(fragment).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
