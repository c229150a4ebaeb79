//! What a reader gets, and what it costs the source.

use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::common::{Random, Reply, TestImage, open, read};
use dimsum_store::{Extent, ReadError, limits};
use proptest::prelude::*;
use tokio::sync::Semaphore;

fn small() -> TestImage {
    TestImage::new(1, 37, &[&[64, 3, 1, 70, 5], &[1], &[2048, 7]])
}

#[test]
fn every_byte_of_an_image_is_read_and_a_second_time_from_the_store() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let source = image.source("test");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(opened.maps().devices.len(), 3);
    assert_eq!(opened.stats().chunks_verified, 8 + 2, "8 chunks, 2 frames of the meta");

    source.clear_log();
    let again = open(directory.path()).image(image.manifest, Vec::new()).unwrap();
    assert!(image.read_all(&again).is_empty());
    let stats = again.stats();
    assert_eq!((stats.source_requests, stats.local_requests, stats.damage, stats.read_errors), (0, 0, 0, 0));
    assert!(stats.groups_verified as usize >= image.flat.len() / (16 << 10), "every group was hashed: {stats:?}");
}

#[test]
fn a_warm_read_is_answered_on_the_calling_thread() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    image.read_all(&opened);
    let (give, take) = mpsc::channel();
    let range = image.chunk(0, 0);
    opened.read(&[Extent::Flat { range }], move |result| {
        give.send((thread::current().id(), result.is_ok())).unwrap();
    });
    assert_eq!(take.try_recv().unwrap(), (thread::current().id(), true));
}

#[test]
fn a_read_of_4_kib_hashes_one_group() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    image.read_all(&opened);
    let before = opened.stats().groups_verified;
    let start = image.chunk(0, 3).start + 5 * 4096;
    for _ in 0..3 {
        assert_eq!(read(&opened, &(start..start + 4096)).unwrap(), image.expect(&(start..start + 4096)));
    }
    assert_eq!(opened.stats().groups_verified, before + 3, "and no memory of the first read saves the second hash");
}

#[test]
fn extents_are_joined_in_order_with_holes_between() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    let ranges = [image.chunk(0, 4), 100..9000, image.chunk(1, 0), image.meta_length - 10..image.meta_length + 10];
    let mut extents = vec![Extent::Hole { length: 100_000 }];
    let mut must = vec![0; 100_000];
    for range in &ranges {
        extents.extend([Extent::Flat { range: range.clone() }, Extent::Hole { length: 1 }]);
        must.extend_from_slice(image.expect(range));
        must.push(0);
    }
    for _ in 0..2 {
        let buf = opened.read_blocking(&extents).unwrap();
        assert_eq!((buf.len(), buf.to_vec() == must), (must.len(), true));
    }
    assert!(opened.read_blocking(&[]).unwrap().is_empty());
}

#[test]
fn reads_beyond_the_limits_or_the_image_are_refused() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    let end = image.flat.len() as u64;
    let one = |range| opened.read_blocking(&[Extent::Flat { range }]);
    assert!(matches!(one(0..limits::MAX_READ + 1), Err(ReadError::TooLong { .. })));
    assert!(matches!(one(end..end + 1), Err(ReadError::OutOfRange { .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "a caller may be wrong")]
    let backwards = one(10..9);
    assert!(matches!(backwards, Err(ReadError::OutOfRange { .. })));
    assert!(matches!(opened.read_blocking(&[Extent::Hole { length: u64::MAX }]), Err(ReadError::TooLong { .. })));
    let many = vec![Extent::Hole { length: 1 }; limits::MAX_EXTENTS + 1];
    assert!(matches!(opened.read_blocking(&many), Err(ReadError::TooManyExtents { .. })));
    assert!(one(end..end).unwrap().is_empty());
}

#[test]
fn readers_of_one_chunk_make_one_request() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let source = image.source("test");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let barrier = Arc::new(Barrier::new(64));
    let range = image.chunk(0, 3);
    thread::scope(|scope| {
        for reader in 0..64u64 {
            let (barrier, opened, image, range) = (Arc::clone(&barrier), &opened, &image, range.clone());
            scope.spawn(move || {
                let part = range.start + reader * 4096..range.start + reader * 4096 + 8192;
                barrier.wait();
                assert_eq!(read(opened, &part).unwrap(), image.expect(&part));
            });
        }
    });
    assert_eq!(source.asked(image.packs[0]).len(), 1);
    assert_eq!(opened.stats().chunks_verified, 2 + 1);
}

