//! The registry goes away under an open image, and comes back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use dimsum_store::{Extent, ReadError, Store, StoreOptions, limits};

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
        assert!(!error.is_integrity());
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
