//! One header block: fields at fixed offsets, numbers in octal or base-256, three kinds of magic.

use crate::error::EntryFault;
use crate::types::DeviceNumber;

/// All of a tar is made of blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// Segments described in the header of an old GNU sparse file, and in each block that continues it.
const SEGMENTS_IN_HEADER: usize = 4;
const SEGMENTS_IN_EXTENSION: usize = 21;
const SEGMENT: usize = 24;

/// Which fields beyond those of 1979 a header has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    /// None: no magic.
    V7,
    /// POSIX: prefix and device numbers.
    Ustar,
    /// Jörg Schilling's: as POSIX, with a shorter prefix.
    Star,
    /// GNU: device numbers, no prefix.
    Gnu,
}

/// The part of an old GNU sparse file's map that stands in its header.
#[derive(Clone, Debug)]
pub(crate) struct SparseHeader {
    /// Offset and length of the stored bytes.
    pub(crate) segments: Vec<(u64, u64)>,
    /// Whether a block with more of them follows.
    pub(crate) more: bool,
    /// The file's length.
    pub(crate) size: u64,
}

/// A header block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TarHeader<'b>(&'b [u8; BLOCK]);

impl<'b> TarHeader<'b> {
    /// Takes a block for a header if its checksum says so. Old writers summed signed bytes.
    pub(crate) fn parse(block: &'b [u8; BLOCK]) -> Result<Self, EntryFault> {
        let header = Self(block);
        let (mut unsigned, mut signed) = (0i128, 0i128);
        for (at, &byte) in block.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i128::from(byte);
            signed += i128::from(byte.cast_signed());
        }
        match octal(header.field::<148, 8>()) {
            Some(sum) if sum == unsigned || sum == signed => Ok(header),
            _ => Err(EntryFault::Checksum),
        }
    }

    /// Returns the dialect.
    pub(crate) fn dialect(&self) -> Dialect {
        match (self.field::<257, 8>(), self.field::<508, 4>()) {
            (b"ustar\x0000", b"tar\0") => Dialect::Star,
            (b"ustar\x0000", _) => Dialect::Ustar,
            (b"ustar  \0", _) => Dialect::Gnu,
            _ => Dialect::V7,
        }
    }

    /// Returns the type's letter.
    pub(crate) fn type_flag(&self) -> u8 {
        self.field::<156, 1>().first().copied().unwrap_or(0)
    }

    /// Returns the name, with what stands in the prefix before it.
    pub(crate) fn path(&self) -> Vec<u8> {
        let prefix = match self.dialect() {
            Dialect::Ustar => text(self.field::<345, 155>()),
            Dialect::Star => text(self.field::<345, 131>()),
            Dialect::Gnu => self.mistaken_prefix(),
            Dialect::V7 => &[],
        };
        let name = text(self.field::<0, 100>());
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// Returns the link's target.
    pub(crate) fn link(&self) -> &'b [u8] {
        text(self.field::<157, 100>())
    }

    /// Returns the mode; what is above the 12 bits of permissions is of no meaning.
    pub(crate) fn permissions(&self) -> Result<u16, EntryFault> {
        let mode = number(self.field::<100, 8>()).ok_or(EntryFault::Number { field: "mode" })?;
        Ok((mode & 0o7777) as u16)
    }

    /// Returns the owner.
    pub(crate) fn uid(&self) -> Result<i128, EntryFault> {
        number(self.field::<108, 8>()).ok_or(EntryFault::Number { field: "uid" })
    }

    /// Returns the group.
    pub(crate) fn gid(&self) -> Result<i128, EntryFault> {
        number(self.field::<116, 8>()).ok_or(EntryFault::Number { field: "gid" })
    }

    /// Returns the bytes that follow the header.
    pub(crate) fn size(&self) -> Result<u64, EntryFault> {
        unsigned(self.field::<124, 12>()).ok_or(EntryFault::Number { field: "size" })
    }

    /// Returns the time of the last change in seconds.
    pub(crate) fn mtime(&self) -> Result<i64, EntryFault> {
        let seconds = number(self.field::<136, 12>()).ok_or(EntryFault::Number { field: "mtime" })?;
        i64::try_from(seconds).map_err(|_| EntryFault::Number { field: "mtime" })
    }

    /// Returns the device number of a device node.
    pub(crate) fn device(&self) -> Result<DeviceNumber, EntryFault> {
        if self.dialect() == Dialect::V7 {
            return Ok(DeviceNumber::default());
        }
        let part = |field| {
            number(field).and_then(|value| u32::try_from(value).ok()).ok_or(EntryFault::Number { field: "device" })
        };
        Ok(DeviceNumber { major: part(self.field::<329, 8>())?, minor: part(self.field::<337, 8>())? })
    }

    /// Returns what the header of an old GNU sparse file says of it.
    pub(crate) fn sparse(&self) -> Result<SparseHeader, EntryFault> {
        let size = unsigned(self.field::<483, 12>()).ok_or(EntryFault::Number { field: "real size" })?;
        let mut segments = Vec::new();
        segments_of(self.field::<386, { SEGMENTS_IN_HEADER * SEGMENT }>(), &mut segments)?;
        Ok(SparseHeader { segments, more: self.field::<482, 1>() != [0], size })
    }

    /// Writers in Go before 1.8 (and so Docker's of that time) wrote a prefix into GNU headers, where access
    /// and change time should be. It is one if those are no numbers.
    fn mistaken_prefix(&self) -> &'b [u8] {
        let prefix = text(self.field::<345, 155>());
        let times = number(self.field::<345, 12>()).zip(number(self.field::<357, 12>()));
        if times.is_none() && self.type_flag() != b'S' && prefix.is_ascii() { prefix } else { &[] }
    }

    fn field<const AT: usize, const LENGTH: usize>(&self) -> &'b [u8] {
        self.0.get(AT..AT + LENGTH).expect("fields lie inside the block")
    }
}