#[test]
fn neighbouring_misses_of_one_read_go_in_one_request() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let source = image.source("test");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let range = image.chunk(0, 1).start..image.chunk(0, 4).end;
    assert_eq!(read(&opened, &range).unwrap(), image.expect(&range));
    let (first, last) = (image.maps[0].1.frame(1).unwrap(), image.maps[0].1.frame(4).unwrap());
    let asked = source.asked(image.packs[0]);
    assert!(asked.len() == 1 && asked[0] == (first.start..last.end), "{asked:?}");
}

#[test]
fn neighbouring_misses_of_many_readers_are_joined_while_they_wait() {
    let chunks = [1u32; 64];
    let image = TestImage::new(7, 3, &[&chunks]);
    let directory = tempfile::tempdir().unwrap();
    let source = image.source("test");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    source.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    // Chunks far apart take every slot; all others wait in the queue, whatever their order.
    let (give, take) = mpsc::channel();
    let first: Vec<u32> = (0..limits::MAX_REQUESTS_PER_DEVICE as u32).map(|slot| slot * 8).collect();
    let mut rest: Vec<u32> = (0..64).filter(|chunk| !first.contains(chunk)).collect();
    rest.reverse();
    for chunk in first.iter().chain(&rest) {
        let (give, range, must) =
            (give.clone(), image.chunk(0, *chunk), image.expect(&image.chunk(0, *chunk)).to_vec());
        opened.read(&[Extent::Flat { range }], move |result| give.send(result.unwrap().to_vec() == must).unwrap());
    }
    permits.add_permits(1000);
    drop(give);
    assert_eq!(take.iter().filter(|right| *right).count(), 64);
    assert_eq!(source.asked(image.packs[0]).len(), first.len() * 2, "one request for each run between");
}

#[test]
fn more_waiting_reads_than_the_limit_are_refused_not_queued() {
    let image = small();
    let directory = tempfile::tempdir().unwrap();
    let source = image.source("test");
    let mut options = dimsum_store::StoreOptions::default();
    // Room for one; the others wait for it.
    options.budget.parked_bytes = 1;
    let store = dimsum_store::Store::open(directory.path(), options).unwrap();
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    source.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    let (give, take) = mpsc::channel();
    for _ in 0..1 + limits::MAX_PARKED + 3 {
        let give = give.clone();
        opened.read(&[Extent::Flat { range: image.chunk(1, 0) }], move |result| give.send(result.map(drop)).unwrap());
    }
    for _ in 0..3 {
        assert!(matches!(take.try_recv().unwrap(), Err(ReadError::Busy { .. })));
    }
    permits.add_permits(1);
    drop(give);
    assert_eq!(take.iter().filter(Result::is_ok).count(), 1 + limits::MAX_PARKED);
    assert!(read(&opened, &image.chunk(1, 0)).is_ok(), "there is room again");
}

#[test]
fn a_callback_that_panics_does_not_keep_others_from_their_bytes() {
    let image = small();
    let directory = tempfile::tempdir().unwrap();
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    let (give, take) = mpsc::channel();
    for chunk in 0..5 {
        let give = give.clone();
        let extents = [Extent::Flat { range: image.chunk(0, chunk) }];
        opened.read(&extents, |_| std::panic::resume_unwind(Box::new("a broken reader")));
        opened.read(&extents, move |result| give.send(result.is_ok()).unwrap());
    }
    drop(give);
    assert_eq!(take.iter().filter(|right| *right).count(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn concurrent_readers_agree_with_the_image(seed in any::<u64>(), sizes in prop::collection::vec(1u32..90, 1..12)) {
        let image = TestImage::new(seed, (seed % 80) as u32, &[&sizes, &[3, 1], &sizes[..1]]);
        let directory = tempfile::tempdir().unwrap();
        let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
        let length = image.flat.len() as u64;
        thread::scope(|scope| {
            for reader in 0..4 {
                let (opened, image) = (&opened, &image);
                scope.spawn(move || {
                    let mut random = Random(seed ^ reader);
                    for _ in 0..60 {
                        let start = random.below(length);
                        let long = random.below(4) == 0;
                        let end = length.min(start + random.below(if long { 1 << 20 } else { 30_000 }));
                        assert!(read(opened, &(start..end)).unwrap() == image.expect(&(start..end)), "{start}..{end}");
                    }
                });
            }
        });
        let stats = opened.stats();
        prop_assert_eq!((stats.damage, stats.source_failures, stats.read_errors), (0, 0, 0));
        prop_assert!(stats.chunks_verified <= sizes.len() as u64 + 3 + image.meta_length.div_ceil(128 << 10), "{:?}", stats);
    }
}
