//! Filling an image behind its readers.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use dimsum_source::Target as _;
use dimsum_store::{Extent, FillError, FillProgress, Image};
use proptest::prelude::*;
use tokio::sync::Semaphore;

use crate::common::{Random, Reply, TestImage, TestSource, forget_devices, open, open_joining, read};

/// Frames of 256 KiB, more than is bridged at first, in two packs.
fn image() -> TestImage {
    TestImage::incompressible(101, 3, &[&[64; 8], &[64; 8]])
}

/// Opens an image in a store that bridges nothing.
fn open_apart(directory: &Path, image: &TestImage, source: &Arc<TestSource>) -> Arc<Image> {
    open_joining(directory, 0).image(image.manifest, vec![source.clone()]).unwrap()
}

/// Reads a chunk in the background; the channel says whether it was right.
fn read_later(image: &TestImage, opened: &Image, device: usize, chunk: u32) -> mpsc::Receiver<bool> {
    let (give, take) = mpsc::channel();
    let range = image.chunk(device, chunk);
    let must = image.expect(&range).to_vec();
    let right = move |result: Result<dimsum_store::ReadBuf, _>| result.is_ok_and(|buf| buf.to_vec() == must);
    opened.read(&[Extent::Flat { range }], move |result| give.send(right(result)).unwrap_or(()));
    take
}

/// Lets a source give its answers for packs piece by piece, and returns where it tells of questions.
fn piecewise(source: &TestSource, packs: &[dimsum_format::Digest], permits: &Arc<Semaphore>) -> mpsc::Receiver<()> {
    let (packs, permits, (told, asked)) = (packs.to_vec(), Arc::clone(permits), mpsc::channel());
    source.hook(move |blob, _, bytes| {
        if !packs.contains(&blob) {
            return Reply::Bytes(bytes);
        }
        told.send(()).unwrap_or(());
        Reply::Pieces(Arc::clone(&permits), 64 << 10, bytes)
    });
    asked
}

#[test]
fn a_fill_brings_every_byte_of_every_pack_and_decodes_none() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    let source = image.remote("registry");
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    let before = opened.stats();
    let (give, seen) = mpsc::channel();
    let fill = opened.fill(move |progress| give.send(progress).unwrap());
    fill.wait().unwrap();
    let (seen, total): (Vec<FillProgress>, _) = (seen.try_iter().collect(), image.pack_bytes());
    assert!(seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    assert!(seen.iter().all(|progress| progress.total == total));
    assert_eq!((seen.last().copied(), fill.progress()), (Some(fill.progress()), FillProgress { done: total, total }));
    let stats = opened.stats();
    assert_eq!((stats.chunks_verified, stats.bytes_fetched), (before.chunks_verified, before.bytes_fetched));
    assert_eq!(stats.bytes_filled, total);
    assert!(stats.fill_requests < 16 && stats.source_requests == before.source_requests, "{stats:?}");
    // It is all there without the registry, and can be copied on.
    source.hook(|_, _, _| Reply::Away);
    assert!(image.read_all(&opened).is_empty());
    for pack in &image.packs {
        assert!(store.target().has(*pack, image.blobs[pack].len() as u64).unwrap());
    }
    assert!(store.check(None, &mut |_| {}).findings.is_empty());
}

#[test]
fn a_fill_asks_only_for_what_is_not_there() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open_apart(directory.path(), &image, &source);
    for chunk in [0, 3, 4] {
        read(&opened, &image.chunk(0, chunk)).unwrap();
    }
    opened.wait_idle();
    source.clear_log();
    opened.fill(|_| {}).wait().unwrap();
    let here = [image.frame(0, 0), image.frame(0, 3), image.frame(0, 4)];
    for asked in source.asked(image.packs[0]) {
        assert!(here.iter().all(|here| asked.end <= here.start || here.end <= asked.start), "{asked:?}");
    }
    let missing = image.pack_bytes() - here.iter().map(|frame| frame.end - frame.start).sum::<u64>();
    assert_eq!(opened.stats().bytes_filled, missing);
    source.clear_log();
    let again = opened.fill(|_| {});
    again.wait().unwrap();
    assert_eq!((source.requests(), again.progress().done), (0, image.pack_bytes()));
}

