//! A mounted image is the tree that it was made of, to the last attribute.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use dimsum_node::umount;
use rustix::fs::{AtFlags, CWD, FileType, Mode, SeekFrom as Seek2, Timespec, Timestamps, makedev, mknodat, utimensat};

use crate::support::{Node, can_mount, noise};

fn node(path: &Path, kind: FileType, major: u32, minor: u32) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), makedev(major, minor)).unwrap();
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// An ACL in the kernel's form: owner rwx, user 1234 r, group r-x, mask rwx, others none.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 4, 1234), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

fn fill(tree: &Path) {
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    fs::write(tree.join("a/small"), "small").unwrap();
    fs::write(tree.join("a/b/page"), noise(1, 4096)).unwrap();
    fs::write(tree.join("a/b/large"), noise(2, 3_000_001)).unwrap();
    // Shares slices with the one before, so it has a block map.
    let mixed = [noise(2, 512 << 10), noise(3, 256 << 10), noise(2, 256 << 10)].concat();
    fs::write(tree.join("a/b/mixed"), mixed).unwrap();
    let mut sparse = File::create(tree.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(2 << 20)).unwrap();
    sparse.write_all(&noise(4, 300_000)).unwrap();
    sparse.set_len(6 << 20).unwrap();
    fs::hard_link(tree.join("a/small"), tree.join("a/b/c/linked")).unwrap();
    symlink("a/small", tree.join("link")).unwrap();
    symlink("x".repeat(4000), tree.join("long-link")).unwrap();
    node(&tree.join("fifo"), FileType::Fifo, 0, 0);
    node(&tree.join("socket"), FileType::Socket, 0, 0);
    node(&tree.join("null"), FileType::CharacterDevice, 1, 3);
    node(&tree.join("block"), FileType::BlockDevice, 259, 70_000);
    fs::create_dir(tree.join("many")).unwrap();
    for number in 0..1500 {
        fs::write(tree.join(format!("many/{number:04}-{}", "n".repeat(60))), format!("{number}")).unwrap();
    }
    fs::write(tree.join(OsStr::from_bytes(b"not \xff utf-8")), "x").unwrap();
    fs::write(tree.join("n".repeat(255)), "x").unwrap();
    fs::set_permissions(tree.join("a/small"), fs::Permissions::from_mode(0o6755)).unwrap();
    chown(tree.join("a/b/page"), Some(70_000), Some(4_000_000_000)).unwrap();
    lchown(tree.join("link"), Some(5), Some(6)).unwrap();
    set_xattr(&tree.join("a/small"), "user.empty", b"");
    set_xattr(&tree.join("a/small"), "user.mime", b"text/plain");
    set_xattr(&tree.join("empty"), "user.mime", b"text/plain");
    set_xattr(&tree.join("empty"), "trusted.large", &noise(5, 3000));
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&tree.join("a/b/page"), "security.capability", &capability);
    set_xattr(&tree.join("a/b/large"), "system.posix_acl_access", &acl());
    set_xattr(&tree.join("a/b"), "system.posix_acl_default", &acl());
    set_mtime(&tree.join("a/small"), -1_000_000, 999_999_999);
    set_mtime(&tree.join("link"), 5_000_000_000, 1);
    set_mtime(&tree.join("a"), 0, 0);
}

#[test]
fn privileged_a_mounted_image_equals_its_source() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = node.image("image", fill);
    let mounted = node.mount(&image, "mnt");
    // Cold, with the names in the cache, and again from the page cache.
    for _ in 0..2 {
        compare(&node.tree("image"), &mounted.place);
    }
    let stats = node.info(mounted.id).stats;
    assert!(stats.driver.bytes_read > 3_000_000 && stats.driver.errors == 0, "{stats:?}");
    assert_eq!(stats.session.parked, 0);
    assert_eq!(fs::read_dir(&mounted.place).unwrap().count(), fs::read_dir(node.tree("image")).unwrap().count());
    only_what_is_there(&mounted.place);
    umount(&mounted.place, false).unwrap();
}

