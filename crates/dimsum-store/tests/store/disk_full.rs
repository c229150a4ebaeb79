//! A full disk: right bytes from memory, a store that stays consistent.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};

use dimsum_store::{Extent, FillError, MetaError};
use tokio::sync::Semaphore;

use crate::common::{Reply, TestImage, open, read};

/// A tmpfs of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(kib: u32) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.0.path()).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(disk);
        }
        dimsum_testing::skip("CAP_SYS_ADMIN to mount a tmpfs");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let block = vec![1; 4096];
        for number in 0.. {
            if fs::write(self.path().join(format!("filler{number}")), &block).is_err() {
                return;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

#[test]
fn privileged_a_disk_that_fills_up_serves_right_bytes_from_memory() {
    let Some(disk) = SmallDisk::mount(700) else { return };
    let image = TestImage::new(61, 20, &[&[64, 64, 64, 64, 64], &[30]]);
    let store = open(disk.path());
    let opened = store.image(image.manifest, vec![image.source("test")]).unwrap();
    for _ in 0..3 {
        assert!(image.read_all(&opened).is_empty());
    }
    let stats = opened.stats();
    assert!(stats.write_errors > 0, "{stats:?}");
    assert!(!store.check(None, &mut |_| {}).findings.iter().any(|found| {
        // A chunk that was cut off by the full disk has no chaining values yet.
        found.severity == dimsum_store::Severity::Damage
    }));
}

#[test]
fn privileged_an_image_opens_and_is_read_when_nothing_can_be_written() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let image = TestImage::new(62, 100, &[&[64, 5]]);
    let store = open(disk.path());
    disk.fill();
    let opened = store.image(image.manifest, vec![image.source("test")]).unwrap();
    for _ in 0..2 {
        assert!(image.read_all(&opened).is_empty());
        assert_eq!(read(&opened, &image.chunk(0, 0)).unwrap(), image.expect(&image.chunk(0, 0)));
    }
    // The meta too: what the cache does not hold is fetched.
    let mut buf = [0; 100];
    match opened.meta().read_at(50_000, &mut buf) {
        Ok(()) => {}
        Err(MetaError::Pending { group }) => {
            let (give, take) = mpsc::channel();
            opened.meta().when_ready(group, Box::new(move |result| give.send(result).unwrap()));
            take.recv().unwrap().unwrap();
            opened.meta().read_at(50_000, &mut buf).unwrap();
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!(buf, image.expect(&(50_000..50_100)));
    assert!(opened.read_blocking(&[Extent::Hole { length: 5 }]).is_ok());
    assert!(opened.stats().write_errors > 0);
}

#[test]
fn privileged_on_a_full_disk_nothing_more_is_kept_and_every_read_is_right() {
    let Some(disk) = SmallDisk::mount(1500) else { return };
    let image = TestImage::incompressible(63, 20, &[&[64, 64, 64, 64, 64], &[30, 64]]);
    let store = open(disk.path());
    let opened = store.image(image.manifest, vec![image.remote("registry")]).unwrap();
    for _ in 0..2 {
        assert!(image.read_all(&opened).is_empty());
    }
    assert!(opened.stats().write_errors > 0);
    assert!(!store.check(None, &mut |_| {}).is_damaged(), "what was cut off is not taken for a frame");
}

#[test]
fn privileged_a_fill_ends_where_the_disk_does_and_readers_of_it_are_answered() {
    let Some(disk) = SmallDisk::mount(700) else { return };
    let image = TestImage::incompressible(64, 20, &[&[64, 64, 64, 64, 64], &[30, 64]]);
    let source = image.remote("registry");
    let opened = open(disk.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let (held, (told, asked)) = (Arc::clone(&permits), mpsc::channel());
    source.hook(move |_, _, bytes| {
        told.send(()).unwrap();
        Reply::After(Arc::clone(&held), bytes)
    });
    let fill = opened.fill(|_| {});
    asked.recv().unwrap();
    let (give, take) = mpsc::channel();
    let (range, must) = (image.chunk(0, 4), image.expect(&image.chunk(0, 4)).to_vec());
    opened.read(&[Extent::Flat { range }], move |result| give.send(result.unwrap().to_vec() == must).unwrap());
    permits.add_permits(1000);
    assert!(take.recv().unwrap());
    assert!(matches!(fill.wait(), Err(FillError::Write { kind: ErrorKind::StorageFull, .. })), "{:?}", fill.outcome());
    source.behave();
    assert!(image.read_all(&opened).is_empty());
}
