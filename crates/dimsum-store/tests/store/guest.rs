//! One writer per store: what a guest does beside the owner, and how the role passes on.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dimsum_store::{Store, StoreRole};

use crate::common::{Reply, TestImage, files, files_named, open, read};

fn image() -> TestImage {
    TestImage::incompressible(401, 20, &[&[16; 20], &[64; 4]])
}

/// Names, lengths, times and allocated blocks of all files.
fn state(store: &Path) -> Vec<(PathBuf, u64, i64, u64)> {
    let describe = |path: PathBuf| {
        let metadata = fs::metadata(&path).unwrap();
        (path, metadata.len(), metadata.mtime_nsec() + metadata.mtime() * 1_000_000_000, metadata.blocks())
    };
    files(store).into_iter().map(describe).collect()
}

/// Waits for a role, which passes on in the background.
fn until_owner(store: &Store) {
    let begun = Instant::now();
    while store.role() != StoreRole::Owner {
        assert!(begun.elapsed() < Duration::from_secs(60), "the role does not pass on");
        std::thread::yield_now();
    }
}

/// Overwrites every chaining value and every byte of all devices with zeros, as eviction would.
fn evict(store: &Path) {
    for name in ["data", "state"] {
        for path in files_named(store, name) {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let start = if name == "state" { 64 } else { 0 };
            let length = file.metadata().unwrap().len();
            file.write_all_at(&vec![0; (length - start) as usize], start).unwrap();
        }
    }
}

#[test]
fn the_first_with_an_open_image_is_the_owner_and_the_second_a_guest_until_that_is_closed() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (first, second) = (open(directory.path()), open(directory.path()));
    let opened = first.image(image.manifest, vec![image.source("layout")]).unwrap();
    assert_eq!((first.role(), second.role()), (StoreRole::Owner, StoreRole::Guest));
    drop(opened);
    until_owner(&second);
}

#[test]
fn a_guest_reads_right_bytes_and_writes_nothing_in_place() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let owner = open(directory.path());
    let opened = owner.image(image.manifest, vec![image.remote("registry")]).unwrap();
    read(&opened, &image.chunk(0, 3)).unwrap();
    opened.wait_idle();
    let before = state(directory.path());
    let guest = open(directory.path());
    let source = image.remote("registry");
    let beside = guest.image(image.manifest, vec![source.clone()]).unwrap();
    assert!(image.read_all(&beside).is_empty());
    assert_eq!(state(directory.path()), before);
    // What it has fetched it has, without files.
    source.hook(|_, _, _| Reply::Away);
    assert!(image.read_all(&beside).is_empty());
    assert_eq!(beside.stats().damage + beside.stats().repairs, 0);
    assert!(guest.usage().guest_bytes > 0);
}

#[test]
fn a_guest_takes_what_the_owner_evicts_for_absent() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let owner = open(directory.path());
    let opened = owner.image(image.manifest, vec![image.source("layout")]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    let guest = open(directory.path());
    let beside = guest.image(image.manifest, vec![image.source("layout")]).unwrap();
    assert!(image.read_all(&beside).is_empty());
    assert_eq!(beside.stats().source_requests, 0, "all of it is here");
    evict(directory.path());
    assert!(image.read_all(&beside).is_empty());
    let stats = beside.stats();
    assert_eq!((stats.damage, stats.repairs, stats.read_errors), (0, 0, 0), "{stats:?}");
    assert!(stats.source_requests > 0);
    assert!(
        files_named(directory.path(), "state")
            .iter()
            .all(|path| { fs::read(path).unwrap()[64..].iter().all(|byte| *byte == 0) })
    );
}

#[test]
fn a_guest_becomes_the_owner_when_the_owner_closes_and_writes_from_then_on() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (owner, guest) = (open(directory.path()), open(directory.path()));
    let opened = owner.image(image.manifest, vec![image.source("layout")]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    let beside = guest.image(image.manifest, vec![image.source("layout")]).unwrap();
    assert!(image.read_all(&beside).is_empty());
    evict(directory.path());
    drop((owner, opened));
    until_owner(&guest);
    assert!(image.read_all(&beside).is_empty());
    assert_eq!(beside.stats().damage, 0, "what it remembered as a guest is forgotten");
    assert!(
        files_named(directory.path(), "state")
            .iter()
            .any(|path| { fs::read(path).unwrap()[64..].iter().any(|byte| *byte != 0) })
    );
}

#[test]
fn an_owner_that_is_killed_hands_over() {
    let directory = tempfile::tempdir().unwrap();
    let _ = open(directory.path()).role();
    let lock = directory.path().join("writer.lock");
    let mut holder = std::process::Command::new("flock")
        .args(["--exclusive", lock.to_str().unwrap(), "sh", "-c", "echo held; read never"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).unwrap();
    let guest = open(directory.path());
    assert_eq!(guest.role(), StoreRole::Guest);
    let image = image();
    let opened = guest.image(image.manifest, vec![image.source("layout")]).unwrap();
    holder.kill().unwrap();
    // The shell that it started ends with its standard input.
    drop(holder.stdin.take());
    holder.wait().unwrap();
    until_owner(&guest);
    drop(opened);
}

#[test]
fn a_guest_that_is_closed_waits_for_nothing() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let owner = open(directory.path());
    let held = owner.image(image.manifest, vec![image.source("layout")]).unwrap();
    let threads = || {
        fs::read_dir("/proc/self/task").unwrap().flatten().filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "dimsum-writer")
        })
    };
    for _ in 0..20 {
        drop(open(directory.path()).image(image.manifest, vec![image.source("layout")]).unwrap());
    }
    let begun = Instant::now();
    // Those of other tests end too, sooner or later.
    while threads().count() > 15 {
        assert!(begun.elapsed() < Duration::from_secs(60), "guests leave threads behind");
        std::thread::yield_now();
    }
    assert_eq!(owner.role(), StoreRole::Owner);
    drop(held);
}

#[test]
fn a_guest_s_fill_brings_whole_packs_by_rename() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (owner, guest) = (open(directory.path()), open(directory.path()));
    let other = TestImage::new(402, 3, &[&[3]]);
    let held = owner.image(other.manifest, vec![other.source("layout")]).unwrap();
    let source = image.remote("registry");
    let opened = guest.image(image.manifest, vec![source.clone()]).unwrap();
    opened.fill(|_| {}).wait().unwrap();
    assert_eq!(opened.stats().bytes_filled, image.pack_bytes());
    for pack in &image.packs {
        let path = directory.path().join("packs").join(&pack.hex()[..2]).join(pack.hex());
        assert_eq!(fs::read(path).unwrap(), image.blobs[pack]);
    }
    let beside = owner.image(image.manifest, Vec::new()).unwrap();
    assert!(image.read_all(&beside).is_empty());
    drop(held);
}
