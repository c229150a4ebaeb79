//! Whether two files have the same bytes, told from where these lie, without reading them.
//!
//! Bytes at the same place of the same device are equal, and so are bytes at the same place of chunks with the same digest. A chunk
//! that holds nothing but a part of one file tells the contrary as well. What remains is small files that moved to another bundle.

use dimsum_format::{BLOCK_U64, Blake3, DeviceId};
use dimsum_store::Extent;
use dimsum_store::limits::MAX_READ;

use crate::EngineError;
use crate::image::Opened;
use crate::image::fs::{Found, ImageFs};

/// What the maps say of two contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// Equal.
    Same,
    /// Not equal.
    Different,
    /// Only the bytes can tell.
    Undecided,
}

/// One of the two images.
#[derive(Debug, Clone, Copy)]
pub struct DiffSide<'i> {
    /// The gate.
    pub opened: &'i Opened,
    /// The tree.
    pub fs: &'i ImageFs<'i>,
}

/// Where a byte of a file lies.
struct DevicePlace {
    device: DeviceId,
    /// Byte of the device.
    byte: u64,
    chunk: Blake3,
    /// Byte of the chunk.
    inside: u64,
    /// Bytes of the chunk.
    length: u64,
}

impl DiffSide<'_> {
    fn map(&self, file: &Found, offset: u64) -> Result<Option<dimsum_erofs::DataExtent>, EngineError> {
        self.fs.erofs().map(&file.inode, offset).map_err(|source| self.fs.fail(&file.path, source))
    }

    fn place(&self, flat: u64) -> Option<DevicePlace> {
        let maps = self.opened.image.maps();
        let (index, block) = maps.locate(u32::try_from(flat / BLOCK_U64).ok()?)?;
        let device = maps.devices.get(index)?;
        let number = device.map.chunk_of_block(block)?;
        let bytes = device.map.chunk_bytes(number)?;
        let byte = u64::from(block) * BLOCK_U64 + flat % BLOCK_U64;
        Some(DevicePlace {
            device: device.id,
            byte,
            chunk: device.map.digest(number)?,
            inside: byte.checked_sub(bytes.start)?,
            length: bytes.end.checked_sub(bytes.start)?,
        })
    }

    fn read(&self, file: &Found, flat: Option<u64>, length: u64) -> Result<Vec<u8>, EngineError> {
        let wanted = match flat {
            Some(flat) => Extent::Flat { range: flat..flat.saturating_add(length) },
            None => Extent::Hole { length },
        };
        let bytes = self.opened.image.read_blocking(&[wanted]);
        let object = || format!("{} /{}", self.opened.located.name(), crate::text::Name(&file.path));
        bytes
            .map(|bytes| bytes.to_vec())
            .map_err(|source| EngineError::Read { object: object(), source: Box::new(source) })
    }
}

/// Tells two regular files apart by their maps.
///
/// # Errors
/// If a map cannot be read.
pub fn by_maps(a: DiffSide<'_>, file_a: &Found, b: DiffSide<'_>, file_b: &Found) -> Result<Sameness, EngineError> {
    let size = file_a.inode.size();
    if size != file_b.inode.size() {
        return Ok(Sameness::Different);
    }
    let (mut offset, mut sameness) = (0, Sameness::Same);
    while let (Some(left), Some(right)) = (a.map(file_a, offset)?, b.map(file_b, offset)?) {
        let mut step = left.len.min(right.len);
        match (left.flat, right.flat) {
            (None, None) => {}
            (Some(flat_a), Some(flat_b)) => {
                let (Some(place_a), Some(place_b)) = (a.place(flat_a), b.place(flat_b)) else {
                    return Ok(Sameness::Undecided);
                };
                if place_a.is(&place_b) {
                    // The step goes as far as both extents, for none goes beyond its device. So an image in which a
                    // million files share a large run of chunks is compared as fast as any other.
                    offset = offset.saturating_add(step.max(1));
                    continue;
                }
                step = step.min(place_a.rest()).min(place_b.rest());
                match places(&place_a, &place_b, step, size.saturating_sub(offset)) {
                    Sameness::Same => {}
                    Sameness::Different => return Ok(Sameness::Different),
                    Sameness::Undecided => sameness = Sameness::Undecided,
                }
            }
            // A hole and stored zeros are the same to a reader.
            _ => sameness = Sameness::Undecided,
        }
        offset = offset.saturating_add(step.max(1));
    }
    Ok(sameness)
}

