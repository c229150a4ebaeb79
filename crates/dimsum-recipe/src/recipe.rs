//! A recipe as a blob: a header with the places of its parts, then the parts (`docs/format.md`, section 10).
//!
//! Nothing in it is trusted. It describes how to make bytes, and digests from elsewhere decide whether they are
//! right.

use dimsum_format::manifest::Blob;
use dimsum_format::{BLOCK_U64, DeviceId, Digest};
use dimsum_tree::limits::MAX_LAYER_SIZE;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{RecipeError, limit};
use crate::limits::{COPY, MAX_DEVICES, MAX_RATIO, MAX_RECIPE_BYTES, max_notes};
use crate::restore_blob::BlobRestorer;
use crate::section::{Section, SectionIn};
use crate::temporary::{TemporaryError, TemporaryFile};

const MAGIC: [u8; 8] = *b"DIMSUMO1";
const VERSION: u32 = 1;
/// Bytes of a row: device id and blocks.
const DEVICE_ROW: usize = 36;

/// How the blob of the layer comes from its tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobForm {
    /// It cannot be made again.
    Unknown,
    /// It is the tar.
    Plain,
    /// The third part says how.
    Gzip,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderBytes {
    magic: [u8; 8],
    version: U32,
    form: U32,
    tar_bytes: U64,
    diff_id: [u8; 32],
    blob_bytes: U64,
    blob: [u8; 32],
    devices: U32,
    reserved: U32,
    operations: PartBytes,
    literals: PartBytes,
    notes: PartBytes,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PartBytes {
    compressed: U64,
    length: U64,
}

/// Bytes of the header.
pub(crate) const HEADER: usize = size_of::<HeaderBytes>();

/// Lengths of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SectionLengths {
    pub(crate) compressed: u64,
    pub(crate) length: u64,
}

/// Everything that a recipe is made of.
#[derive(Debug)]
pub struct RecipeParts {
    /// How the blob comes from the tar.
    pub form: BlobForm,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// SHA-256 of the tar.
    pub diff_id: Digest,
    /// The blob that the layer had.
    pub blob: Blob,
    /// Devices that the operations refer to, each with its blocks; at most [`MAX_DEVICES`].
    pub devices: Vec<(DeviceId, u32)>,
    /// How the tar is put together.
    pub operations: Section,
    /// Bytes of the tar that are in no device.
    pub literals: Section,
    /// The choices of the compressor, if the form is [`BlobForm::Gzip`].
    pub notes: Option<Section>,
}

impl RecipeParts {
    /// Gives the bytes of the recipe to `out`, piece by piece.
    ///
    /// # Errors
    /// If a temporary file cannot be read, or `out` fails.
    pub fn write<E: From<TemporaryError>>(self, out: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let lengths = |section: &Section| SectionLengths { compressed: section.file.len(), length: section.length };
        let head = RecipeHead {
            form: self.form,
            tar_bytes: self.tar_bytes,
            diff_id: self.diff_id,
            blob_bytes: self.blob.size,
            blob: self.blob.digest,
            operations: lengths(&self.operations),
            literals: lengths(&self.literals),
            notes: self.notes.as_ref().map(lengths).unwrap_or_default(),
            devices: self.devices,
        };
        out(&head.to_bytes())?;
        for part in [Some(&self.operations), Some(&self.literals), self.notes.as_ref()].into_iter().flatten() {
            copy(&part.file, out)?;
        }
        Ok(())
    }
}

fn copy<E: From<TemporaryError>>(file: &TemporaryFile, out: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut buffer = vec![0; COPY];
    let mut at = 0;
    while at < file.len() {
        let count = usize::try_from(file.len() - at).map_or(COPY, |left| left.min(COPY));
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        file.read(at, bytes)?;
        out(bytes)?;
        at += count as u64;
    }
    Ok(())
}

/// The front of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecipeHead {
    pub(crate) form: BlobForm,
    pub(crate) tar_bytes: u64,
    pub(crate) diff_id: Digest,
    pub(crate) blob_bytes: u64,
    pub(crate) blob: Digest,
    /// Device ids, each with its blocks.
    pub(crate) devices: Vec<(DeviceId, u32)>,
    pub(crate) operations: SectionLengths,
    pub(crate) literals: SectionLengths,
    pub(crate) notes: SectionLengths,
}

