//! The mount table of this process.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type that mount tables show for mounts of ours.
const OUR_TYPE: &str = "fuse.dimsum";

/// The most lines that are looked at: the kernel's own limit per namespace (`fs.mount-max`).
const MAX_MOUNTS: usize = 100_000;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountPoint {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    pub(crate) device: (u32, u32),
    pub(crate) path: PathBuf,
    pub(crate) kind: String,
}

impl MountPoint {
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == OUR_TYPE
    }
}

/// Returns the mounts of this process's namespace, in the order they were made; empty if they cannot be read.
pub(crate) fn mounts() -> Vec<MountPoint> {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    table.split(|&byte| byte == b'\n').take(MAX_MOUNTS).filter_map(parse).collect()
}

/// Returns the topmost mount at `path`.
pub(crate) fn at(path: &Path) -> Option<MountPoint> {
    mounts().into_iter().rev().find(|mount| mount.path == path)
}

fn parse(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let path = fields.nth(1).map(unescape)?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(MountPoint {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        path: PathBuf::from(OsString::from_vec(path)),
        kind: String::from_utf8_lossy(kind).into_owned(),
    })
}

/// Undoes the kernel's octal escapes (space, tab, newline, backslash).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                plain.push(u8::try_from(value & 0xff).unwrap_or_default());
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(byte);
                rest = behind;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = br"36 35 0:42 / /mnt/a\040b\134 ro,nosuid shared:1 master:2 - fuse.dimsum app ro,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.device), (36, 35, (0, 42)));
        assert_eq!(mount.path, Path::new(r"/mnt/a b\"));
        assert!(mount.is_ours());
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 x / /mnt"), None);
    }

    #[test]
    fn the_table_of_this_process_has_a_proc() {
        assert_eq!(at(Path::new("/proc")).map(|mount| mount.kind), Some("proc".to_owned()));
    }
}