impl DevicePlace {
    /// Whether it is the same byte of the same device.
    fn is(&self, other: &Self) -> bool {
        self.device == other.device && self.byte == other.byte
    }

    /// Bytes to the end of the chunk.
    const fn rest(&self) -> u64 {
        self.length.saturating_sub(self.inside)
    }
}

/// Compares `step` bytes at two places; `left` are the bytes from there to the end of the file.
fn places(a: &DevicePlace, b: &DevicePlace, step: u64, left: u64) -> Sameness {
    let same_chunk = a.chunk == b.chunk && a.inside == b.inside;
    if a.is(b) || same_chunk {
        return Sameness::Same;
    }
    // Both chunks start here and hold nothing else: what pads the last block of a file is zeros by the format.
    let alone = |place: &DevicePlace| place.inside == 0 && place.length == step.next_multiple_of(BLOCK_U64);
    let ends = step.is_multiple_of(BLOCK_U64) || step == left;
    if ends && alone(a) && alone(b) { Sameness::Different } else { Sameness::Undecided }
}

/// Reads two regular files of one size and says whether they are equal. Tells `read` how many bytes were read of each.
///
/// # Errors
/// If a byte cannot be had.
pub fn by_bytes(
    a: DiffSide<'_>,
    file_a: &Found,
    b: DiffSide<'_>,
    file_b: &Found,
    mut read: impl FnMut(u64),
) -> Result<bool, EngineError> {
    let mut offset = 0;
    while let (Some(left), Some(right)) = (a.map(file_a, offset)?, b.map(file_b, offset)?) {
        let mut step = left.len.min(right.len);
        // Where both have a hole nothing is read, however long it is.
        if left.flat.is_some() || right.flat.is_some() {
            step = step.min(MAX_READ);
            read(step);
            if a.read(file_a, left.flat, step)? != b.read(file_b, right.flat, step)? {
                return Ok(false);
            }
        }
        offset = offset.saturating_add(step.max(1));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(device: u8, byte: u64, chunk: u8, inside: u64, length: u64) -> DevicePlace {
        DevicePlace { device: DeviceId::new([device; 32]), byte, chunk: Blake3::new([chunk; 32]), inside, length }
    }

    #[test]
    fn the_same_place_is_the_same_whatever_the_device_is_called() {
        let a = place(1, 8192, 7, 4096, 16384);
        assert_eq!(places(&a, &place(1, 8192, 7, 4096, 16384), 4096, 4096), Sameness::Same);
        assert_eq!(places(&a, &place(2, 0, 7, 4096, 16384), 4096, 4096), Sameness::Same);
        assert_eq!(places(&a, &place(2, 0, 7, 8192, 16384), 4096, 4096), Sameness::Undecided);
        assert_eq!(places(&a, &place(2, 0, 8, 4096, 16384), 4096, 4096), Sameness::Undecided);
    }

    #[test]
    fn only_a_chunk_that_holds_nothing_else_tells_that_bytes_differ() {
        let (a, b) = (place(1, 0, 7, 0, 8192), place(2, 0, 8, 0, 8192));
        assert_eq!(places(&a, &b, 8192, 8192), Sameness::Different);
        // The last, partial block.
        assert_eq!(places(&a, &b, 5000, 5000), Sameness::Different);
        // Another file lies behind.
        assert_eq!(places(&place(1, 0, 7, 0, 12288), &b, 8192, 8192), Sameness::Undecided);
        // The file goes on behind a hole in the middle of a block, which no writer of ours makes.
        assert_eq!(places(&a, &b, 5000, 9000), Sameness::Undecided);
    }
}
