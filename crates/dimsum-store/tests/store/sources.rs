//! Sources that lie, break off, hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dimsum_format::BLOCK;
use dimsum_source::{ErrorKind, Source};
use dimsum_store::{FailureReason, ReadError, ReadObject, Store, StoreOptions};
use parking_lot::Mutex;

use crate::common::{Reply, TestImage, TestSource, open, read};

fn small() -> TestImage {
    TestImage::new(11, 20, &[&[64, 3, 1, 70, 5], &[9]])
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.into()
}

/// Lies about packs; the meta is right, so that the image opens.
fn lie_about_packs(image: &TestImage, source: &TestSource, times: u32) {
    let (packs, left) = (image.packs.clone(), AtomicU32::new(times));
    source.hook(move |blob, _, bytes| {
        let lie = packs.contains(&blob)
            && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        Reply::Bytes(if lie { flipped(&bytes) } else { bytes })
    });
}

#[test]
fn a_source_that_lies_once_is_asked_again() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let source = image.source("test");
    lie_about_packs(&image, &source, 1);
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let range = image.chunk(0, 0);
    assert_eq!(read(&opened, &range).unwrap(), image.expect(&range));
    let stats = opened.stats();
    assert_eq!((stats.source_failures, stats.read_errors, source.asked(image.packs[0]).len()), (1, 0, 2));
}

#[test]
fn a_source_that_always_lies_costs_only_the_next_one_a_request() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let (liar, right) = (image.source("liar"), image.source("right"));
    lie_about_packs(&image, &liar, u32::MAX);
    let opened = open(directory.path()).image(image.manifest, vec![liar, right]).unwrap();
    assert!(image.read_all(&opened).is_empty());
}

#[test]
fn when_all_sources_lie_the_error_names_chunk_sources_and_why() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let (first, second) = (image.source("first"), image.source("second"));
    lie_about_packs(&image, &first, u32::MAX);
    lie_about_packs(&image, &second, u32::MAX);
    let opened = open(directory.path()).image(image.manifest, vec![first, second]).unwrap();
    let error = read(&opened, &image.chunk(0, 3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let ReadError::Unavailable { object, failures } = &error else { panic!("{error}") };
    assert_eq!(*object, ReadObject::Chunk { device: image.maps[0].0.id(), chunk: 3 });
    let names: Vec<&str> = failures.iter().map(|failure| failure.source_name.as_str()).collect();
    assert_eq!(names, ["first", "second", "first"], "the origin is asked once more before the error");
    assert_eq!(opened.stats().read_errors, 1);
}

#[test]
fn a_forged_pack_with_everything_right_but_the_digest_is_refused() {
    let shape: &[&[u32]] = &[&[20, 5, 5]];
    let (image, forged) = (TestImage::incompressible(1, 3, shape), TestImage::incompressible(2, 3, shape));
    assert_eq!(image.maps[0].1, forged.maps[0].1, "the same frame lengths");
    let (source, directory) = (image.source("test"), tempfile::tempdir().unwrap());
    let pack = forged.blobs[&forged.packs[0]].clone();
    source.blobs.lock().insert(image.packs[0], pack);
    let store = open(directory.path());
    let opened = store.image(image.manifest, vec![source]).unwrap();
    for chunk in 0..3 {
        let error = read(&opened, &image.chunk(0, chunk)).unwrap_err();
        let ReadError::Unavailable { failures, .. } = &error else { panic!("{error}") };
        assert!(failures.iter().all(|failure| matches!(failure.reason, FailureReason::Digest { .. })), "{error}");
    }
    assert!(read(&store.image(image.manifest, vec![image.source("right")]).unwrap(), &image.chunk(0, 0)).is_ok());
}

#[test]
fn of_a_truncated_blob_the_chunks_before_the_cut_are_read() {
    for refuses in [true, false] {
        let (image, directory) = (small(), tempfile::tempdir().unwrap());
        let source = image.source("test");
        let cut = image.maps[0].1.frame(3).unwrap().start + 100;
        let (pack, whole) = (image.packs[0], image.blobs[&image.packs[0]].clone());
        if refuses {
            source.blobs.lock().insert(pack, whole.slice(..cut as usize));
        } else {
            // As a server that closes the connection early.
            source.hook(move |blob, range, bytes| {
                let left = if blob == pack { cut.saturating_sub(range.start) } else { u64::MAX };
                Reply::Bytes(bytes.slice(..bytes.len().min(left as usize)))
            });
        }
        let opened = open(directory.path()).image(image.manifest, vec![source]).unwrap();
        let all = image.chunk(0, 0).start..image.chunk(0, 4).end;
        assert!(read(&opened, &all).is_err());
        for chunk in 0..3 {
            let range = image.chunk(0, chunk);
            assert_eq!(read(&opened, &range).unwrap(), image.expect(&range));
        }
        assert!(read(&opened, &image.chunk(0, 3)).is_err());
    }
}

#[test]
fn frames_that_decode_to_another_length_are_refused() {
    let image = small();
    let directory = tempfile::tempdir().unwrap();
    let source = image.source("test");
    // A frame of one block in the place of chunk 0, padded to its length.
    let bomb = image.maps[0].1.frame(2).unwrap();
    let bomb = image.blobs[&image.packs[0]].slice(bomb.start as usize..bomb.end as usize);
    let pack = image.packs[0];
    source.hook(move |blob, _, bytes| {
        let mut answer = bytes.to_vec();
        if blob == pack && answer.len() >= bomb.len() {
            answer[..bomb.len()].copy_from_slice(&bomb);
        }
        Reply::Bytes(answer.into())
    });
    let opened = open(directory.path()).image(image.manifest, vec![source]).unwrap();
    let error = read(&opened, &image.chunk(0, 0)).unwrap_err();
    let ReadError::Unavailable { failures, .. } = &error else { panic!("{error}") };
    assert!(failures.iter().all(|failure| matches!(failure.reason, FailureReason::Frame(_))), "{error}");
}

#[test]
fn after_the_deadline_the_next_source_is_asked() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let (hung, right) = (image.source("hung"), image.source("right"));
    let packs = image.packs.clone();
    hung.hook(move |blob, _, bytes| if packs.contains(&blob) { Reply::Hang } else { Reply::Bytes(bytes) });
    let options = StoreOptions { request_deadline: Duration::from_millis(20), ..StoreOptions::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let opened = store.image(image.manifest, vec![hung.clone(), right]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert!(!hung.asked(image.packs[0]).is_empty());
}

#[test]
fn when_nobody_answers_the_error_is_the_deadline_for_queued_reads_too() {
    let chunks = [1; 200];
    let image = TestImage::new(5, 3, &[&chunks]);
    let directory = tempfile::tempdir().unwrap();
    let hung = image.source("hung");
    let pack = image.packs[0];
    hung.hook(move |blob, _, bytes| if blob == pack { Reply::Hang } else { Reply::Bytes(bytes) });
    let options = StoreOptions { request_deadline: Duration::from_millis(20), ..StoreOptions::default() };
    let opened = Store::open(directory.path(), options).unwrap().image(image.manifest, vec![hung]).unwrap();
    let results = Arc::new(Mutex::new(Vec::new()));
    let (give, take) = std::sync::mpsc::channel();
    // Every second chunk, so that nothing is joined.
    for chunk in (0..200).step_by(2) {
        let (give, results) = (give.clone(), Arc::clone(&results));
        let extents = [dimsum_store::Extent::Flat { range: image.chunk(0, chunk) }];
        opened.read(&extents, move |result| {
            results.lock().push(result.map(drop));
            give.send(()).unwrap();
        });
    }
    drop(give);
    assert_eq!(take.iter().count(), 100);
    for result in &*results.lock() {
        let Err(ReadError::Deadline { source_name, .. }) = result else { panic!("{result:?}") };
        assert_eq!(source_name, "hung");
    }
}

#[test]
fn a_source_that_panics_fails_its_reads_and_nothing_else() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let source = image.source("test");
    let pack = image.packs[0];
    source.hook(move |blob, _, bytes| {
        if blob == pack {
            std::panic::resume_unwind(Box::new("a broken source"));
        }
        Reply::Bytes(bytes)
    });
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    for _ in 0..40 {
        assert!(read(&opened, &image.chunk(0, 2)).is_err());
    }
    source.behave();
    assert!(image.read_all(&opened).is_empty());
}

#[test]
fn refusals_are_errors_that_carry_the_sources_own_word() {
    let (image, directory) = (small(), tempfile::tempdir().unwrap());
    let source = image.source("test");
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    source.hook(|_, _, _| Reply::Refuse);
    let error = read(&opened, &image.chunk(1, 0)).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("has no bytes"), "{error}");
}