#[test]
fn what_lies_on_a_disk_is_not_filled() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.source("oci");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let fill = opened.fill(|_| {});
    fill.wait().unwrap();
    assert_eq!((fill.progress(), source.asked(image.packs[0]).len()), (FillProgress::default(), 0));
}

#[test]
fn a_reader_joins_the_range_that_is_arriving_and_does_not_wait_for_its_end() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let asked = piecewise(&source, &image.packs, &permits);
    let fill = opened.fill(|_| {});
    asked.recv().unwrap();
    let [early, late] = [1, 2].map(|chunk| read_later(&image, &opened, 0, chunk));
    let pieces = |end: u64| end.div_ceil(64 << 10) as usize;
    permits.add_permits(pieces(image.frame(0, 1).end));
    assert!(early.recv().unwrap(), "its frame is there");
    assert!(late.try_recv().is_err(), "this one is not");
    assert_eq!((source.asked(image.packs[0]).len(), opened.stats().source_requests), (1, 3));
    permits.add_permits(10_000);
    assert!(late.recv().unwrap());
    fill.wait().unwrap();
    assert_eq!((opened.stats().bytes_filled, opened.stats().source_requests), (image.pack_bytes(), 3));
}

#[test]
fn a_fill_starts_no_range_while_a_reader_waits() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open_apart(directory.path(), &image, &source);
    let (range, demand) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (answered, early) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (told, asked) = mpsc::channel();
    let hook = (Arc::clone(&range), Arc::clone(&demand), Arc::clone(&answered), Arc::clone(&early), image.clone());
    source.hook(move |blob, asked, bytes| {
        let (range, demand, answered, early, image) = &hook;
        told.send(()).unwrap_or(());
        if blob == image.packs[0] && asked.start == 0 {
            return Reply::After(Arc::clone(range), bytes);
        }
        if blob == image.packs[1] && *asked == image.frame(1, 5) {
            return Reply::After(Arc::clone(demand), bytes);
        }
        early.fetch_or(!answered.load(Ordering::SeqCst), Ordering::SeqCst);
        Reply::Bytes(bytes)
    });
    let (give, progress) = mpsc::channel();
    let fill = opened.fill(move |progress| give.send(progress).unwrap_or(()));
    asked.recv().unwrap();
    // Not in the range that is arriving.
    let reader = read_later(&image, &opened, 1, 5);
    asked.recv().unwrap();
    range.add_permits(1);
    while progress.recv().unwrap().done == 0 {}
    // The range is over. A fill that did not look would ask on now: these reads go the same way, and take longer.
    let other = TestImage::incompressible(7, 3, &[&[1; 50]]);
    let elsewhere = open(directory.path()).image(other.manifest, vec![other.remote("other")]).unwrap();
    assert!(other.read_all(&elsewhere).is_empty());
    answered.store(true, Ordering::SeqCst);
    demand.add_permits(1);
    assert!(reader.recv().unwrap());
    fill.wait().unwrap();
    assert!(!early.load(Ordering::SeqCst), "the next range came while a reader waited");
    assert_eq!(opened.stats().bytes_filled + opened.stats().bytes_fetched, total_bytes(&image));
}

/// Bytes of packs, meta, config and manifest: each fetched once.
fn total_bytes(image: &TestImage) -> u64 {
    image.blobs.values().map(|blob| blob.len() as u64).sum()
}

#[test]
fn a_fill_goes_on_with_the_next_source_where_one_breaks_off() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (broken, right) = (image.remote("broken"), image.remote("right"));
    let opened = open(directory.path()).image(image.manifest, vec![broken.clone(), right.clone()]).unwrap();
    let cut = image.frame(0, 1).end as usize;
    broken.hook(move |_, _, bytes| Reply::Bytes(bytes.slice(..bytes.len().min(cut))));
    let fill = opened.fill(|_| {});
    fill.wait().unwrap();
    assert_eq!(fill.progress().done, image.pack_bytes());
    assert!(right.asked(image.packs[0]).iter().all(|range| range.start >= cut as u64), "what came is kept");
    forget_devices(directory.path());
    assert!(image.read_all(&open(directory.path()).image(image.manifest, Vec::new()).unwrap()).is_empty());
}

