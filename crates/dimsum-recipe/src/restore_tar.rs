//! Makes the tar by following a recipe.

use dimsum_format::DeviceId;

use crate::error::{RecipeError, limit};
use crate::limits::{COPY, max_references};
use crate::operations::{CONTENT, KIND_BITS, LITERAL, ZEROS, expected};
use crate::recipe::Recipe;
use crate::varint;

/// Where bytes of devices come from.
pub trait RecipeDevices {
    /// Why they cannot be had.
    type Error;

    /// Fills `buffer` from byte `at` of a device on, which is within its length as the recipe says it.
    ///
    /// # Errors
    /// If they cannot be had; making the tar ends with this error.
    fn read(&mut self, device: DeviceId, at: u64, buffer: &mut [u8]) -> Result<(), Self::Error>;
}

/// Gives the tar to `out`, piece by piece.
///
/// # Errors
/// If the recipe makes no sense, `devices` do not give what it refers to, or `out` fails.
pub fn restore_tar<E: From<RecipeError>>(
    recipe: &Recipe,
    devices: &mut dyn RecipeDevices<Error = E>,
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    const PART: &str = "operations";
    let head = &recipe.head;
    let mut operations = recipe.operations()?;
    let mut literals = recipe.literals()?;
    let mut buffer = vec![0; COPY];
    let (mut left, mut device, mut next, mut references) = (head.tar_bytes, 0, 0, 0);
    while left > 0 {
        let number = varint::need(&mut operations, PART)?;
        let (count, kind) = (number >> KIND_BITS, number & ((1 << KIND_BITS) - 1));
        // An operation that gives nothing would let few bytes make much work.
        if count == 0 || count > left {
            return Err(RecipeError::Mismatch { part: "bytes of the tar", said: count, is: left }.into());
        }
        let at = head.tar_bytes - left;
        left -= count;
        match kind {
            LITERAL => pieces(&mut buffer, count, |_, bytes| Ok(literals.fill(bytes)?), out)?,
            ZEROS => pieces(
                &mut buffer,
                count,
                |_, bytes| {
                    bytes.fill(0);
                    Ok(())
                },
                out,
            )?,
            CONTENT => {
                references += 1;
                limit("references to devices", references, max_references(at))?;
                let number = varint::need(&mut operations, PART)?;
                let step = varint::unzigzag(varint::need(&mut operations, PART)?);
                let value = RecipeError::Value { part: "number of a device", value: number };
                let (id, bytes) = head.device_bytes(number).ok_or(value)?;
                if number != device {
                    next = 0;
                }
                let offset = u64::checked_add_signed(next, step).unwrap_or(u64::MAX);
                if offset.checked_add(count).is_none_or(|end| end > bytes) {
                    return Err(RecipeError::Outside { device: id, offset, length: count }.into());
                }
                (device, next) = (number, expected(offset, count));
                pieces(&mut buffer, count, |done, bytes| devices.read(id, offset + done, bytes), out)?;
            }
            value => return Err(RecipeError::Value { part: "operation", value }.into()),
        }
    }
    Ok(operations.end().and_then(|()| literals.end())?)
}

/// Gets and gives `count` bytes in pieces; `get` is told how many there were before.
fn pieces<E>(
    buffer: &mut [u8],
    count: u64,
    mut get: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    out: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut done = 0;
    while done < count {
        let now = usize::try_from(count - done).map_or(buffer.len(), |left| left.min(buffer.len()));
        let bytes = buffer.get_mut(..now).unwrap_or_default();
        get(done, bytes)?;
        out(bytes)?;
        done += now as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dimsum_format::Digest;

    use super::*;
    use crate::recipe::{BlobForm, RecipeHead, SectionLengths};
    use crate::temporary::TemporaryFiles;

    /// Devices of zeros that count how often they are asked.
    struct Counting(u64);

    impl RecipeDevices for Counting {
        type Error = RecipeError;

        fn read(&mut self, _: DeviceId, _: u64, buffer: &mut [u8]) -> Result<(), RecipeError> {
            self.0 += 1;
            buffer.fill(0);
            Ok(())
        }
    }

    #[test]
    fn references_for_single_bytes_are_soon_refused() {
        const COUNT: u64 = 1_000_000;
        let mut operations = Vec::new();
        for index in 0..COUNT {
            // Always the first byte: back from the block behind it.
            let step = if index == 0 { 0 } else { -4096 };
            for number in [1 << KIND_BITS | CONTENT, 0, varint::zigzag(step)] {
                varint::put(&mut operations, number);
            }
        }
        let compressed = zstd::bulk::compress(&operations, 1).unwrap();
        let head = RecipeHead {
            form: BlobForm::Unknown,
            tar_bytes: COUNT,
            diff_id: Digest::of(b"tar"),
            blob_bytes: COUNT,
            blob: Digest::of(b"blob"),
            devices: vec![(DeviceId::new([7; 32]), 1)],
            operations: SectionLengths { compressed: compressed.len() as u64, length: operations.len() as u64 },
            literals: SectionLengths::default(),
            notes: SectionLengths::default(),
        };
        let file = TemporaryFiles::new(std::env::temp_dir()).create().unwrap();
        file.append(&[head.to_bytes(), compressed].concat()).unwrap();
        let recipe = Recipe::open(file).unwrap();
        let mut devices = Counting(0);
        let error = restore_tar(&recipe, &mut devices, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("references to devices"), "{error}");
        assert!((65_536..66_000).contains(&devices.0), "{} reads", devices.0);
    }
}
