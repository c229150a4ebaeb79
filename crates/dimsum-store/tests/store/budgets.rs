//! What images hold together stays within the store's limits, and one that holds much stops no other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use dimsum_store::{Extent, ReadError, Store, StoreBudget, StoreError, StoreOptions, limits};
use tokio::sync::Semaphore;

use crate::common::{Reply, TestImage, read};

/// A store with other limits.
fn open_with(directory: &std::path::Path, change: impl FnOnce(&mut StoreBudget)) -> Store {
    let mut budget = StoreBudget::default();
    change(&mut budget);
    Store::open(directory, StoreOptions { budget, ..StoreOptions::default() }).unwrap()
}

/// Waits until nothing is held: a thread of the pool may let go of a closed image a moment later.
fn until_given_back(held: impl Fn() -> u64) {
    let begun = std::time::Instant::now();
    while held() > 0 {
        assert!(begun.elapsed().as_secs() < 60, "{} is never given back", held());
        std::thread::yield_now();
    }
}

/// Small parts of long chunks: what each reads keeps a hundred times as much in memory if whole chunks are kept.
fn small_parts(image: &TestImage, chunks: u32) -> Vec<Extent> {
    (0..chunks)
        .map(|chunk| {
            let start = image.chunk(0, chunk).start;
            Extent::Flat { range: start..start + 4096 }
        })
        .collect()
}

#[test]
fn reads_that_wait_stay_within_the_budget_and_another_image_is_answered_meanwhile() {
    const LIMIT: u64 = 256 << 10;
    let (hostile, other) = (TestImage::new(501, 3, &[&[512; 12]]), TestImage::new(502, 3, &[&[4; 20]]));
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), |budget| budget.parked_bytes = LIMIT);
    let source = hostile.remote("slow");
    let opened = store.image(hostile.manifest, vec![source.clone()]).unwrap();
    let beside = store.image(other.manifest, vec![other.remote("right")]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    source.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    let (give, take) = mpsc::channel();
    let (extents, reads) = (small_parts(&hostile, 12), 40);
    for _ in 0..reads {
        let give = give.clone();
        opened.read(&extents, move |result| give.send(result.unwrap().len()).unwrap());
    }
    let usage = store.usage();
    assert!(usage.parked_bytes <= LIMIT && usage.queued_reads > 0, "{usage:?}");
    // The slow image holds what it may; the other reads all of it.
    assert!(other.read_all(&beside).is_empty());
    assert!(take.try_recv().is_err());
    permits.add_permits(10_000);
    assert!(take.iter().take(reads).all(|length| length == 12 * 4096));
    let one = 1 << 20;
    assert!(store.usage().most_parked_bytes <= LIMIT + 2 * (2 * one), "{:?}", store.usage());
    opened.wait_idle();
    assert_eq!((store.usage().parked_bytes, store.usage().queued_reads, store.usage().flights), (0, 0, 0));
}

#[test]
fn a_read_that_finds_no_room_until_its_deadline_is_told_so() {
    let (image, directory) = (TestImage::new(503, 3, &[&[64; 12]]), tempfile::tempdir().unwrap());
    let budget = StoreBudget::default();
    let request_deadline = std::time::Duration::from_millis(300);
    let mut options = StoreOptions { budget, request_deadline, ..StoreOptions::default() };
    options.budget.parked_bytes = 1;
    let store = Store::open(directory.path(), options).unwrap();
    let source = image.remote("hung");
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    source.hook(|_, _, _| Reply::Hang);
    let (give, take) = mpsc::channel();
    for chunk in 0..4 {
        let give = give.clone();
        opened.read(&[Extent::Flat { range: image.chunk(0, chunk) }], move |result| give.send(result).unwrap());
    }
    let errors: Vec<ReadError> = take.iter().take(4).map(Result::unwrap_err).collect();
    assert!(errors.iter().any(|error| matches!(error, ReadError::NoRoom { .. })), "{errors:?}");
}

