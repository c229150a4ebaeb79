//! Directories on disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use dimsum_tree::limits::MAX_DEPTH;
use dimsum_tree::{ContentId, ContentSink, OverlayEntries, Policy, read_directory};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::process::{Resource, Rlimit};

use crate::memory_sink::MemorySink;
use crate::need;

#[test]
fn every_type_is_read_in_path_order_with_links_and_holes() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "content").unwrap();
    fs::hard_link(root.join("d/f"), root.join("a")).unwrap();
    fs::write(root.join("d.c"), "").unwrap();
    symlink("../nowhere", root.join("s")).unwrap();
    mknodat(CWD, root.join("p"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(root.join("u")).unwrap();
    let sparse = fs::File::create(root.join("z")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o2711)).unwrap();

    let mut sink = MemorySink::default();
    let tree = read_directory(root, &mut sink, Policy::default()).unwrap().tree;
    let z = tree.lookup_path(b"z").unwrap();
    let content = sink.files.last().unwrap();
    assert_eq!(content.len(), 3 << 20);
    assert_eq!(&content[1 << 20..(1 << 20) + 6], b"middle");
    assert!(content.iter().filter(|&&byte| byte != 0).count() == 6);
    assert!(sink.hole_bytes > 2 << 20, "holes are handed on as such: {}", sink.hole_bytes);
    assert_eq!(tree.inode(z).size(), 3 << 20);
    sink.files.last_mut().unwrap().truncate(0);
    assert_eq!(sink.short(&tree), "a~=content d/ d/f~=content d.c= p:Fifo s->../nowhere u:Socket z=");
    assert_eq!(tree.inode(tree.lookup_path(b"d").unwrap()).permissions(), 0o2711);
    let mtime = fs::metadata(root.join("d.c")).unwrap();
    let read = tree.inode(tree.lookup_path(b"d.c").unwrap()).mtime();
    assert_eq!((read.seconds, i64::from(read.nanoseconds)), (mtime.mtime(), mtime.mtime_nsec()));
}

#[test]
fn depth_needs_no_more_open_files_and_is_limited() {
    let place = tempfile::tempdir().unwrap();
    let make = |depth: usize| {
        let mut directory = rustix::fs::open(place.path(), rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..depth {
            let _there = rustix::fs::mkdirat(&directory, "d", Mode::RWXU);
            directory = rustix::fs::openat(&directory, "d", rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
        }
        let _there = rustix::fs::mkdirat(&directory, "z", Mode::RWXU);
    };
    make(MAX_DEPTH - 1);
    let limits = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(512), ..limits }).unwrap();
    let tree = read_directory(place.path(), &mut MemorySink::default(), Policy::default()).unwrap().tree;
    assert_eq!(tree.len(), MAX_DEPTH + 1);
    make(MAX_DEPTH);
    let error = read_directory(place.path(), &mut MemorySink::default(), Policy::default()).unwrap_err();
    assert!(error.to_string().ends_with("directories deep"), "{error}");
}

/// Does something to the directory in the middle of the first file.
struct Meddler<F: FnMut()>(F);

impl<F: FnMut()> ContentSink for Meddler<F> {
    type Error = std::convert::Infallible;
    fn begin(&mut self, _size: u64) -> Result<(), Self::Error> {
        (self.0)();
        Ok(())
    }
    fn data(&mut self, _bytes: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn hole(&mut self, _length: u64) -> Result<(), Self::Error> {
        Ok(())
    }
    fn end(&mut self) -> Result<ContentId, Self::Error> {
        Ok(ContentId::new(0))
    }
}

#[test]
fn what_changes_while_it_is_read_is_named() {
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 5] = [
        ("d/f: it changed", |root| fs::write(root.join("d/f"), "longer than before").unwrap()),
        ("d/f: it changed", |root| fs::write(root.join("d/f"), "").unwrap()),
        ("d: it changed", |root| fs::write(root.join("d/new"), "").unwrap()),
        ("cannot read d/g", |root| fs::remove_file(root.join("d/g")).unwrap()),
        ("d: it changed", |root| {
            fs::remove_file(root.join("d/g")).unwrap();
            fs::create_dir(root.join("d/g")).unwrap();
        }),
    ];
    for (message, change) in changes {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("d")).unwrap();
        fs::write(place.path().join("d/f"), "content").unwrap();
        fs::write(place.path().join("d/g"), "").unwrap();
        let mut done = false;
        let mut sink = Meddler(|| {
            if !std::mem::replace(&mut done, true) {
                change(place.path());
            }
        });
        let error = read_directory(place.path(), &mut sink, Policy::default()).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = read_directory(Path::new("/nonexistent"), &mut MemorySink::default(), Policy::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /");
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    read_directory(&place.path().join("file"), &mut MemorySink::default(), Policy::default()).unwrap_err();
}

#[test]
fn privileged_devices_owners_and_xattrs_are_read_and_overlay_entries_refused() {
    if !need::root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    mknodat(CWD, root.join("c"), FileType::CharacterDevice, Mode::RUSR, makedev(4095, 1_048_575)).unwrap();
    mknodat(CWD, root.join("b"), FileType::BlockDevice, Mode::RUSR, makedev(7, 1)).unwrap();
    fs::write(root.join("f"), "").unwrap();
    symlink("f", root.join("s")).unwrap();
    std::os::unix::fs::lchown(root.join("s"), Some(70_000), Some(u32::MAX - 1)).unwrap();
    rustix::fs::lsetxattr(root.join("s"), "trusted.t", &[b'v'; 2000], XattrFlags::empty()).unwrap();
    setxattr(root.join("f"), "trusted.empty", b"", XattrFlags::empty()).unwrap();
    let lines = |policy| {
        let mut sink = MemorySink::default();
        let layer = read_directory(root, &mut sink, policy).map_err(|error| error.to_string())?;
        Ok::<_, String>((sink.lines(&layer.tree), layer.report))
    };
    let (tree, _) = lines(Policy::default()).unwrap();
    assert!(tree[1].contains("/b #1 060400") && tree[1].contains("rdev=7:1"), "{}", tree[1]);
    assert!(tree[2].contains("rdev=4095:1048575"), "{}", tree[2]);
    assert!(tree[3].contains("trusted.empty="), "{}", tree[3]);
    assert!(tree[4].contains("120777 70000:4294967294") && tree[4].ends_with(&"v".repeat(2000)), "{}", tree[4]);

    setxattr(root.join("f"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    assert!(lines(Policy::default()).unwrap_err().starts_with("f: the extended attribute trusted.overlay.opaque"));
    mknodat(CWD, root.join("a"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    assert!(lines(Policy::default()).unwrap_err().starts_with("a: a character device 0:0"));
    let (dropped, report) = lines(Policy { overlay_entries: OverlayEntries::Drop }).unwrap();
    assert_eq!(dropped[1..], tree[1..]);
    assert_eq!(report.dropped_overlay, 2);
}
