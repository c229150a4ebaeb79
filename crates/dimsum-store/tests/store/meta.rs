//! The gate of the meta: pending, flights, callbacks.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use dimsum_format::index::{IndexTail, MetaIndex, TAIL_BYTES};
use dimsum_format::map::FrameMap;
use dimsum_format::{MetaRoot, group};
use dimsum_store::{Extent, MetaError, ReadError};
use tokio::sync::Semaphore;

use crate::common::{Reply, TestImage, open, read};

/// Three frames of EROFS and one of maps.
fn big() -> TestImage {
    TestImage::new(41, 96, &[&[3, 5]])
}

#[test]
fn any_part_of_the_meta_is_read() {
    let (image, directory) = (big(), tempfile::tempdir().unwrap());
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    assert_eq!(opened.meta().length(), image.meta_length);
    for (start, end) in [(0, 1), (16_383, 16_385), (100, 200_000), (0, image.meta_length), (5, 5)] {
        let mut bytes = vec![0xAA; (end - start) as usize];
        opened.meta().read_at(start, &mut bytes).unwrap();
        assert_eq!(bytes, image.expect(&(start..end)));
    }
    let past = opened.meta().read_at(image.meta_length - 1, &mut [0; 2]);
    assert!(matches!(past, Err(MetaError::OutOfRange { .. })));
    assert!(matches!(opened.meta().read_at(u64::MAX, &mut [0; 2]), Err(MetaError::OutOfRange { .. })));
}

#[test]
fn a_damaged_group_is_pending_until_its_flight_calls_from_another_thread() {
    let (image, directory) = (big(), tempfile::tempdir().unwrap());
    let (store, source) = (open(directory.path()), image.source("test"));
    drop(store.image(image.manifest, vec![source.clone()]).unwrap());
    let path = directory.path().join("images").join(image.manifest.hex()).join("meta");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40_000] ^= 4;
    fs::write(&path, bytes).unwrap();

    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    source.clear_log();
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    source.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    let mut buf = [0; 8];
    let pending = opened.meta().read_at(39_996, &mut buf);
    assert!(matches!(pending, Err(MetaError::Pending { group: 2 })));
    let (give, take) = mpsc::channel();
    for _ in 0..10 {
        let give = give.clone();
        opened
            .meta()
            .when_ready(2, Box::new(move |result| give.send((thread::current().id(), result.is_ok())).unwrap()));
    }
    assert!(take.try_recv().is_err(), "nothing can be ready yet");
    permits.add_permits(1);
    drop(give);
    let calls: Vec<_> = take.iter().collect();
    assert_eq!(calls.len(), 10);
    assert!(calls.iter().all(|(id, right)| *right && *id != thread::current().id()));
    opened.meta().read_at(39_996, &mut buf).unwrap();
    assert_eq!(buf, image.expect(&(39_996..40_004)));
    assert_eq!((source.asked(image.meta).len(), opened.stats().damage), (1, 1));
    // A group that is there calls too, and elsewhere.
    let (give, take) = mpsc::channel();
    opened.meta().when_ready(0, Box::new(move |result| give.send((thread::current().id(), result.is_ok())).unwrap()));
    assert!(matches!(take.recv().unwrap(), (id, true) if id != thread::current().id()));
}

#[test]
fn a_group_that_nobody_has_is_an_error_to_its_waiters() {
    let (image, directory) = (big(), tempfile::tempdir().unwrap());
    let (store, source) = (open(directory.path()), image.source("test"));
    drop(store.image(image.manifest, vec![source]).unwrap());
    let path = directory.path().join("images").join(image.manifest.hex()).join("meta");
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    let opened = store.image(image.manifest, Vec::new()).unwrap();
    assert!(matches!(opened.meta().read_at(0, &mut [0; 4]), Err(MetaError::Pending { group: 0 })));
    let (give, take) = mpsc::channel();
    opened.meta().when_ready(0, Box::new(move |result| give.send(result).unwrap()));
    assert!(matches!(take.recv().unwrap(), Err(ReadError::Unavailable { .. })));
    assert!(opened.meta().read_blocking(0, &mut [0; 4]).is_err());
    assert!(read(&opened, &(0..4)).is_err());
    assert!(opened.read_blocking(&[Extent::Flat { range: 16 << 10..32 << 10 }]).is_ok());
}

#[test]
fn false_frame_lengths_in_a_stored_index_cost_a_fetch_only() {
    let (image, directory) = (big(), tempfile::tempdir().unwrap());
    let (store, source) = (open(directory.path()), image.source("test"));
    drop(store.image(image.manifest, vec![source.clone()]).unwrap());
    let directory = directory.path().join("images").join(image.manifest.hex());
    fs::remove_file(directory.join("meta")).unwrap();

    // The lengths of two frames change places: everything in the index is still consistent.
    let right = fs::read(directory.join("index")).unwrap();
    let meta = &image.flat[..image.meta_length as usize];
    let root = MetaRoot::new(*dimsum_format::Blake3::of(meta).as_bytes());
    let size = image.blobs[&image.meta].len() as u64;
    let index = MetaIndex::parse(&right, size, root).unwrap();
    let mut lengths: Vec<u32> =
        (0..4).map(|frame| index.frames.frame(frame).map(|range| (range.end - range.start) as u32).unwrap()).collect();
    lengths.swap(0, 3);
    let mut frames = FrameMap::default();
    for length in lengths {
        frames.push(length).unwrap();
    }
    let forged = MetaIndex::to_bytes(&frames, &group::chaining_values(meta), image.meta_length).unwrap();
    assert!(MetaIndex::parse(&forged, size, root).is_ok());
    assert!(IndexTail::parse(&forged[forged.len() - TAIL_BYTES..]).is_ok());
    fs::write(directory.join("index"), &forged).unwrap();

    let opened = store.image(image.manifest, vec![source]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(fs::read(directory.join("index")).unwrap(), right);
}
