//! One image opened many times: opened once, fetched once, with the sources of all.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use dimsum_source::Source;
use dimsum_store::{Extent, Image, Store, StoreError, limits};
use tokio::sync::Semaphore;

use crate::common::{Reply, TestImage, TestSource, open, open_joining, read};

fn image() -> TestImage {
    TestImage::incompressible(301, 40, &[&[16; 40], &[64; 10]])
}

/// Starts to read all data of an image; returns where each read says whether it was right.
fn start_reading(image: &TestImage, opened: &Image, said: &mpsc::Sender<bool>) -> usize {
    let (mut at, end, mut reads) = (image.meta_length, image.flat.len() as u64, 0);
    while at < end {
        let range = at..end.min(at + limits::MAX_READ);
        let (must, said) = (image.expect(&range).to_vec(), said.clone());
        (at, reads) = (range.end, reads + 1);
        opened.read(&[Extent::Flat { range }], move |result| {
            said.send(result.is_ok_and(|buf| buf.to_vec() == must)).unwrap();
        });
    }
    reads
}

/// Lets every answer of a source wait for a permit; returns where it tells of questions.
fn hold(source: &TestSource) -> (Arc<Semaphore>, mpsc::Receiver<()>) {
    let (permits, (told, asked)) = (Arc::new(Semaphore::new(0)), mpsc::channel());
    let held = Arc::clone(&permits);
    source.hook(move |_, _, bytes| {
        told.send(()).unwrap_or(());
        Reply::After(Arc::clone(&held), bytes)
    });
    (permits, asked)
}

#[test]
fn eight_openings_of_an_image_that_read_all_of_it_at_once_fetch_its_bytes_once() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open_joining(directory.path(), 0);
    let source = image.remote("registry");
    let openings: Vec<_> = (0..8).map(|_| store.image(image.manifest, vec![source.clone()]).unwrap()).collect();
    let (permits, _asked) = hold(&source);
    let (said, right) = mpsc::channel();
    let reads: usize = openings.iter().map(|opened| start_reading(&image, opened, &said)).sum();
    permits.add_permits(10_000);
    assert!(right.iter().take(reads).all(|right| right));
    for pack in &image.packs {
        let fetched: u64 = source.asked(*pack).iter().map(|range| range.end - range.start).sum();
        assert!(fetched <= image.blobs[pack].len() as u64, "{fetched} bytes of {} came", image.blobs[pack].len());
    }
}

#[test]
fn sixty_four_who_open_an_image_at_once_ask_for_its_parts_once() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (store, source) = (open(directory.path()), image.remote("registry"));
    let (permits, asked) = hold(&source);
    let all_have_it = Barrier::new(64);
    thread::scope(|scope| {
        let (started, starts) = mpsc::channel();
        let open = |started: mpsc::Sender<()>| {
            let (store, image, source, all_have_it) = (&store, &image, &source, &all_have_it);
            scope.spawn(move || {
                started.send(()).unwrap();
                let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
                all_have_it.wait();
                opened
            })
        };
        open(started.clone());
        // The first asks; the others come while it waits.
        asked.recv().unwrap();
        (1..64).for_each(|_| drop(open(started.clone())));
        assert_eq!(starts.iter().take(64).count(), 64);
        permits.add_permits(10_000);
    });
    for part in [image.manifest, image.config, image.meta] {
        assert_eq!(source.asked(part).len(), 1);
    }
}

/// What an opening gives.
type OpenedImage = Result<Arc<Image>, StoreError>;

/// Opens an image in the background while another opening asks `slow`, which is out of reach.
fn open_behind(
    image: &TestImage,
    store: &Store,
    sources: Vec<Arc<dyn Source>>,
) -> (OpenedImage, OpenedImage, Arc<TestSource>) {
    let slow = image.remote("slow");
    let (permits, (told, asked)) = (Arc::new(Semaphore::new(0)), mpsc::channel());
    let held = Arc::clone(&permits);
    slow.hook(move |_, _, _| {
        told.send(()).unwrap_or(());
        // Half an answer is none.
        Reply::After(Arc::clone(&held), bytes::Bytes::from_static(b"?"))
    });
    let sources = if sources.is_empty() { vec![slow.clone() as Arc<dyn Source>] } else { sources };
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| store.image(image.manifest, vec![slow.clone()]));
        asked.recv().unwrap();
        let (started, start) = mpsc::channel();
        let second = scope.spawn(move || {
            started.send(()).unwrap();
            store.image(image.manifest, sources)
        });
        start.recv().unwrap();
        permits.add_permits(10_000);
        (first.join().unwrap(), second.join().unwrap())
    });
    (first, second, slow)
}

#[test]
fn an_opening_that_fails_is_the_answer_for_all_and_the_next_one_tries_again() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    let (first, second, slow) = open_behind(&image, &store, Vec::new());
    assert!(first.is_err() && second.is_err());
    slow.behave();
    assert!(image.read_all(&store.image(image.manifest, vec![slow]).unwrap()).is_empty());
}

#[test]
fn who_waits_for_an_opening_that_fails_and_has_another_source_opens_the_image_from_it() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (first, second, _) = open_behind(&image, &open(directory.path()), vec![image.remote("right")]);
    assert!(first.is_err());
    assert!(image.read_all(&second.unwrap()).is_empty());
}

#[test]
fn an_open_image_asks_the_sources_of_all_who_opened_it_and_equal_ones_once() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (store, first) = (open(directory.path()), image.remote("first"));
    let opened = store.image(image.manifest, vec![first.clone()]).unwrap();
    first.hook(|_, _, _| Reply::Refuse);
    first.clear_log();
    let second = image.remote("second");
    for _ in 0..3 {
        let again = store.image(image.manifest, vec![second.clone()]).unwrap();
        assert!(Arc::ptr_eq(&opened, &again));
    }
    second.hook(|_, _, _| Reply::Refuse);
    assert!(read(&opened, &image.chunk(0, 0)).is_err());
    // The source that is asked first is asked once more at the end.
    assert_eq!(first.requests() + second.requests(), 3);
    second.behave();
    assert_eq!(read(&opened, &image.chunk(0, 0)).unwrap(), image.expect(&image.chunk(0, 0)));
}

#[test]
fn an_image_that_was_closed_is_opened_anew() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (store, source) = (open(directory.path()), image.remote("registry"));
    drop(store.image(image.manifest, vec![source.clone()]).unwrap());
    let opened = store.image(image.manifest, Vec::new()).unwrap();
    source.clear_log();
    assert!(read(&opened, &image.chunk(0, 0)).is_err(), "the sources of the first opening went with it");
}