#[test]
fn maps_that_find_no_room_are_refused_and_small_ones_still_open() {
    let (large, small) = (TestImage::new(504, 3, &[&[1; 3000]]), TestImage::new(505, 3, &[&[2; 5]]));
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), |budget| budget.maps = 100 << 10);
    let refused = store.image(large.manifest, vec![large.source("layout")]).unwrap_err();
    assert!(matches!(refused, StoreError::Maps { .. }), "{refused}");
    let opened = store.image(small.manifest, vec![small.source("layout")]).unwrap();
    assert!(small.read_all(&opened).is_empty());
    assert!(store.usage().maps > 0);
    drop(opened);
    until_given_back(|| store.usage().maps);
}

#[test]
fn caches_and_descriptors_of_many_images_stay_within_the_budget() {
    const META: u64 = 256 << 10;
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), |budget| {
        (budget.cached_meta, budget.proven_values, budget.device_files) = (META, 4096, 8);
    });
    let images: Vec<TestImage> = (0..12).map(|seed| TestImage::new(600 + seed, 60, &[&[8; 10], &[3; 10]])).collect();
    let opened: Vec<_> =
        images.iter().map(|image| store.image(image.manifest, vec![image.source("layout")]).unwrap()).collect();
    for _ in 0..2 {
        for (image, opened) in images.iter().zip(&opened) {
            assert!(image.read_all(opened).is_empty());
            let usage = store.usage();
            assert!(usage.cached_meta <= META + (16 << 10) && usage.device_files <= 8 + 2, "{usage:?}");
            assert!(usage.proven_values <= 4096 + 2048, "{usage:?}");
        }
    }
    let repaired: u64 = opened.iter().map(|opened| opened.stats().damage + opened.stats().repairs).sum();
    assert_eq!(repaired, 0);
    drop(opened);
    until_given_back(|| {
        let usage = store.usage();
        usage.cached_meta + usage.device_files + usage.proven_values
    });
}

#[test]
fn requests_of_all_images_share_the_slots_and_each_image_has_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), |budget| budget.requests = 4);
    let (asked, permits) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
    let images: Vec<TestImage> = (0..6).map(|seed| TestImage::new(700 + seed, 3, &[&[64; 40]])).collect();
    let (give, take) = mpsc::channel();
    let mut opened = Vec::new();
    for (number, image) in images.iter().enumerate() {
        let source = image.remote(&format!("registry {number}"));
        let open = store.image(image.manifest, vec![source.clone()]).unwrap();
        let (held, asked) = (Arc::clone(&permits), Arc::clone(&asked));
        source.hook(move |_, _, bytes| {
            asked.fetch_add(1, Ordering::SeqCst);
            Reply::After(Arc::clone(&held), bytes)
        });
        for chunk in (0..40).step_by(2) {
            let give = give.clone();
            open.read(&[Extent::Flat { range: image.chunk(0, chunk) }], move |result| {
                give.send(result.is_ok()).unwrap();
            });
        }
        opened.push(open);
    }
    let requests = store.usage().requests;
    assert!((images.len()..=4 + images.len()).contains(&requests), "{requests}");
    let list = store.flights();
    assert_eq!((list.total, list.flights.len()), (6 * 20, 6 * 20));
    assert!(list.flights.iter().all(|flight| flight.waiters == 1));
    permits.add_permits(100_000);
    assert!(take.iter().take(6 * 20).all(|right| right));
    opened.iter().for_each(|opened| opened.wait_idle());
    // A request gives its slot back a moment after its last chunk has landed.
    while store.usage().requests > 0 {
        std::thread::yield_now();
    }
    assert_eq!(store.flights().total, 0);
}

