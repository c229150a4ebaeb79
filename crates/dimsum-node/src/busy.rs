//! Taking a mount away, and finding out who is in the way.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use dimsum_fuse::mount::detach;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;

use crate::{Error, mountinfo};

/// Processes that are looked at: `pid_max` of a large machine.
const MAX_PROCESSES: usize = 1 << 22;
/// Descriptors and mappings of one process that are looked at.
const MAX_PER_PROCESS: usize = 1 << 16;
/// Holders that are named; more do not help.
const MAX_HOLDERS: usize = 16;
/// How often a mount is tried whose holder is gone when it is looked for. Such a holder is a process between `fork` and
/// `exec`, or one that was just ending.
const MAX_TRIES: u32 = 16;
/// Longest line of `/proc/PID/maps` that is looked at: numbers and a path.
const MAX_LINE: u64 = 8 << 10;

/// Who uses a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
        /// What it uses the mount for.
        by: Use,
    },
    /// Another mount inside of it.
    Mount {
        /// Where.
        path: PathBuf,
    },
}

/// What a process uses a mount for; the first that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Its working directory is there.
    WorkingDirectory,
    /// Its root directory is there.
    Root,
    /// It is a program from there.
    Program,
    /// It has a file open.
    File(PathBuf),
    /// It has a file mapped.
    Mapping(PathBuf),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command, by } => write!(f, "{command} (process {pid}: {by})"),
            Self::Mount { path } => write!(f, "the mount on {}", path.display()),
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkingDirectory => f.write_str("working directory"),
            Self::Root => f.write_str("root directory"),
            Self::Program => f.write_str("program"),
            Self::File(path) => write!(f, "open file {}", path.display()),
            Self::Mapping(path) => write!(f, "mapped file {}", path.display()),
        }
    }
}

/// Takes the mount on `target` away. With `lazy` also if it is in use: it is gone from the tree at once and ends with
/// its last use.
///
/// # Errors
/// [`Error::Target`] if no mount of ours is there, [`Error::Busy`] with who uses it, [`Error::Fuse`].
pub fn umount(target: &Path, lazy: bool) -> Result<(), Error> {
    let place = target.canonicalize().map_err(Error::system("find the mount"))?;
    let refuse = |reason| Error::Target { path: target.to_owned(), reason };
    match mountinfo::at(&place) {
        None => return Err(refuse("nothing is mounted here")),
        Some(mount) if !mount.is_ours() => return Err(refuse("what is mounted here is not a Dimsum image")),
        Some(_) => {}
    }
    for _ in 0..MAX_TRIES {
        match detach(&place, lazy) {
            Err(dimsum_fuse::Error::Mount { source: Errno::BUSY, .. }) => {}
            result => return Ok(result?),
        }
        let holders = holders(&place);
        if !holders.is_empty() {
            return Err(Error::Busy { holders, path: target.to_owned() });
        }
    }
    Err(Error::Busy { holders: Vec::new(), path: target.to_owned() })
}

/// Looks for what keeps the mount on `place` busy.
fn holders(place: &Path) -> Vec<Holder> {
    let Some(mount) = mountinfo::at(place) else {
        return Vec::new();
    };
    let mut found: Vec<Holder> = mountinfo::mounts()
        .into_iter()
        .filter(|inside| inside.parent == mount.id && inside.id != mount.id)
        .map(|inside| Holder::Mount { path: inside.path })
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return found;
    };
    for process in processes.flatten().take(MAX_PROCESSES) {
        if found.len() >= MAX_HOLDERS {
            break;
        }
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(by) = use_of(&process.path(), mount.device) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(Holder::Process { pid, command: command.trim_end().to_owned(), by });
        }
    }
    found.truncate(MAX_HOLDERS);
    found
}

/// Returns what a process uses a device for. A process that ends meanwhile, or may not be looked into, uses nothing.
fn use_of(process: &Path, device: (u32, u32)) -> Option<Use> {
    let links = [("cwd", Use::WorkingDirectory), ("root", Use::Root), ("exe", Use::Program)];
    for (link, by) in links {
        if device_of(&process.join(link)) == Some(device) {
            return Some(by);
        }
    }
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().take(MAX_PER_PROCESS);
    for descriptor in descriptors {
        if device_of(&descriptor.path()) == Some(device) {
            return Some(Use::File(fs::read_link(descriptor.path()).unwrap_or_default()));
        }
    }
    let maps = fs::File::open(process.join("maps")).ok()?;
    let mut maps = BufReader::new(maps);
    for _ in 0..MAX_PER_PROCESS {
        let mut line = Vec::new();
        if maps.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
        if let Some(path) = mapping(&line, device) {
            return Some(Use::Mapping(path));
        }
    }
    None
}

/// Returns the file of a line of `maps` (`from-to rwxp offset major:minor inode path`) if it is of the device.
fn mapping(line: &[u8], device: (u32, u32)) -> Option<PathBuf> {
    let line = String::from_utf8_lossy(line);
    let mut fields = line.split_ascii_whitespace();
    let (major, minor) = fields.nth(3)?.split_once(':')?;
    let of = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    // Anonymous memory has device 0:0 and no inode.
    let inode = fields.next()?;
    (of == device && inode != "0").then(|| PathBuf::from(fields.collect::<Vec<_>>().join(" ")))
}

/// Returns the device of what a path leads to, without asking its file system: that may be one that hangs.
fn device_of(path: &Path) -> Option<(u32, u32)> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let known = statx(CWD, path, flags, StatxFlags::empty()).ok()?;
    Some((known.stx_dev_major, known.stx_dev_minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_is_found_by_its_device() {
        let line = b"7f00-7f01 r-xp 00000000 00:2a 1234                       /mnt/lib/my lib.so\n";
        assert_eq!(mapping(line, (0, 0x2a)), Some(PathBuf::from("/mnt/lib/my lib.so")));
        assert_eq!(mapping(line, (0, 42 + 1)), None);
        assert_eq!(mapping(b"7f00-7f01 rw-p 00000000 00:00 0 [heap]", (0, 0)), None);
        assert_eq!(mapping(b"", (0, 0)), None);
    }

    #[test]
    fn what_is_not_mounted_is_not_unmounted() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(umount(directory.path(), false), Err(Error::Target { .. })));
        assert!(matches!(umount(Path::new("/proc"), false), Err(Error::Target { .. })));
    }
}
