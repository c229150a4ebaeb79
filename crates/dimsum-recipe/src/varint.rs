//! Numbers of one to ten bytes: seven bits each, the lowest first, the upper bit set on all but the last.

use std::io::{self, Read};

use crate::error::RecipeError;

/// Bytes of the longest number.
const MAX_BYTES: u32 = 10;

/// Appends a number.
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Reads a number; none where the stream ends before it.
pub(crate) fn read(input: &mut impl Read, part: &'static str) -> Result<Option<u64>, RecipeError> {
    let mut value = 0u64;
    for index in 0..MAX_BYTES {
        let mut byte = [0];
        match input.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && index == 0 => return Ok(None),
            Err(source) => return Err(RecipeError::Read { part, source }),
        }
        let [byte] = byte;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * index);
        if shifted >> (7 * index) != bits {
            break;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Err(RecipeError::Number { part })
}

/// Reads a number that must be there.
pub(crate) fn need(input: &mut impl Read, part: &'static str) -> Result<u64, RecipeError> {
    read(input, part)?.ok_or(RecipeError::Short { part })
}

/// Lets small negative numbers be small numbers.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The way back from [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_too_long_ones_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(need(&mut &bytes[..], "test").unwrap(), value);
            assert!(need(&mut &bytes[..bytes.len() - 1], "test").is_err());
        }
        assert!(need(&mut &[0xff; 11][..], "test").is_err());
        assert!(need(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2][..], "test").is_err());
        for value in [0, 1, -1, 5, -4096, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(zigzag(-1), 1);
    }
}