/// What the comparison does not see: absence, refusals, holes, limits of lengths.
fn only_what_is_there(place: &Path) {
    assert_eq!(fs::metadata(place.join("none")).unwrap_err().raw_os_error(), Some(2));
    assert_eq!(fs::write(place.join("new"), "x").unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let small = place.join("a/small");
    let missing = rustix::fs::getxattr(&small, "user.none", &mut [0; 8][..]).unwrap_err();
    assert_eq!(missing, rustix::io::Errno::NODATA);
    let short = rustix::fs::getxattr(&small, "user.mime", &mut [0; 3][..]).unwrap_err();
    assert_eq!(short, rustix::io::Errno::RANGE);
    let sparse = File::open(place.join("sparse")).unwrap();
    assert_eq!(rustix::fs::seek(&sparse, Seek2::Data(0)).unwrap(), 2 << 20);
    assert_eq!(rustix::fs::seek(&sparse, Seek2::Hole(0)).unwrap(), 0);
    assert_eq!(rustix::fs::seek(&sparse, Seek2::Data(5 << 20)).unwrap_err(), rustix::io::Errno::NXIO);
    let figures = rustix::fs::statvfs(place).unwrap();
    assert!(figures.f_files > 1500 && figures.f_bavail == 0);
    // 300,000 bytes from a block boundary on; the slice they lie in may bring zeros along.
    let sectors = sparse.metadata().unwrap().blocks();
    assert!((586..=1536).contains(&sectors), "{sectors}");
    // Hard links are one inode.
    let linked = fs::metadata(place.join("a/b/c/linked")).unwrap();
    assert_eq!(fs::metadata(&small).unwrap().ino(), linked.ino());
    assert_eq!(linked.nlink(), 2);
}

fn compare(source: &Path, mounted: &Path) {
    let (wanted, is) = (fs::symlink_metadata(source).unwrap(), fs::symlink_metadata(mounted).unwrap());
    let shown = source.display();
    assert_eq!(format!("{:o}", is.mode()), format!("{:o}", wanted.mode()), "{shown}");
    assert_eq!((is.uid(), is.gid()), (wanted.uid(), wanted.gid()), "{shown}");
    assert_eq!((is.mtime(), is.mtime_nsec()), (wanted.mtime(), wanted.mtime_nsec()), "{shown}");
    assert_eq!(is.rdev(), wanted.rdev(), "{shown}");
    assert_eq!(xattrs(mounted), xattrs(source), "{shown}");
    if wanted.is_dir() {
        let mut names: Vec<_> = fs::read_dir(source).unwrap().map(|entry| entry.unwrap()).collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let mut found: Vec<_> = fs::read_dir(mounted).unwrap().map(|entry| entry.unwrap()).collect();
        found.sort_by_key(fs::DirEntry::file_name);
        let list = |entries: &[fs::DirEntry]| entries.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>();
        assert_eq!(list(&found), list(&names), "{shown}");
        let directories = names.iter().filter(|entry| entry.file_type().unwrap().is_dir()).count() as u64;
        assert_eq!(is.nlink(), 2 + directories, "{shown}");
        for (wanted, is) in names.iter().zip(&found) {
            assert_eq!(is.file_type().unwrap(), wanted.file_type().unwrap(), "{}", wanted.path().display());
            compare(&wanted.path(), &is.path());
        }
        return;
    }
    assert_eq!((is.size(), is.nlink()), (wanted.size(), wanted.nlink()), "{shown}");
    if wanted.is_symlink() {
        assert_eq!(fs::read_link(mounted).unwrap(), fs::read_link(source).unwrap(), "{shown}");
    } else if wanted.is_file() {
        let mut bytes = Vec::new();
        File::open(mounted).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == fs::read(source).unwrap(), "{shown}: other bytes");
    }
    assert_eq!(is.file_type().is_socket(), wanted.file_type().is_socket(), "{shown}");
}

fn xattrs(path: &Path) -> Vec<(CString, Vec<u8>)> {
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<(CString, Vec<u8>)> = names
        // The host's security module labels files; that is not the image's.
        .filter(|name| *name != b"security.selinux")
        .map(|name| {
            let name = CString::new(name).unwrap();
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, &name, &mut value[..]).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect();
    all.sort();
    all
}
