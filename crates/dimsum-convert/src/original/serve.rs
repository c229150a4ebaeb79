//! From a recipe to the tar.

use dimsum_format::DeviceId;

use super::cook::{CONTENT, KIND_BITS, LITERAL, ZEROS, expected};
use super::error::{RecipeError, limit};
use super::limits::{COPY, max_references};
use super::recipe::Recipe;
use super::varint;
use crate::error::Error;

/// Where bytes of devices come from.
pub(crate) trait Devices {
    /// Fills `buffer` from byte `at` of a device on, which is within its length as the recipe says it.
    fn read(&mut self, device: DeviceId, at: u64, buffer: &mut [u8]) -> Result<(), Error>;
}

/// Gives the tar to `out`, piece by piece. `wrong` says whose recipe it is.
pub(crate) fn serve(
    recipe: &Recipe,
    devices: &mut dyn Devices,
    wrong: &dyn Fn(RecipeError) -> Error,
    out: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    const PART: &str = "operations";
    let head = &recipe.head;
    let mut operations = recipe.operations().map_err(wrong)?;
    let mut literals = recipe.literals().map_err(wrong)?;
    let mut buffer = vec![0; COPY];
    let (mut left, mut device, mut next, mut references) = (head.tar_bytes, 0, 0, 0);
    while left > 0 {
        let number = varint::need(&mut operations, PART).map_err(wrong)?;
        let (count, kind) = (number >> KIND_BITS, number & ((1 << KIND_BITS) - 1));
        // An operation that gives nothing would let few bytes make much work.
        if count == 0 || count > left {
            return Err(wrong(RecipeError::Mismatch { part: "bytes of the tar", said: count, is: left }));
        }
        let at = head.tar_bytes - left;
        left -= count;
        match kind {
            LITERAL => pieces(&mut buffer, count, |_, bytes| literals.fill(bytes).map_err(wrong), out)?,
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
                limit("references to devices", references, max_references(at)).map_err(wrong)?;
                let number = varint::need(&mut operations, PART).map_err(wrong)?;
                let step = varint::unzigzag(varint::need(&mut operations, PART).map_err(wrong)?);
                let value = RecipeError::Value { part: "number of a device", value: number };
                let (id, bytes) = head.device_bytes(number).ok_or_else(|| wrong(value))?;
                if number != device {
                    next = 0;
                }
                let offset = u64::checked_add_signed(next, step).unwrap_or(u64::MAX);
                if offset.checked_add(count).is_none_or(|end| end > bytes) {
                    return Err(wrong(RecipeError::Outside { device: id, offset, length: count }));
                }
                (device, next) = (number, expected(offset, count));
                pieces(&mut buffer, count, |done, bytes| devices.read(id, offset + done, bytes), out)?;
            }
            value => return Err(wrong(RecipeError::Value { part: "operation", value })),
        }
    }
    operations.end().and_then(|()| literals.end()).map_err(wrong)
}

/// Gets and gives `count` bytes in pieces; `get` is told how many there were before.
fn pieces(
    buffer: &mut [u8],
    count: u64,
    mut get: impl FnMut(u64, &mut [u8]) -> Result<(), Error>,
    out: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
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

    use super::super::recipe::{Form, Head, Lengths};
    use super::*;
    use crate::temporary::Temporaries;

    /// Devices of zeros that count how often they are asked.
    struct Counting(u64);

    impl Devices for Counting {
        fn read(&mut self, _: DeviceId, _: u64, buffer: &mut [u8]) -> Result<(), Error> {
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
        let head = Head {
            form: Form::Unknown,
            tar_bytes: COUNT,
            diff_id: Digest::of(b"tar"),
            blob_bytes: COUNT,
            blob: Digest::of(b"blob"),
            devices: vec![(DeviceId::new([7; 32]), 1)],
            operations: Lengths { compressed: compressed.len() as u64, length: operations.len() as u64 },
            literals: Lengths::default(),
            wrap: Lengths::default(),
        };
        let file = Temporaries::new(std::env::temp_dir()).create().unwrap();
        file.append(&[head.to_bytes(), compressed].concat()).unwrap();
        let recipe = Recipe::open(file).unwrap();
        let wrong = |source| Error::Original { layer: None, source: Box::new(source) };
        let mut devices = Counting(0);
        let error = serve(&recipe, &mut devices, &wrong, &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("references to devices"), "{error}");
        assert!((65_536..66_000).contains(&devices.0), "{} reads", devices.0);
    }
}
