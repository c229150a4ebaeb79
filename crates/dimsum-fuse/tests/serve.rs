//! A mounted file system read by ordinary system calls: what the kernel sees is what the file system says.

#[expect(dead_code, reason = "each test file uses its part")]
mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use dimsum_fuse::mount::{self, MountOptions};
use dimsum_fuse::{Errno, Error, Pool, Session, SessionOptions};
use rustix::fs::SeekFrom;
use support::{
    FILE_SIZE, FIRST_FILE, HOLE, LINK, Memory, Mounted, PATIENCE, Reads, can_mount, content, read_all, serve,
};

#[test]
fn privileged_a_tree_is_read_as_it_is() {
    if !can_mount() {
        return;
    }
    let (memory, _ended, agreed) = Memory::new(300, Reads::Answered);
    let pool = Pool::new().unwrap();
    let (mounted, session) = serve(&pool, memory.clone());

    let mut names: Vec<String> =
        fs::read_dir(mounted.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<String> = (0..300).map(|n| format!("f{n}")).chain(["link".to_owned()]).collect();
    expected.sort();
    assert_eq!(names, expected);

    let meta = fs::metadata(mounted.file(7)).unwrap();
    assert_eq!((meta.ino(), meta.size(), meta.mode()), (FIRST_FILE + 7, FILE_SIZE, 0o100_644));
    assert_eq!((meta.uid(), meta.gid(), meta.nlink()), (1234, 70_000, 1));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-5, 250_000_000));
    // The standard library asks by STATX; this comes from LOOKUP.
    let plain = rustix::fs::stat(mounted.file(8)).unwrap();
    assert_eq!((plain.st_mtime, plain.st_mtime_nsec), (-5, 250_000_000));
    assert_eq!(fs::symlink_metadata(mounted.path().join("link")).unwrap().ino(), LINK);
    assert_eq!(fs::read_link(mounted.path().join("link")).unwrap().to_str(), Some("f0"));
    assert_eq!(fs::metadata(mounted.path().join("absent")).unwrap_err().kind(), std::io::ErrorKind::NotFound);

    let whole = content(FIRST_FILE + 3, 0, FILE_SIZE as usize);
    assert!(read_all(mounted.file(3)).unwrap() == whole);
    let statfs = rustix::fs::statfs(mounted.path()).unwrap();
    assert_eq!((statfs.f_blocks, statfs.f_bfree, statfs.f_files), (1000, 0, 300));

    let agreed = agreed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(session.negotiated(), Some(agreed));
    let counters = session.counters();
    assert_eq!((counters.refused, counters.undecodable, counters.panics), (0, 0, 0));
    assert!(memory.opens.load(std::sync::atomic::Ordering::Relaxed) <= 1, "ENOSYS to OPEN is remembered");
}

#[test]
fn privileged_xattrs_holes_and_tails_are_answered() {
    if !can_mount() {
        return;
    }
    let (memory, _ended, _agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::new().unwrap();
    let (mounted, _session) = serve(&pool, memory);
    let path = mounted.file(0);

    let mut room = [0; 64];
    let length = rustix::fs::getxattr(&path, "user.key", &mut room).unwrap();
    assert_eq!(&room[..length], b"value");
    assert_eq!(rustix::fs::getxattr_query(&path, "user.key").unwrap(), 5);
    assert_eq!(rustix::fs::getxattr(&path, "user.key", &mut [0; 2]).unwrap_err(), rustix::io::Errno::RANGE);
    assert_eq!(rustix::fs::getxattr(&path, "user.other", &mut room).unwrap_err(), rustix::io::Errno::NODATA);
    assert_eq!(rustix::fs::listxattr(&path, &mut room).unwrap(), 9);

    let file = File::open(&path).unwrap();
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(5)).unwrap(), HOLE);
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(5)).unwrap(), 5);
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(HOLE)).unwrap_err(), rustix::io::Errno::NXIO);
    let mut tail = vec![0; 10_000];
    let read = file.read_at(&mut tail, FILE_SIZE - 100).unwrap();
    assert_eq!(tail[..read], content(FIRST_FILE, FILE_SIZE - 100, 100));
    assert_eq!(file.read_at(&mut tail, FILE_SIZE + 5).unwrap(), 0);
    file.sync_all().unwrap();
}

#[test]
fn privileged_one_read_may_be_a_mebibyte() {
    if !can_mount() {
        return;
    }
    let (memory, _ended, _agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::new().unwrap();
    let (mounted, _session) = serve(&pool, memory.clone());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECT;
    let file = File::from(rustix::fs::open(mounted.file(0), flags, rustix::fs::Mode::empty()).unwrap());
    let mut data = vec![0; 2 << 20];
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data == content(FIRST_FILE, 0, 2 << 20));
    let limit =
        fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit").map_or(256, |text| text.trim().parse().unwrap());
    let expected = (1 << 20).min(limit * 4096);
    // An unaligned user buffer needs one page more, which shortens the request by a page.
    let largest = memory.largest_read.load(std::sync::atomic::Ordering::Relaxed);
    assert!(largest <= expected && largest + 4096 >= expected, "{largest}");
}

#[test]
fn privileged_raised_read_ahead_makes_cached_reads_longer() {
    if !can_mount() {
        return;
    }
    for (kibibytes, range) in [(128, 4..=128), (1024, 129..=1024)] {
        let (memory, _ended, _agreed) = Memory::new(1, Reads::Answered);
        let pool = Pool::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let made = mount::open_detached(&MountOptions::new("memory")).unwrap();
        match mount::set_read_ahead(&made.mount, kibibytes) {
            Ok(()) => {}
            Err(Error::Mount { source: Errno::ROFS, .. }) => {
                return dimsum_testing::skip_anywhere("a writable /sys");
            }
            Err(other) => panic!("{other:?}"),
        }
        let session = Session::new(made.session, SessionOptions::default(), memory.clone());
        pool.serve(&session).unwrap();
        mount::attach(&made.mount, directory.path()).unwrap();
        let data = read_all(directory.path().join("f0")).unwrap();
        mount::detach(directory.path(), true).unwrap();
        assert!(data == content(FIRST_FILE, 0, usize::MAX));
        let largest = memory.largest_read.load(std::sync::atomic::Ordering::Relaxed) / 1024;
        assert!(range.contains(&largest), "{largest} KiB");
    }
}

#[test]
fn privileged_a_change_is_refused_even_on_a_writable_mount() {
    if !can_mount() {
        return;
    }
    let (memory, _ended, _agreed) = Memory::new(1, Reads::Answered);
    let pool = Pool::new().unwrap();
    let mounted = Mounted::new(&MountOptions { read_only: false, ..MountOptions::new("memory") });
    let session = Session::new(mounted.handed_out(), SessionOptions::default(), memory);
    pool.serve(&session).unwrap();
    let read_only = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    };
    read_only(fs::create_dir(mounted.path().join("new")));
    read_only(fs::remove_file(mounted.file(0)));
    read_only(fs::write(mounted.path().join("new"), b"x"));
    read_only(fs::rename(mounted.file(0), mounted.path().join("new")));
    read_only(fs::set_permissions(mounted.file(0), std::os::unix::fs::PermissionsExt::from_mode(0o600)));
    read_only(fs::hard_link(mounted.file(0), mounted.path().join("new")));
}