#[test]
fn images_with_one_pack_digest_and_different_maps_do_not_disturb_each_other() {
    let shape: &[&[u32]] = &[&[20, 5, 5]];
    let (honest, mut other) = (TestImage::incompressible(1, 3, shape), TestImage::incompressible(2, 3, shape));
    let pack_of_other = other.blobs[&other.packs[0]].clone();
    let data = other.flat.split_off(other.meta_length as usize);
    let maps = vec![(other.maps[0].0.clone(), honest.maps[0].1.clone())];
    let mut blobs = other.blobs.clone();
    blobs.insert(honest.packs[0], honest.blobs[&honest.packs[0]].clone());
    let thief = TestImage::assemble(&mut crate::common::Random(3), 3, blobs, vec![honest.packs[0]], maps, data.clone());
    assert_eq!(data.len(), 30 * BLOCK);

    for thief_first in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        // The thief's own source serves what its map says under the honest pack's name.
        let own = thief.source("own");
        own.blobs.lock().insert(honest.packs[0], pack_of_other.clone());
        let honest_image = store.image(honest.manifest, vec![honest.source("origin")]).unwrap();
        let robbed = store.image(thief.manifest, vec![thief.source("origin")]).unwrap();
        let thieves = || {
            assert_eq!(thief.read_all(&robbed).len(), 1, "the pack does not have the bytes that the map names");
            // Opened once more, the image asks this source too.
            let fed = store.image(thief.manifest, vec![own.clone() as Arc<dyn Source>]).unwrap();
            assert!(thief.read_all(&fed).is_empty());
            assert!(thief.read_all(&robbed).is_empty(), "by now they are on the node");
        };
        if thief_first {
            thieves();
        }
        assert!(honest.read_all(&honest_image).is_empty());
        if !thief_first {
            thieves();
        }
        assert!(honest.read_all(&honest_image).is_empty());
        assert!(!store.check(None, &mut |_| {}).is_damaged());
    }
}

#[test]
fn images_share_the_devices_they_have_in_common() {
    let first = TestImage::new(21, 4, &[&[10, 20]]);
    let data = first.flat[first.meta_length as usize..].to_vec();
    let (blobs, maps) = (first.blobs.clone(), first.maps.clone());
    let second = TestImage::assemble(&mut crate::common::Random(9), 8, blobs, first.packs.clone(), maps, data);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (source, other) = (first.source("first"), second.source("second"));
    let opened = store.image(first.manifest, vec![source]).unwrap();
    let also = store.image(second.manifest, vec![other.clone()]).unwrap();
    assert!(first.read_all(&opened).is_empty());
    assert!(second.read_all(&also).is_empty());
    assert!(other.asked(second.packs[0]).is_empty(), "what the first fetched serves the second");
}
