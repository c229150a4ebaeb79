//! One header block of an archive, read strictly: what `docker save`, skopeo and tar(1) write, and nothing older.

/// All of a tar is made of blocks of this size.
pub(super) const BLOCK: usize = 512;

/// A header block whose checksum fits.
#[derive(Debug)]
pub(super) struct Header<'b>(&'b [u8; BLOCK]);

impl<'b> Header<'b> {
    /// Takes a block for a header.
    pub(super) fn parse(block: &'b [u8; BLOCK]) -> Result<Self, &'static str> {
        let header = Self(block);
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        let stored = header.field::<148, 8>();
        let stored_sum: u64 = stored.iter().map(|&byte| u64::from(byte)).sum();
        // The checksum counts its own field as eight spaces.
        let must = sum - stored_sum + 8 * u64::from(b' ');
        if number(stored) != Some(must) {
            return Err("the checksum of its header is wrong: not a tar, or damaged");
        }
        if header.field::<257, 5>() != b"ustar" {
            return Err("its header is in a form from before POSIX, which no image tool writes");
        }
        Ok(header)
    }

    /// Returns the letter of the member's type.
    pub(super) fn kind(&self) -> u8 {
        self.field::<156, 1>().first().copied().unwrap_or(0)
    }

    /// Returns the name; POSIX keeps the front of a long one apart, GNU has other things there.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(self.field::<0, 100>());
        let posix = self.field::<262, 1>() == [0];
        match text(self.field::<345, 155>()) {
            prefix if posix && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    /// Returns the target of a link.
    pub(super) fn link(&self) -> Vec<u8> {
        text(self.field::<157, 100>()).to_vec()
    }

    /// Returns the number of bytes that follow.
    pub(super) fn size(&self) -> Option<u64> {
        number(self.field::<124, 12>())
    }

    fn field<const AT: usize, const LENGTH: usize>(&self) -> &'b [u8] {
        self.0.get(AT..AT + LENGTH).expect("fields lie inside the block")
    }
}

/// Returns the bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or(&[])
}

/// Reads octal digits with blanks around them, or (if the first bit is set) a big-endian number in the other bits.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign: sizes have none.
        let start = u64::from(first & 0x7f);
        let fits = |value: u64| value < 1 << 55;
        return (start < 0x40).then_some(start).and_then(|start| {
            rest.iter().try_fold(start, |value, &byte| fits(value).then_some(value << 8 | u64::from(byte)))
        });
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte))?;
    let digits = field.get(start..)?;
    let (digits, tail) = digits.split_at(digits.iter().position(blank).unwrap_or(digits.len()));
    if !tail.iter().all(blank) || !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        return None;
    }
    // At most 12 digits of 3 bits: no overflow.
    Some(digits.iter().fold(0, |value, digit| value << 3 | u64::from(digit - b'0')))
}

/// Writes the header of a regular file or directory. It has no owner and is from 1970, so that equal content gives
/// equal archives.
pub(super) fn header(name: &str, size: u64, directory: bool) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (mode, kind) = if directory { ("0000755", b'5') } else { ("0000644", b'0') };
    put(&mut block, 0, name.as_bytes());
    put(&mut block, 100, mode.as_bytes());
    put(&mut block, 108, b"0000000");
    put(&mut block, 116, b"0000000");
    if size < 1 << 33 {
        put(&mut block, 124, format!("{size:011o}").as_bytes());
        put(&mut block, 257, b"ustar\x0000");
    } else {
        // Eleven octal digits end at 8 GiB; the binary form is GNU's, which every reader of images knows.
        put(&mut block, 124, &[0x80]);
        put(&mut block, 128, &size.to_be_bytes());
        put(&mut block, 257, b"ustar  \0");
    }
    put(&mut block, 136, b"00000000000");
    put(&mut block, 148, b"        ");
    put(&mut block, 156, &[kind]);
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    put(&mut block, 148, format!("{sum:06o}\0").as_bytes());
    block
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    let field = block.get_mut(at..at + bytes.len()).expect("names of ours are short and fields lie inside the block");
    field.copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for size in [0, 1, 511, (1 << 33) - 1, 1 << 33, u64::MAX >> 1] {
            let block = header("blobs/x", size, false);
            let parsed = Header::parse(&block).unwrap();
            assert_eq!((parsed.name(), parsed.size(), parsed.kind()), (b"blobs/x".to_vec(), Some(size), b'0'));
        }
    }

    #[test]
    fn numbers_are_octal_or_binary_and_never_negative() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   123 \0", Some(0o123)),
            (b"        ", None),
            (b"0000648\0", None),
            (b"-1\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX >> 1)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }
}