impl RecipeHead {
    /// Returns the bytes before the parts.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let part = |lengths: SectionLengths| PartBytes {
            compressed: lengths.compressed.into(),
            length: lengths.length.into(),
        };
        let header = HeaderBytes {
            magic: MAGIC,
            version: VERSION.into(),
            form: match self.form {
                BlobForm::Unknown => 0,
                BlobForm::Plain => 1,
                BlobForm::Gzip => 2,
            }
            .into(),
            tar_bytes: self.tar_bytes.into(),
            diff_id: *self.diff_id.as_bytes(),
            blob_bytes: self.blob_bytes.into(),
            blob: *self.blob.as_bytes(),
            devices: u32::try_from(self.devices.len()).expect("at most MAX_DEVICES").into(),
            reserved: 0.into(),
            operations: part(self.operations),
            literals: part(self.literals),
            notes: part(self.notes),
        };
        let mut bytes = header.as_bytes().to_vec();
        for (id, blocks) in &self.devices {
            bytes.extend_from_slice(id.as_bytes());
            bytes.extend_from_slice(&blocks.to_le_bytes());
        }
        bytes
    }

    /// Where the parts start.
    fn parts_at(&self) -> u64 {
        (HEADER + self.devices.len() * DEVICE_ROW) as u64
    }

    /// Bytes of a device.
    pub(crate) fn device_bytes(&self, number: u64) -> Option<(DeviceId, u64)> {
        let &(id, blocks) = self.devices.get(usize::try_from(number).ok()?)?;
        Some((id, u64::from(blocks) * BLOCK_U64))
    }
}

/// A recipe that was fetched, whose header is checked.
#[derive(Debug)]
pub struct Recipe {
    pub(crate) head: RecipeHead,
    file: TemporaryFile,
}

impl Recipe {
    /// Checks the header against the length of the file.
    ///
    /// # Errors
    /// If it is no recipe, is longer than allowed, or its lengths do not agree.
    pub fn open(file: TemporaryFile) -> Result<Self, RecipeError> {
        let length = file.len();
        if length > MAX_RECIPE_BYTES {
            return Err(RecipeError::Limit { part: "bytes of the recipe", value: length, limit: MAX_RECIPE_BYTES });
        }
        let read = |at: u64, bytes: &mut [u8]| {
            let part = "header";
            if at.saturating_add(bytes.len() as u64) > length {
                return Err(RecipeError::Short { part });
            }
            file.read(at, bytes).map_err(|error| RecipeError::Read { part, source: std::io::Error::other(error) })
        };
        let mut bytes = [0; HEADER];
        read(0, &mut bytes)?;
        let header = HeaderBytes::ref_from_bytes(&bytes).map_err(|_| RecipeError::Magic)?;
        if header.magic != MAGIC || header.version.get() != VERSION || header.reserved.get() != 0 {
            return Err(RecipeError::Magic);
        }
        let form = match header.form.get() {
            0 => BlobForm::Unknown,
            1 => BlobForm::Plain,
            2 => BlobForm::Gzip,
            value => return Err(RecipeError::Value { part: "form of the blob", value: value.into() }),
        };
        let count = header.devices.get();
        if count > MAX_DEVICES {
            return Err(RecipeError::Limit { part: "devices", value: count.into(), limit: MAX_DEVICES.into() });
        }
        let mut devices = Vec::new();
        for row in 0..u64::from(count) {
            let (mut id, mut blocks) = ([0; 32], [0; 4]);
            let at = HEADER as u64 + row * DEVICE_ROW as u64;
            read(at, &mut id)?;
            read(at + 32, &mut blocks)?;
            devices.push((DeviceId::new(id), u32::from_le_bytes(blocks)));
        }
        let part = |part: &PartBytes| SectionLengths { compressed: part.compressed.get(), length: part.length.get() };
        let head = RecipeHead {
            form,
            tar_bytes: header.tar_bytes.get(),
            diff_id: Digest::new(header.diff_id),
            blob_bytes: header.blob_bytes.get(),
            blob: Digest::new(header.blob),
            devices,
            operations: part(&header.operations),
            literals: part(&header.literals),
            notes: part(&header.notes),
        };
        let parts = [head.operations, head.literals, head.notes];
        let said = parts.iter().try_fold(head.parts_at(), |sum, part| sum.checked_add(part.compressed));
        if said != Some(length) {
            let said = said.unwrap_or(u64::MAX);
            return Err(RecipeError::Mismatch { part: "bytes of the recipe", said, is: length });
        }
        limit("tar", head.tar_bytes, MAX_LAYER_SIZE)?;
        match head.form {
            // The length of the blob is proven, that of the tar is not.
            BlobForm::Gzip => limit("tar", head.tar_bytes, head.blob_bytes.saturating_mul(MAX_RATIO))?,
            BlobForm::Plain if head.tar_bytes != head.blob_bytes => {
                let (said, is) = (head.tar_bytes, head.blob_bytes);
                return Err(RecipeError::Mismatch { part: "bytes of the tar", said, is });
            }
            BlobForm::Plain | BlobForm::Unknown => {}
        }
        Ok(Self { head, file })
    }

