//! Entry points for the fuzz targets of recipes and DEFLATE streams. Not part of the API.

use std::path::Path;

use dimsum_format::{DeviceId, Digest};

use crate::deflate::{STYLE_COUNT, StreamDescriber, StreamMaker};
use crate::effort::Effort;
use crate::error::RecipeError;
use crate::recipe::{BlobForm, Recipe, RecipeHead, SectionLengths};
use crate::restore_tar::{RecipeDevices, restore_tar};
use crate::temporary::TemporaryFiles;

/// Bytes of a tar or a blob that are made of one input: enough for every code path. A recipe may ask for 1 TiB, and
/// only the digest shows the mistake at the end.
const MAX_MADE: u64 = 256 << 10;

/// Opens a recipe and makes its tar and its blob: none is longer than it says.
///
/// # Panics
/// If one is, or no temporary file can be written.
pub fn recipe(bytes: &[u8], temp_dir: &Path) {
    let file = TemporaryFiles::new(temp_dir.to_owned()).create().expect("temporary files can be made");
    file.append(bytes).expect("temporary files can be written");
    if let Ok(recipe) = Recipe::open(file) {
        make(&recipe);
    }
}

/// The same with a recipe whose parts are not compressed in `bytes`, and whose header fits them:
///
/// ```text
///   form u8 | devices u8 | bytes of the tar u32 | of operations u16 | of literals u16 | blocks of devices u16 …
///   | operations | literals | notes of the compression
/// ```
///
/// # Panics
/// As [`recipe`].
pub fn recipe_of_parts(bytes: &[u8], temp_dir: &Path) {
    let Some((&[form, count, a, b, c, d, operations, more, literals, most], mut rest)) = bytes.split_first_chunk()
    else {
        return;
    };
    let mut devices = Vec::new();
    for number in 0..count {
        let Some((blocks, behind)) = rest.split_first_chunk() else { return };
        devices.push((DeviceId::new([number; 32]), u16::from_le_bytes(*blocks).into()));
        rest = behind;
    }
    let mut compressed = Vec::new();
    let mut part = |bytes: &[u8]| {
        let frame = zstd::bulk::compress(bytes, 1).expect("zstd compresses everything");
        compressed.extend_from_slice(&frame);
        SectionLengths { compressed: frame.len() as u64, length: bytes.len() as u64 }
    };
    let Some((first, rest)) = rest.split_at_checked(u16::from_le_bytes([operations, more]).into()) else { return };
    let Some((second, third)) = rest.split_at_checked(u16::from_le_bytes([literals, most]).into()) else { return };
    let head = RecipeHead {
        form: match form % 3 {
            0 => BlobForm::Unknown,
            1 => BlobForm::Plain,
            _ => BlobForm::Gzip,
        },
        tar_bytes: u32::from_le_bytes([a, b, c, d]).into(),
        diff_id: Digest::new([1; 32]),
        // A plain tar is its own blob.
        blob_bytes: if form % 3 == 1 { u32::from_le_bytes([a, b, c, d]).into() } else { MAX_MADE },
        blob: Digest::new([2; 32]),
        devices,
        operations: part(first),
        literals: part(second),
        notes: part(third),
    };
    let mut bytes = head.to_bytes();
    bytes.extend_from_slice(&compressed);
    recipe(&bytes, temp_dir);
}

/// Takes a DEFLATE stream apart as the compressor of this style: the described stream comes back, bit by bit.
///
/// # Panics
/// If it does not.
pub fn deflate(style: u8, stream: &[u8]) {
    let style = style % STYLE_COUNT;
    let (Some(mut describer), Some(mut maker)) = (StreamDescriber::new(style), StreamMaker::new(style)) else { return };
    let limit = usize::try_from(MAX_MADE).unwrap_or(usize::MAX);
    let (mut efforts, mut used, mut text, mut made) = ([Effort::default(); 2], 0, 0, Vec::new());
    let [describing, making] = &mut efforts;
    while text < limit
        && let Some(rest) = stream.get(used..)
        && let Ok(described) = describer.describe(rest, limit, describing)
    {
        let again =
            maker.make(&described.text, &described.corrections, making).expect("our own corrections make sense");
        made.extend_from_slice(&again);
        used += described.used;
        text += described.text.len();
        assert_eq!(describing, making, "who describes counts the work of who makes");
        if described.ended {
            break;
        }
    }
    assert!(stream.get(..used).is_some_and(|stream| stream == made), "the stream comes back");
}

fn make(recipe: &Recipe) {
    let head = &recipe.head;
    let mut tar = 0;
    let made = restore_tar(recipe, &mut PatternDevices(head), &mut |bytes| count(&mut tar, bytes));
    assert!(tar <= head.tar_bytes && (made.is_err() || tar == head.tar_bytes), "the tar is as long as is said");
    // What a blob takes of time is bounded by its length, which the original manifest says too.
    if recipe.form() != BlobForm::Gzip || head.blob_bytes > MAX_MADE {
        return;
    }
    let Ok(mut restorer) = recipe.restore_blob() else { return };
    let (mut tar, mut blob) = (0, 0);
    let mut put = |bytes: &[u8]| {
        blob += bytes.len() as u64;
        Ok(())
    };
    let restored = restore_tar(recipe, &mut PatternDevices(head), &mut |bytes| {
        count(&mut tar, bytes)?;
        restorer.put(bytes, &mut put)
    });
    if restored.is_ok() {
        let _ = restorer.finish(&mut put).is_ok();
    }
    assert!(blob <= head.blob_bytes, "the blob is not longer than is said");
}

/// Counts bytes, up to what is made.
const fn count(made: &mut u64, bytes: &[u8]) -> Result<(), RecipeError> {
    *made += bytes.len() as u64;
    if *made > MAX_MADE {
        Err(RecipeError::Limit { part: "bytes that are made", value: *made, limit: MAX_MADE })
    } else {
        Ok(())
    }
}

/// Devices of which each byte tells where it is.
struct PatternDevices<'h>(&'h RecipeHead);

impl RecipeDevices for PatternDevices<'_> {
    type Error = RecipeError;

    fn read(&mut self, device: DeviceId, at: u64, buffer: &mut [u8]) -> Result<(), RecipeError> {
        let end = at.checked_add(buffer.len() as u64).expect("what is read has an end");
        let within = |&(id, blocks): &(DeviceId, u32)| id == device && end <= u64::from(blocks) * 4096;
        assert!(self.0.devices.iter().any(within), "what is read is within the device");
        for (byte, at) in buffer.iter_mut().zip(at..) {
            let [low, high, ..] = at.to_le_bytes();
            *byte = low ^ high;
        }
        Ok(())
    }
}
