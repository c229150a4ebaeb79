//! Requests joined by cost: gaps that are cheaper than a round trip are fetched, and not wasted.

use std::sync::{Arc, mpsc};

use dimsum_store::{Extent, Joining, Store, StoreOptions, limits};
use tokio::sync::Semaphore;

use crate::common::{Reply, TestImage, open_joining, read};

/// Chunks of 16 KiB and, last but one, of 2 MiB, that do not compress.
fn image() -> TestImage {
    let mut chunks = [4; 20];
    chunks[18] = 512;
    TestImage::incompressible(81, 3, &[&chunks])
}

fn extents(image: &TestImage, chunks: &[u32]) -> Vec<Extent> {
    chunks.iter().map(|chunk| Extent::Flat { range: image.chunk(0, *chunk) }).collect()
}

#[test]
fn a_gap_below_a_round_trip_is_fetched_and_kept() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open_joining(directory.path(), u64::MAX).image(image.manifest, vec![source.clone()]).unwrap();
    opened.read_blocking(&extents(&image, &[2, 4])).unwrap();
    opened.wait_idle();
    let joined = image.frame(0, 2).start..image.frame(0, 4).end;
    assert_eq!(source.asked(image.packs[0]), [joined]);
    let gap = image.frame(0, 3);
    assert_eq!((opened.stats().bytes_bridged, opened.stats().chunks_verified), (gap.end - gap.start, 2 + 1));
    // Whoever wants what lay in the gap has it.
    assert_eq!(read(&opened, &image.chunk(0, 3)).unwrap(), image.expect(&image.chunk(0, 3)));
    assert_eq!(source.asked(image.packs[0]).len(), 1);
}

#[test]
fn a_gap_above_the_bound_is_not_fetched_whatever_the_estimate() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    assert!(image.frame(0, 18).end - image.frame(0, 18).start > limits::MAX_BRIDGE);
    let source = image.remote("registry");
    let opened = open_joining(directory.path(), u64::MAX).image(image.manifest, vec![source.clone()]).unwrap();
    opened.read_blocking(&extents(&image, &[17, 19])).unwrap();
    assert_eq!((source.asked(image.packs[0]).len(), opened.stats().bytes_bridged), (2, 0));
}

#[test]
fn without_joining_only_neighbours_go_together() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let store =
        Store::open(directory.path(), StoreOptions { joining: Joining::Off, ..StoreOptions::default() }).unwrap();
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    opened.read_blocking(&extents(&image, &[2, 3, 5])).unwrap();
    let mut asked = source.asked(image.packs[0]);
    asked.sort_by_key(|range| range.start);
    assert_eq!(asked, [image.frame(0, 2).start..image.frame(0, 3).end, image.frame(0, 5)]);
    assert_eq!(opened.stats().bytes_bridged, 0);
}

#[test]
fn on_the_same_disk_nothing_is_bridged() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.source("oci");
    let opened = open_joining(directory.path(), u64::MAX).image(image.manifest, vec![source.clone()]).unwrap();
    opened.read_blocking(&extents(&image, &[2, 4])).unwrap();
    assert_eq!((source.asked(image.packs[0]).len(), opened.stats().bytes_bridged), (2, 0));
}

#[test]
fn units_that_wait_are_joined_over_gaps_whatever_their_order() {
    let (image, directory) = (TestImage::incompressible(82, 3, &[&[1; 400]]), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open_joining(directory.path(), u64::MAX).image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    source.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    let (give, take) = mpsc::channel();
    let ask = |chunk| {
        let (give, range) = (give.clone(), image.chunk(0, chunk));
        let must = image.expect(&range).to_vec();
        opened.read(&[Extent::Flat { range }], move |result| give.send(result.unwrap().to_vec() == must).unwrap());
    };
    // One by one, so that each takes a slot.
    let slots = limits::MAX_REQUESTS_PER_DEVICE as u32;
    (0..slots).for_each(|slot| ask(slot * 3));
    // The one that waited longest is in the middle.
    let waiting = [320, 350, 300, 330, 310];
    waiting.iter().for_each(|chunk| ask(*chunk));
    permits.add_permits(1000);
    drop(give);
    assert_eq!(take.iter().filter(|right| *right).count(), slots as usize + waiting.len());
    let asked = source.asked(image.packs[0]);
    assert_eq!(asked.len(), slots as usize + 1, "{asked:?}");
    assert!(asked.contains(&(image.frame(0, 300).start..image.frame(0, 350).end)), "{asked:?}");
    for range in asked {
        assert!(range.end - range.start <= limits::MAX_REQUEST);
    }
}

#[test]
fn a_reader_waits_for_a_frame_in_a_gap_that_is_coming_in() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open_joining(directory.path(), u64::MAX).image(image.manifest, vec![source.clone()]).unwrap();
    let permits = Arc::new(Semaphore::new(0));
    let (held, (told, asked)) = (Arc::clone(&permits), mpsc::channel());
    source.hook(move |_, _, bytes| {
        told.send(()).unwrap();
        Reply::After(Arc::clone(&held), bytes)
    });
    let (give, take) = mpsc::channel();
    for chunks in [&[2, 4][..], &[3]] {
        let (give, extents) = (give.clone(), extents(&image, chunks));
        opened.read(&extents, move |result| give.send(result.unwrap().to_vec()).unwrap());
        if chunks.len() == 2 {
            asked.recv().unwrap();
        }
    }
    permits.add_permits(1);
    let mut got: Vec<Vec<u8>> = take.iter().take(2).collect();
    got.sort_by_key(Vec::len);
    assert_eq!(got[0], image.expect(&image.chunk(0, 3)));
    assert_eq!(source.asked(image.packs[0]).len(), 1);
    // It was proven, so it is in the device too.
    opened.wait_idle();
    assert_eq!(opened.stats().chunks_verified, 3 + 1);
}