    /// Digest and bytes of the blob, and the `diff_id`, of which this is the recipe.
    #[must_use]
    pub const fn of(&self) -> (Digest, u64, Digest) {
        (self.head.blob, self.head.blob_bytes, self.head.diff_id)
    }

    /// Bytes of the tar.
    #[must_use]
    pub const fn tar_bytes(&self) -> u64 {
        self.head.tar_bytes
    }

    /// How the blob comes from the tar.
    #[must_use]
    pub const fn form(&self) -> BlobForm {
        self.head.form
    }

    /// Starts to make the blob.
    ///
    /// # Errors
    /// [`RecipeError::Compression`] if there are no notes that can be followed.
    pub fn restore_blob(&self) -> Result<BlobRestorer<'_>, RecipeError> {
        let RecipeHead { notes, blob_bytes, .. } = self.head;
        // Whatever is wrong with the notes, the tar may be right.
        let wrong_notes = |error| RecipeError::Compression { source: Box::new(error) };
        limit("notes of the compression", notes.length, max_notes(blob_bytes)).map_err(wrong_notes)?;
        Ok(BlobRestorer::new(self.notes().map_err(wrong_notes)?, blob_bytes))
    }

    pub(crate) fn operations(&self) -> Result<SectionIn<'_>, RecipeError> {
        self.part(self.head.parts_at(), self.head.operations, "operations")
    }

    pub(crate) fn literals(&self) -> Result<SectionIn<'_>, RecipeError> {
        self.part(self.head.parts_at() + self.head.operations.compressed, self.head.literals, "literals")
    }

    pub(crate) fn notes(&self) -> Result<SectionIn<'_>, RecipeError> {
        let before = self.head.operations.compressed + self.head.literals.compressed;
        self.part(self.head.parts_at() + before, self.head.notes, "compression")
    }

    fn part(&self, at: u64, lengths: SectionLengths, part: &'static str) -> Result<SectionIn<'_>, RecipeError> {
        SectionIn::open(&self.file, at, lengths.compressed, lengths.length, part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporary::TemporaryFiles;

    fn head() -> RecipeHead {
        RecipeHead {
            form: BlobForm::Gzip,
            tar_bytes: 10,
            diff_id: Digest::of(b"tar"),
            blob_bytes: 20,
            blob: Digest::of(b"blob"),
            devices: vec![(DeviceId::new([7; 32]), 3), (DeviceId::new([8; 32]), u32::MAX)],
            operations: SectionLengths { compressed: 1, length: 2 },
            literals: SectionLengths { compressed: 3, length: 4 },
            notes: SectionLengths { compressed: 5, length: 6 },
        }
    }

    fn open(bytes: &[u8]) -> Result<Recipe, RecipeError> {
        let file = TemporaryFiles::new(std::env::temp_dir()).create().unwrap();
        file.append(bytes).unwrap();
        Recipe::open(file)
    }

    #[test]
    fn a_head_reads_back_and_a_false_one_is_refused() {
        let mut bytes = head().to_bytes();
        bytes.extend_from_slice(&[0; 9]);
        assert_eq!(open(&bytes).unwrap().head, head());
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "cut at {length}");
        }
        bytes.push(0);
        assert!(open(&bytes).is_err(), "a byte too many");
        // The last two: a tar of 20,738 bytes is more than 20 bytes can be, and is not its own blob.
        let bad = [(0, 0), (8, 2), (12, 3), (16 + 7, 1), (96 + 2, 1), (100, 1), (104 + 7, 0xff), (17, 81), (12, 1)];
        for (at, value) in bad {
            let mut bytes = head().to_bytes();
            bytes.extend_from_slice(&[0; 9]);
            bytes[at] = value;
            assert!(open(&bytes).is_err(), "byte {at}");
        }
    }
}
