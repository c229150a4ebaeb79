//! The records of an extended (POSIX) header: `LENGTH KEY=VALUE\n`, and their meaning for an entry.

use crate::error::EntryFault;
use crate::types::{Timestamp, Xattr};

/// Before the name of an xattr, its value as it is.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The values of extended headers; absent ones are left to the plain header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    /// In the order of the records.
    xattrs: Vec<Xattr>,
    pub(crate) sparse: SparseRecords,
}

/// What the `GNU.sparse.*` records say, in all three versions of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) map: Option<Vec<(u64, u64)>>,
    /// Version 0.0 has offset and length in records of their own.
    offset: Option<u64>,
}

impl Extended {
    /// Adds what the records of one header say of one entry.
    pub(crate) fn add(&mut self, records: &[u8]) -> Result<(), EntryFault> {
        each_record(records, |key, value| self.add_record(key, value))
    }

    /// Adds what the records of a global header say of all entries that follow.
    ///
    /// POSIX, GNU tar and libarchive apply them, so owner and time are taken. A path, a length or xattrs for all
    /// entries make no sense and are refused: they could only make two readers see two different archives.
    pub(crate) fn add_global(&mut self, records: &[u8]) -> Result<(), EntryFault> {
        each_record(records, |key, value| match key {
            b"path" | b"linkpath" | b"size" => Err(EntryFault::GlobalRecord { key: key.into() }),
            _ if key.starts_with(b"GNU.sparse.") || key.starts_with(XATTR) => {
                Err(EntryFault::GlobalRecord { key: key.into() })
            }
            _ => self.add_record(key, value),
        })
    }

    /// Takes the xattrs out, each name once: a later record replaces an earlier one.
    pub(crate) fn take_xattrs(&mut self) -> Vec<Xattr> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        // The last record comes first, stays first among equals, and is the one kept.
        xattrs.reverse();
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        xattrs.dedup_by(|a, b| a.name == b.name);
        xattrs
    }

    fn add_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryFault> {
        if let Some(name) = key.strip_prefix(XATTR) {
            self.xattrs.push(Xattr { name: name.into(), value: value.into() });
            return Ok(());
        }
        // No value takes back what was said before (an empty xattr is a value).
        let said = |value: &[u8]| if value.is_empty() { None } else { Some(value.to_vec()) };
        let sparse = &mut self.sparse;
        match key {
            b"path" => self.path = said(value),
            b"linkpath" => self.link = said(value),
            b"size" => self.size = decimal("size", value)?,
            b"uid" => self.uid = decimal("uid", value)?,
            b"gid" => self.gid = decimal("gid", value)?,
            b"mtime" => {
                self.mtime = if value.is_empty() {
                    None
                } else {
                    Some(time(value).ok_or(EntryFault::Number { field: "mtime" })?)
                }
            }
            b"GNU.sparse.major" => sparse.major = decimal("GNU.sparse.major", value)?,
            b"GNU.sparse.minor" => sparse.minor = decimal("GNU.sparse.minor", value)?,
            b"GNU.sparse.name" => sparse.name = said(value),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.size = decimal("GNU.sparse.size", value)?,
            b"GNU.sparse.offset" => sparse.offset = decimal("GNU.sparse.offset", value)?,
            b"GNU.sparse.numbytes" => {
                let segment = sparse.offset.take().zip(decimal("GNU.sparse.numbytes", value)?);
                sparse.map.get_or_insert_default().push(segment.ok_or(EntryFault::SparseMap)?);
            }
            b"GNU.sparse.map" => sparse.map = Some(map(value)?),
            // Also the access and change time, the names of owners, LIBARCHIVE.*, comments.
            _ => {}
        }
        Ok(())
    }
}

/// Calls `each` with key and value of every record.
fn each_record(
    mut records: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), EntryFault>,
) -> Result<(), EntryFault> {
    while !records.is_empty() {
        let (key, value, rest) = record(records).ok_or(EntryFault::ExtendedRecord)?;
        each(key, value)?;
        records = rest;
    }
    Ok(())
}

/// Takes one record off: key, value, rest.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(digits(records.get(..space)?)?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    let (key, value) = body.split_at(equals);
    if key.is_empty() { None } else { Some((key, value.get(1..)?, rest)) }
}

/// Reads a number, none if there is nothing.
fn decimal(field: &'static str, value: &[u8]) -> Result<Option<u64>, EntryFault> {
    if value.is_empty() {
        return Ok(None);
    }
    digits(value).map(Some).ok_or(EntryFault::Number { field })
}

/// Reads decimal digits and nothing else.
pub(crate) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, &digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads seconds with a sign and a fraction, of which more than nine digits are cut off.
fn time(value: &[u8]) -> Option<Timestamp> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let seconds = digits(parts.next()?)?;
    let fraction = parts.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = fraction
        .iter()
        .chain(std::iter::repeat(&b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds: i64::try_from(seconds).ok()?, nanoseconds },
        (true, 0) => Timestamp { seconds: 0i64.checked_sub_unsigned(seconds)?, nanoseconds },
        (true, _) => {
            Timestamp { seconds: (-1i64).checked_sub_unsigned(seconds)?, nanoseconds: 1_000_000_000 - nanoseconds }
        }
    })
}

/// Reads `offset,length,offset,length,…`.
fn map(value: &[u8]) -> Result<Vec<(u64, u64)>, EntryFault> {
    let mut numbers = value.split(|&byte| byte == b',').filter(|number| !number.is_empty());
    let mut segments = Vec::new();
    while let Some(offset) = numbers.next() {
        let segment = digits(offset).zip(numbers.next().and_then(digits));
        segments.push(segment.ok_or(EntryFault::SparseMap)?);
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_rounded_down() {
        for (text, seconds, nanoseconds) in [
            (&b"0"[..], 0, 0),
            (b"1700000000.123456789", 1_700_000_000, 123_456_789),
            (b"1.5", 1, 500_000_000),
            (b"1.", 1, 0),
            (b"1.0000000019", 1, 1),
            (b"-0.5", -1, 500_000_000),
            (b"-2147483648", -2_147_483_648, 0),
            (b"-1.000000001", -2, 999_999_999),
            (b"-9223372036854775808", i64::MIN, 0),
            (b"-9223372036854775807.9", i64::MIN, 100_000_000),
        ] {
            assert_eq!(time(text), Some(Timestamp { seconds, nanoseconds }), "{}", text.escape_ascii());
        }
        for bad in [&b""[..], b"-", b"1.x", b"1e3", b"+1", b".5", b"99999999999999999999", b"-9223372036854775808.1"] {
            assert_eq!(time(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn records_are_cut_by_their_length_and_malformed_ones_refused() {
        let mut extended = Extended::default();
        extended.add(b"12 path=a=b\n30 SCHILY.xattr.user.n=x\ny\x00\xff=\n24 SCHILY.xattr.user.e=\n").unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a=b"[..]));
        extended.add(b"25 SCHILY.xattr.user.e=2\n").unwrap();
        assert_eq!(format!("{:?}", extended.take_xattrs()), r"[user.e=2, user.n=x\ny\x00\xff=]");
        for bad in [
            &b"12 path=a=b"[..],
            b"0 a=b\n",
            b"6 a=b\n6",
            b"99 a=b\n",
            b"5 =b\n",
            b"5 ab\n",
            b"+6 a=b\n",
            b"6 a=b\n\n",
            b"\0",
        ] {
            assert!(matches!(Extended::default().add(bad), Err(EntryFault::ExtendedRecord)), "{}", bad.escape_ascii());
        }
    }
}