#[test]
fn images_that_share_a_device_and_its_source_fetch_a_chunk_once() {
    let first = TestImage::new(801, 4, &[&[10; 30]]);
    let data = first.flat[first.meta_length as usize..].to_vec();
    let (blobs, maps) = (first.blobs.clone(), first.maps.clone());
    let second = TestImage::assemble(&mut crate::common::Random(9), 8, blobs, first.packs.clone(), maps, data);
    let directory = tempfile::tempdir().unwrap();
    let store = crate::common::open_joining(directory.path(), 0);
    let sources = [first.remote("registry"), second.remote("registry")];
    let images = [&first, &second];
    let opened = [0, 1].map(|at| store.image(images[at].manifest, vec![sources[at].clone()]).unwrap());
    let permits = Arc::new(Semaphore::new(0));
    for source in &sources {
        let held = Arc::clone(&permits);
        source.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    }
    let (give, take) = mpsc::channel();
    for (image, opened) in images.iter().zip(&opened) {
        for chunk in 0..30 {
            let (give, range) = (give.clone(), image.chunk(0, chunk));
            let must = image.expect(&range).to_vec();
            opened.read(&[Extent::Flat { range }], move |result| give.send(result.unwrap().to_vec() == must).unwrap());
        }
    }
    permits.add_permits(10_000);
    assert!(take.iter().take(60).all(|right| right));
    let asked = sources.iter().flat_map(|source| source.asked(first.packs[0]));
    let fetched: u64 = asked.map(|range| range.end - range.start).sum();
    assert!(fetched <= first.pack_bytes(), "{fetched} of {}", first.pack_bytes());
}

#[test]
fn an_image_whose_source_hangs_delays_no_other_with_the_same_device_and_another_source() {
    let first = TestImage::new(802, 4, &[&[10; 8]]);
    let data = first.flat[first.meta_length as usize..].to_vec();
    let (blobs, maps) = (first.blobs.clone(), first.maps.clone());
    let second = TestImage::assemble(&mut crate::common::Random(10), 8, blobs, first.packs.clone(), maps, data);
    let directory = tempfile::tempdir().unwrap();
    let store = crate::common::open(directory.path());
    let (hung, right) = (first.remote("hung"), second.remote("right"));
    let opened = store.image(first.manifest, vec![hung.clone()]).unwrap();
    let other = store.image(second.manifest, vec![right]).unwrap();
    hung.hook(|_, _, _| Reply::Hang);
    let (give, take) = mpsc::channel();
    let (range, must) = (first.chunk(0, 2), first.expect(&first.chunk(0, 2)).to_vec());
    opened.read(&[Extent::Flat { range }], move |result| give.send(result.unwrap().to_vec() == must).unwrap());
    assert_eq!(read(&other, &second.chunk(0, 2)).unwrap(), second.expect(&second.chunk(0, 2)));
    assert!(take.recv().unwrap(), "what the other brought is for both");
    const { assert!(limits::MAX_REQUESTS > 1) };
}

#[test]
fn openings_that_fetch_wait_for_their_turn_and_images_that_are_here_or_elsewhere_do_not() {
    const IMAGES: u64 = 10;
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), |budget| budget.openings = 4);
    let images: Vec<TestImage> = (0..IMAGES).map(|seed| TestImage::new(520 + seed, 3, &[&[4]])).collect();
    let (here, elsewhere) = (TestImage::new(540, 3, &[&[4]]), TestImage::new(541, 3, &[&[4]]));
    drop(store.image(here.manifest, vec![here.remote("slow")]).unwrap());
    let permits = Arc::new(Semaphore::new(0));
    std::thread::scope(|scope| {
        let mut openings = Vec::new();
        for image in &images {
            let (source, held, meta) = (image.remote("slow"), Arc::clone(&permits), image.meta);
            source.hook(move |blob, _, bytes| match blob == meta {
                true => Reply::After(Arc::clone(&held), bytes),
                false => Reply::Bytes(bytes),
            });
            let store = &store;
            openings.push(scope.spawn(move || store.image(image.manifest, vec![source])));
        }
        while store.usage().queued_openings < 8 {
            std::thread::yield_now();
        }
        // A source gets half of the turns, while others have none.
        assert_eq!((store.usage().openings, store.usage().queued_openings), (2, 8));
        assert!(here.read_all(&store.image(here.manifest, vec![here.remote("slow")]).unwrap()).is_empty());
        let beside = store.image(elsewhere.manifest, vec![elsewhere.remote("right")]).unwrap();
        assert!(elsewhere.read_all(&beside).is_empty());
        permits.add_permits(10_000);
        for (opening, image) in openings.into_iter().zip(&images) {
            assert!(image.read_all(&opening.join().unwrap().unwrap()).is_empty());
        }
    });
    assert_eq!((store.usage().openings, store.usage().queued_openings), (0, 0));
}
