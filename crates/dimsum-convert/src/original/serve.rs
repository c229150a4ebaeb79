//! From a recipe to the tar.

use dimsum_format::DeviceId;

use super::cook::{CONTENT, KIND_BITS, LITERAL, ZEROS, expected};
use super::error::RecipeError;
use super::limits::COPY;
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
    let (mut left, mut device, mut next) = (head.tar_bytes, 0, 0);
    while left > 0 {
        let number = varint::need(&mut operations, PART).map_err(wrong)?;
        let (count, kind) = (number >> KIND_BITS, number & ((1 << KIND_BITS) - 1));
        // An operation that gives nothing would let few bytes make much work.
        if count == 0 || count > left {
            return Err(wrong(RecipeError::Mismatch { part: "bytes of the tar", said: count, is: left }));
        }
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
                let number = varint::need(&mut operations, PART).map_err(wrong)?;
                let step = varint::unzigzag(varint::need(&mut operations, PART).map_err(wrong)?);
                let value = RecipeError::Value { part: "number of a device", value: number };
                let (id, bytes) = head.device_bytes(number).ok_or_else(|| wrong(value))?;
                if number != device {
                    next = 0;
                }
                let at = u64::checked_add_signed(next, step).unwrap_or(u64::MAX);
                if at.checked_add(count).is_none_or(|end| end > bytes) {
                    return Err(wrong(RecipeError::Outside { device: id, offset: at, length: count }));
                }
                (device, next) = (number, expected(at, count));
                pieces(&mut buffer, count, |done, bytes| devices.read(id, at + done, bytes), out)?;
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
