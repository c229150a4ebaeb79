//! A full disk: right bytes from memory, a store that stays consistent.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};

use dimsum_format::Blake3;
use dimsum_format::group::GROUP_U64;
use dimsum_format::map::{DeviceMap, FrameMap};
use dimsum_source::Target as _;
use dimsum_store::limits::META_CACHE_GROUPS;
use dimsum_store::{Extent, FillError, FillState, MetaError};
use tokio::sync::Semaphore;

use crate::common::{Random, Reply, TestImage, open, put, read};

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

    /// Makes room again.
    fn empty(&self) {
        for number in 0.. {
            if fs::remove_file(self.path().join(format!("filler{number}"))).is_err() {
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

#[test]
fn privileged_a_fill_that_a_full_disk_stopped_brings_the_rest_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(4096) else { return };
    let image = TestImage::incompressible(65, 20, &[&[64, 64, 64, 64, 64], &[30, 64]]);
    let source = image.remote("registry");
    let store = open(disk.path());
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    disk.fill();
    let fill = opened.keep_filled(|_| {});
    let reason = loop {
        match fill.state() {
            FillState::Waiting { reason, .. } => break reason,
            FillState::Running => std::thread::yield_now(),
            ended => panic!("{ended:?}"),
        }
    };
    assert!(matches!(reason, FillError::Write { kind: ErrorKind::StorageFull, .. }), "{reason:?}");
    let before = fill.progress();
    assert!(before.done < before.total && fill.outcome().is_none());
    disk.empty();
    fill.resume();
    fill.wait().unwrap();
    assert_eq!(fill.progress().done, image.pack_bytes());
    // All of it is here, and right.
    source.hook(|_, _, _| Reply::Away);
    assert!(image.read_all(&opened).is_empty());
    assert!(!store.check(None, &mut |_| {}).is_damaged());
    for pack in &image.packs {
        assert!(store.target().has(*pack, image.blobs[pack].len() as u64).unwrap());
    }
}

/// Chunks of an image whose maps are longer than what is kept of a meta in memory: one block each.
const MANY_CHUNKS: u32 = 250_000;
/// Bytes of each of their frames; nobody reads them.
const FRAME_BYTES: u32 = 20;

/// An image of which only the meta exists: a device of a GB with some MB of maps.
fn image_of_long_maps() -> TestImage {
    let (mut map, mut frames) = (DeviceMap::default(), FrameMap::default());
    for chunk in 0..MANY_CHUNKS {
        map.push(1, Blake3::of(&chunk.to_le_bytes())).unwrap();
        frames.push(FRAME_BYTES).unwrap();
    }
    let mut blobs = HashMap::new();
    let pack = put(&mut blobs, vec![0; (MANY_CHUNKS * FRAME_BYTES) as usize]);
    TestImage::assemble(&mut Random(66), 3, blobs, vec![pack], vec![(map, frames)], Vec::new())
}

#[test]
fn privileged_an_image_of_long_maps_opens_on_a_full_disk_and_is_fetched_a_few_times_at_most() {
    let image = image_of_long_maps();
    let held = META_CACHE_GROUPS as u64 * GROUP_U64;
    assert!(image.meta_length > held, "{} bytes of meta", image.meta_length);
    let Some(disk) = SmallDisk::mount(64) else { return };
    let store = open(disk.path());
    disk.fill();
    let source = image.remote("registry");
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    let (fetched, blob) = (opened.stats().bytes_fetched, image.blobs[&image.meta].len() as u64);
    assert!(fetched < 3 * blob, "{fetched} bytes were fetched of a meta of {blob}");
    let mut bytes = vec![0; image.meta_length as usize];
    opened.meta().read_blocking(0, &mut bytes).unwrap();
    assert!(bytes == image.flat);
    let fetched = opened.stats().bytes_fetched - fetched;
    assert!(fetched < 2 * blob, "{fetched} bytes were fetched to read a meta of {blob}");
}
