//! GNU tar as the oracle: what it packs in any format, and what the directory holds, are the same tree.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use dimsum_tree::{Policy, read_directory, read_layer};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use crate::memory_sink::MemorySink;
use crate::need;

/// What a format can hold.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Can {
    /// Names of 255 bytes split in two, whole seconds from 1970 on, no holes.
    Ustar,
    /// Names of any length, times before 1970, holes.
    Gnu,
    /// Nanoseconds and xattrs too.
    Pax,
}

fn write_tree(root: &Path, can: Can) {
    let at = |path: &str| root.join(path);
    fs::create_dir_all(at("sub/deeper")).unwrap();
    for size in [0, 1, 511, 512, 513, 70_000] {
        fs::write(at(&format!("sub/size{size}")), vec![b'x'; size]).unwrap();
    }
    fs::hard_link(at("sub/size513"), at("sub/deeper/link")).unwrap();
    fs::write(root.join(std::ffi::OsStr::new("new\nline tab\t quote\" = back\\slash")), "n").unwrap();
    symlink("sub/deeper", at("s")).unwrap();
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
    fs::set_permissions(at("sub/size1"), fs::Permissions::from_mode(0o6751)).unwrap();
    let long = format!("{}/{}", "d".repeat(90), "e".repeat(90));
    fs::create_dir_all(at(&long)).unwrap();
    fs::write(at(&format!("{long}/f")), "split").unwrap();
    if can >= Can::Gnu {
        let longer = format!("{long}/{}", "f".repeat(200));
        fs::write(at(&longer), "long name").unwrap();
        fs::hard_link(at(&longer), at("zz-link-to-long")).unwrap();
        symlink("t".repeat(2000), at("long-target")).unwrap();
        write_sparse(&at("holes"), &[(0, 1), (1 << 20, 5000), (7_777_777, 3)], 20 << 20);
        write_sparse(&at("hole-first"), &[(3 << 20, 10)], (3 << 20) + 10);
        write_sparse(&at("only-hole"), &[], 5 << 20);
        let many: Vec<(u64, usize)> = (0..60).map(|number| (number * 65_536, 100)).collect();
        write_sparse(&at("many-holes"), &many, 60 * 65_536);
    }
    if can == Can::Pax {
        setxattr(at("sub/size512"), "user.text", b"a=b\nc", XattrFlags::empty()).unwrap();
        setxattr(at("sub"), "user.binary", b"\0\xff\n", XattrFlags::empty()).unwrap();
    }
    // Times last, leaves first.
    let mut paths: Vec<_> = walk(root);
    paths.sort_unstable_by(|a, b| b.cmp(a));
    for (number, path) in (0u64..).zip(&paths) {
        if path.symlink_metadata().unwrap().is_symlink() || path.ends_with("pipe") {
            // Only whole seconds can be compared in the other formats.
            let status = Command::new("touch").args(["-h", "-d", "@1000000000"]).arg(path).status().unwrap();
            assert!(status.success());
            continue;
        }
        let offset = Duration::new(1_000_000 * (number + 1), if can == Can::Pax { 123_456_789 } else { 0 });
        let time = if can >= Can::Gnu && number % 3 == 0 {
            SystemTime::UNIX_EPOCH - offset
        } else {
            SystemTime::UNIX_EPOCH + offset
        };
        File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    }
}

fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![root.to_path_buf()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn write_sparse(path: &Path, pieces: &[(u64, usize)], size: u64) {
    let file = File::create(path).unwrap();
    for (offset, length) in pieces {
        file.write_all_at(&vec![b's'; *length], *offset).unwrap();
    }
    file.set_len(size).unwrap();
}

/// Packs with GNU tar and compares; returns the archive.
fn compare(root: &Path, arguments: &[&str]) -> Vec<u8> {
    let packed = Command::new("tar")
        .arg("-C")
        .arg(root)
        .args(["--numeric-owner", "-c"])
        .args(arguments)
        .arg(".")
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let (mut disk, mut archive) = (MemorySink::default(), MemorySink::default());
    let expected = read_directory(root, &mut disk, Policy::default()).unwrap().tree;
    let tree = read_layer(&packed.stdout[..], None, &mut archive, Policy::default()).unwrap().tree;
    let (expected, tree) = (disk.lines(&expected), archive.lines(&tree));
    for (want, got) in expected.iter().zip(&tree) {
        assert_eq!(want, got, "{arguments:?}");
    }
    assert_eq!(expected.len(), tree.len());
    packed.stdout
}

#[test]
fn every_format_gives_the_tree_of_the_directory() {
    let formats: [(Can, &[&str]); 9] = [
        (Can::Ustar, &["--format=ustar"]),
        (Can::Gnu, &["--format=gnu"]),
        (Can::Gnu, &["--format=oldgnu"]),
        (Can::Gnu, &["--format=gnu", "--sparse"]),
        (Can::Pax, &["--format=pax", "--xattrs"]),
        (Can::Pax, &["--format=pax", "--xattrs", "--sparse", "--sparse-version=0.0"]),
        (Can::Pax, &["--format=pax", "--xattrs", "--sparse", "--sparse-version=0.1"]),
        (Can::Pax, &["--format=pax", "--xattrs", "--sparse", "--sparse-version=1.0"]),
        (Can::Pax, &["--format=pax", "--xattrs", "--sparse", "--sort=inode"]),
    ];
    for (can, arguments) in formats {
        let place = tempfile::tempdir().unwrap();
        write_tree(place.path(), can);
        let archive = compare(place.path(), arguments);
        agrees_with_second_parser(&archive);
    }
}

/// Another parser sees the same names and lengths. It has no times before 1970 in extended headers, so it may
/// stop there.
fn agrees_with_second_parser(archive: &[u8]) {
    use tar_core::parse::{Limits, ParseEvent, Parser};
    let mut sink = MemorySink::default();
    let tree = read_layer(archive, None, &mut sink, Policy::default()).unwrap().tree;
    let mut parser = Parser::new(Limits::permissive());
    let mut rest = archive;
    let mut seen = 0;
    while let Ok(event) = parser.parse(rest) {
        let (consumed, entry, size) = match event {
            ParseEvent::Entry { consumed, entry } => (consumed, entry, None),
            ParseEvent::SparseEntry { consumed, entry, real_size, .. } => (consumed, entry, Some(real_size)),
            _ => break,
        };
        let id = tree.lookup_path(&entry.path).unwrap();
        if entry.is_file() || size.is_some() {
            assert_eq!(tree.inode(id).size(), size.unwrap_or(entry.size), "{}", entry.path.escape_ascii());
        }
        seen += 1;
        rest = &rest[consumed + usize::try_from(entry.padded_size()).unwrap()..];
    }
    assert!(seen > 0);
}

#[test]
fn privileged_owners_devices_and_all_xattrs_survive() {
    if !need::root() {
        return;
    }
    for (format, large) in [("--format=gnu", true), ("--format=pax", true), ("--format=ustar", false)] {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        mknodat(CWD, root.join("c"), FileType::CharacterDevice, Mode::RUSR, makedev(5, 70_000)).unwrap();
        mknodat(CWD, root.join("b"), FileType::BlockDevice, Mode::RUSR, makedev(259, 7)).unwrap();
        fs::write(root.join("f"), "x").unwrap();
        fs::hard_link(root.join("f"), root.join("g")).unwrap();
        let owner = if large { (3_000_000, u32::MAX - 1) } else { (1000, 100) };
        std::os::unix::fs::chown(root.join("f"), Some(owner.0), Some(owner.1)).unwrap();
        let mut arguments = vec![format];
        if format == "--format=pax" {
            setxattr(root.join("f"), "trusted.t", b"1", XattrFlags::empty()).unwrap();
            let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            setxattr(root.join("f"), "security.capability", capability, XattrFlags::empty()).unwrap();
            arguments.extend(["--xattrs", "--xattrs-include=*"]);
        }
        let status = Command::new("sh").current_dir(root).args(["-c", "touch -h -d @1000000000 * ."]).status().unwrap();
        assert!(status.success());
        compare(root, &arguments);
    }
}
