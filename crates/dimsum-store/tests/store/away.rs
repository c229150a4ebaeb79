//! The registry goes away under an open image, and comes back.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use dimsum_source::ErrorKind;
use dimsum_store::{Extent, Image, ReadError, Store, StoreOptions, limits};
use tokio::sync::Semaphore;

use crate::common::{Reply, TestImage, TestSource, forget_devices, open, read};

fn image() -> TestImage {
    TestImage::incompressible(91, 3, &[&[4; 200]])
}

fn go_away(source: &TestSource, hangs: bool) {
    source.hook(move |_, _, _| if hangs { Reply::Hang } else { Reply::Away });
}

#[test]
fn what_is_local_is_read_while_every_slot_waits_for_a_registry_that_is_away() {
    for hangs in [true, false] {
        let (image, directory) = (image(), tempfile::tempdir().unwrap());
        let source = image.remote("registry");
        let first = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
        for chunk in 100..150 {
            read(&first, &image.chunk(0, chunk)).unwrap();
        }
        first.wait_idle();
        drop(first);
        // Frames only: their chunks have to be decoded while the rest waits.
        forget_devices(directory.path());
        let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
        go_away(&source, hangs);
        let (give, take) = mpsc::channel();
        // More than there are slots, and too far apart to be joined.
        for chunk in (0..100).chain(150..200).step_by(2) {
            let give = give.clone();
            opened.read(&[Extent::Flat { range: image.chunk(0, chunk) }], move |result| drop(give.send(result)));
        }
        for chunk in 100..150 {
            assert_eq!(read(&opened, &image.chunk(0, chunk)).unwrap(), image.expect(&image.chunk(0, chunk)));
        }
        assert!(take.try_recv().is_err(), "the others wait");
        if !hangs {
            source.behave();
            drop(give);
            assert_eq!(take.iter().filter(Result::is_ok).count(), 75, "and get their bytes when it is back");
        }
    }
}

#[test]
fn a_read_waits_for_a_registry_until_the_deadline_and_the_next_one_heals() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let options = StoreOptions { request_deadline: Duration::from_millis(300), ..StoreOptions::default() };
    let opened = Store::open(directory.path(), options).unwrap().image(image.manifest, vec![source.clone()]).unwrap();
    for hangs in [false, true] {
        go_away(&source, hangs);
        source.clear_log();
        let chunk = image.chunk(0, 7 + u32::from(hangs));
        let error = read(&opened, &chunk).err().unwrap();
        assert!(matches!(error, ReadError::Unavailable { .. } | ReadError::Deadline { .. }), "{error}");
        assert_ne!(error.kind(), ErrorKind::Integrity);
        let asked = source.asked(image.packs[0]).len();
        assert!(hangs || (2..20).contains(&asked), "asked again, and not in a loop: {asked}");
        source.behave();
        assert!(read(&opened, &chunk).unwrap() == image.expect(&chunk), "without a restart");
    }
}

#[test]
fn a_registry_that_is_back_before_the_deadline_costs_a_reader_only_time() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let left = AtomicU32::new(3);
    source.hook(move |_, _, bytes| {
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Reply::Away,
            Err(_) => Reply::Bytes(bytes),
        }
    });
    assert_eq!(read(&opened, &image.chunk(0, 0)).unwrap(), image.expect(&image.chunk(0, 0)));
    assert_eq!((opened.stats().read_errors, opened.stats().source_failures), (0, 3));
}

#[test]
fn a_source_that_failed_is_asked_last_for_a_while_and_never_refused() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (away, right) = (image.remote("away"), image.remote("right"));
    let opened = open(directory.path()).image(image.manifest, vec![away.clone(), right.clone()]).unwrap();
    away.clear_log();
    go_away(&away, false);
    for chunk in 0..20 {
        assert!(read(&opened, &image.chunk(0, chunk * 5)).is_ok());
    }
    assert!(away.requests() < 20, "{} requests", away.requests());
    assert!(limits::MAX_DEMOTION < Duration::from_secs(60));
    go_away(&right, false);
    away.behave();
    assert!(read(&opened, &image.chunk(0, 199)).is_ok());
}

/// Reads in the background.
fn read_later(opened: &Image, range: Range<u64>) -> mpsc::Receiver<Result<Vec<u8>, ReadError>> {
    let (give, take) = mpsc::channel();
    opened.read(&[Extent::Flat { range }], move |result| drop(give.send(result.map(|buf| buf.to_vec()))));
    take
}

#[test]
fn all_who_join_a_flight_while_its_source_fails_get_the_bytes_by_one_new_request() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let (permits, (told, asked)) = (Arc::new(Semaphore::new(0)), mpsc::channel());
    let held = Arc::clone(&permits);
    source.hook(move |_, _, _| {
        told.send(()).unwrap();
        // Too few bytes, which no wait mends.
        Reply::After(Arc::clone(&held), Bytes::from_static(b"?"))
    });
    source.clear_log();
    let chunk = image.chunk(0, 7);
    let early = read_later(&opened, chunk.clone());
    asked.recv().unwrap();
    permits.add_permits(1);
    // A bad answer is asked for once more; that is the last question of this request.
    asked.recv().unwrap();
    let late: Vec<_> = (0..20).map(|_| read_later(&opened, chunk.clone())).collect();
    source.behave();
    permits.add_permits(1);
    assert_eq!(early.recv().unwrap().unwrap_err().kind(), ErrorKind::Integrity, "it was there for all of it");
    for late in late {
        assert_eq!(late.recv().unwrap().unwrap(), image.expect(&chunk));
    }
    assert_eq!(source.asked(image.packs[0]).len(), 3, "two questions that failed, and one for all who came later");
    assert_eq!(opened.stats().read_errors, 1);
}

#[test]
fn a_reader_hears_of_an_outage_at_its_own_deadline_and_not_at_that_of_the_flight_it_joined() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let options = StoreOptions { request_deadline: Duration::from_secs(2), ..StoreOptions::default() };
    let opened = Store::open(directory.path(), options).unwrap().image(image.manifest, vec![source.clone()]).unwrap();
    let (told, asked) = mpsc::channel();
    source.hook(move |_, _, _| {
        told.send(()).unwrap();
        Reply::Away
    });
    let chunk = image.chunk(0, 7);
    let early = read_later(&opened, chunk.clone());
    // Pauses double: by the fifth question more than a third of the time is over.
    asked.iter().take(5).for_each(drop);
    let late = read_later(&opened, chunk.clone());
    assert!(matches!(early.recv().unwrap(), Err(ReadError::Unavailable { .. })));
    assert!(late.try_recv().is_err(), "its time is not over");
    source.behave();
    assert_eq!(late.recv().unwrap().unwrap(), image.expect(&chunk));
    assert_eq!(opened.stats().read_errors, 1);
}

#[test]
fn a_reader_of_a_source_that_stays_away_is_answered_however_many_join_behind_it() {
    for hangs in [false, true] {
        let (image, directory) = (image(), tempfile::tempdir().unwrap());
        let source = image.remote("registry");
        let options = StoreOptions { request_deadline: Duration::from_millis(200), ..StoreOptions::default() };
        let store = Store::open(directory.path(), options).unwrap();
        let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
        go_away(&source, hangs);
        let chunk = image.chunk(0, 7);
        // Each joins while the flight of the one before is under way.
        let readers = std::iter::repeat_with(|| read_later(&opened, chunk.clone()));
        let readers: Vec<_> = readers.take(200).collect();
        assert!(readers.iter().all(|reader| reader.recv().unwrap().is_err()));
        assert_eq!((store.usage().flights, opened.stats().read_errors), (0, 200));
    }
}