/// Reads one block that continues a list of segments; returns whether another follows.
pub(crate) fn sparse_extension(block: &[u8; BLOCK], segments: &mut Vec<(u64, u64)>) -> Result<bool, EntryFault> {
    let (list, rest) = block.split_at(SEGMENTS_IN_EXTENSION * SEGMENT);
    segments_of(list, segments)?;
    Ok(rest.first().is_some_and(|&more| more != 0))
}

/// Reads offset and length of each segment up to the first that is not there.
fn segments_of(list: &[u8], segments: &mut Vec<(u64, u64)>) -> Result<(), EntryFault> {
    for segment in list.chunks_exact(SEGMENT) {
        if segment.first() == Some(&0) {
            break;
        }
        let (offset, length) = segment.split_at(SEGMENT / 2);
        match (unsigned(offset), unsigned(length)) {
            (Some(offset), Some(length)) => segments.push((offset, length)),
            _ => return Err(EntryFault::Number { field: "sparse map" }),
        }
    }
    Ok(())
}

/// Returns the bytes before the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or(&[])
}

fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|value| u64::try_from(value).ok())
}

/// Reads octal digits, or (if the first bit is set) a big-endian two's complement of the other bits.
fn number(field: &[u8]) -> Option<i128> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // The flag's bit is not part of the number, the one below it is its sign.
    let start = i128::from(first & 0x3f) - i128::from(first & 0x40);
    Some(rest.iter().fold(start, |value, &byte| value << 8 | i128::from(byte)))
}

/// Reads octal digits between spaces, up to a NUL; nothing is 0.
fn octal(field: &[u8]) -> Option<i128> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field.get(start..).unwrap_or(&[]);
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, tail) = digits.split_at(end);
    let tail_is_blank = text(tail).iter().all(blank);
    if !tail_is_blank || !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        return None;
    }
    // A field has at most 12 digits: no overflow.
    Some(digits.iter().fold(0, |value, digit| value << 3 | i128::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_with_sign() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   123 \0", Some(0o123)),
            (b"        ", Some(0)),
            (b"\0\0\0\0", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"0000648\0", None),
            (b"12 4\0\0\0\0", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\x80\0\0\0", Some(-(1 << 31))),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some((1 << 94) - 1)),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
        assert_eq!(unsigned(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None, "beyond 64 bits");
    }
}