#[test]
fn wrong_bytes_of_a_fill_are_found_when_they_are_read() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (liar, right) = (image.remote("liar"), image.remote("right"));
    let opened = open(directory.path()).image(image.manifest, vec![liar.clone(), right]).unwrap();
    liar.hook(|_, _, bytes| Reply::Bytes(bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into()));
    opened.fill(|_| {}).wait().unwrap();
    assert!(image.read_all(&opened).is_empty());
    drop(opened);
    // And were written over by the right ones.
    forget_devices(directory.path());
    assert!(image.read_all(&open(directory.path()).image(image.manifest, Vec::new()).unwrap()).is_empty());
}

#[test]
fn who_waited_for_a_fill_that_was_cancelled_asks_for_himself() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let asked = piecewise(&source, &image.packs, &permits);
    let fill = opened.fill(|_| {});
    asked.recv().unwrap();
    let reader = read_later(&image, &opened, 0, 2);
    source.behave();
    fill.cancel();
    assert!(matches!(fill.wait(), Err(FillError::Ended)));
    assert!(reader.recv().unwrap());
    assert_eq!(source.asked(image.packs[0])[1..], [image.frame(0, 2)]);
}

#[test]
fn a_fill_outlives_a_registry_that_goes_away_and_comes_back() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let left = AtomicU32::new(2);
    source.hook(move |_, _, bytes| {
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Reply::Away,
            Err(_) => Reply::Bytes(bytes),
        }
    });
    opened.fill(|_| {}).wait().unwrap();
    assert_eq!(opened.stats().bytes_filled, image.pack_bytes());
}

/// A source that now and then is away, breaks off, lies, or gives its bytes in small pieces; a whole answer is most likely.
fn whimsical(source: &TestSource, seed: u64, packs: Vec<dimsum_format::Digest>) {
    let mut random = Random(seed);
    let free = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
    source.hook(move |blob, _, bytes| {
        if !packs.contains(&blob) {
            return Reply::Bytes(bytes);
        }
        match random.below(12) {
            0 => Reply::Away,
            1 => Reply::Bytes(bytes.slice(..random.below(bytes.len() as u64) as usize)),
            2 => {
                let (mut wrong, at) = (bytes.to_vec(), random.below(bytes.len() as u64) as usize);
                wrong[at] ^= 1;
                Reply::Bytes(Bytes::from(wrong))
            }
            3..8 => Reply::Pieces(Arc::clone(&free), 1 + random.below(20_000) as usize, bytes),
            _ => Reply::Bytes(bytes),
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_mix_of_readers_and_fills_gives_right_bytes(seed in any::<u64>(), sizes in prop::collection::vec(1u32..90, 1..12)) {
        let image = TestImage::new(seed, (seed % 80) as u32, &[&sizes, &[3, 1], &sizes[..1]]);
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (image.remote("first"), image.remote("second"));
        for (source, seed) in [(&first, seed), (&second, !seed)] {
            whimsical(source, seed, image.packs.clone());
        }
        let opened = open(directory.path()).image(image.manifest, vec![first.clone(), second.clone()]).unwrap();
        let length = image.flat.len() as u64;
        let fill = opened.fill(|_| {});
        thread::scope(|scope| {
            for reader in 0..4 {
                let (opened, image) = (&opened, &image);
                scope.spawn(move || {
                    let mut random = Random(seed ^ reader);
                    for _ in 0..40 {
                        let start = random.below(length);
                        let long = random.below(4) == 0;
                        let end = length.min(start + random.below(if long { 1 << 20 } else { 30_000 }));
                        // Both sources may fail one read; no read gives wrong bytes.
                        if let Ok(bytes) = read(opened, &(start..end)) {
                            assert!(bytes == image.expect(&(start..end)), "{start}..{end}");
                        }
                    }
                });
            }
        });
        first.behave();
        second.behave();
        prop_assert!(fill.wait().is_ok());
        prop_assert!(image.read_all(&opened).is_empty());
        drop(fill);
        drop(opened);
        prop_assert!(!open(directory.path()).check(None, &mut |_| {}).is_damaged(), "what was wrong was written over");
        forget_devices(directory.path());
        let alone = open(directory.path()).image(image.manifest, Vec::new()).unwrap();
        prop_assert!(image.read_all(&alone).is_empty());
    }
}
