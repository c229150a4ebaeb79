//! The contract of [`Source`], [`Place`] and [`Target`] as tests that every implementation passes.
//!
//! A test of a back end makes an image in it, and calls [`check_place`] and [`check_target`]. A back end that has no
//! names calls [`check_source`], [`check_empty_blob`] and [`check_blob_target`]. Each assertion names the promise that was
//! broken. What only some back ends do (tags, referrers, mounting) is checked where they say they do it.

use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;

use dimsum_format::manifest::{Blob, Descriptor, Manifest};
use dimsum_format::{Digest, media};
use dimsum_source::{Document, Place, Role, Runtime, Shape, Source, SourceFault, Target};
use serde_json::json;

use crate::images::{descriptor, noise};
use crate::memory::Memory;

/// Longer than what any back end moves at once.
const LARGE: usize = 5_000_000;

/// Writers of one blob at the same time.
const WRITERS: usize = 4;

/// Checks a place whose reference names one image, of which `layer` is a layer that is stored as it is.
///
/// # Panics
/// If a promise is broken.
pub fn check_place(place: &dyn Place, layer: &[u8]) {
    check_source(place, layer);
    let root = place.root().expect("the name stands for something");
    assert_eq!(Digest::of(&root.bytes), root.descriptor.digest, "a root has the digest of its descriptor");
    assert_eq!(root.bytes.len() as u64, root.descriptor.size, "a root has the size of its descriptor");
    let again = place.read_manifest(root.descriptor.digest).expect("a root is read by its digest too");
    assert_eq!(again, root.bytes, "a manifest read by its digest is the same");
    let manifest = Manifest::parse(&root.bytes).expect("the image is a single one");
    let config = &manifest.config;
    let small = place.read_small("config", config.digest, config.size).expect("a blob at its limit is read");
    assert_eq!(Digest::of(&small), config.digest);
    let large = place.read_small("config", config.digest, config.size - 1);
    assert!(
        matches!(crate::fault(&large), Some(SourceFault::TooLarge { .. })),
        "a blob above its limit is refused: {large:?}"
    );
    let absent = place.read_manifest(Digest::of(b"no such manifest"));
    assert!(
        matches!(crate::fault(&absent), Some(SourceFault::NotFound { .. })),
        "an unknown manifest is not found: {absent:?}"
    );
    let referrers = place.referrers(Digest::of(b"no such manifest"), None);
    assert_eq!(referrers.expect("a list can be asked for"), [], "nothing refers to what is not there");
}

/// Checks a source that has `blob` and not the empty blob.
///
/// # Panics
/// If a promise is broken.
pub fn check_source(source: &dyn Source, blob: &[u8]) {
    let runtime = Runtime::start().unwrap();
    let (digest, length) = (Digest::of(blob), blob.len() as u64);
    let unknown = Digest::of(b"a blob that nobody has");
    assert!(length > 1000, "the blob has several pieces");
    assert_eq!(source.size(digest).unwrap(), Some(length), "a source knows how long a blob is");
    assert_eq!(source.size(unknown).unwrap(), None, "an unknown blob has no length");

    let read = |range| runtime.handle().block_on(source.read_range(digest, range));
    for range in [0..length, 0..1, 7..900, length - 1..length] {
        let wanted = &blob[range.start as usize..range.end as usize];
        assert_eq!(read(range.clone()).unwrap(), wanted, "a range is exact: {range:?}");
        assert_eq!(source.read_piece(digest, range.clone()).unwrap(), wanted, "a piece is exact: {range:?}");
    }
    for start in [0, 1, length / 2] {
        assert_eq!(read(start..start).expect("an empty range is read"), "", "an empty range is empty");
        assert_eq!(source.read_piece(digest, start..start).expect("an empty piece is read"), "");
    }
    for (start, end) in [(0, length + 1), (length - 1, length + 1), (length, length + 1), (length + 5, length + 9)] {
        assert!(read(start..end).is_err(), "a range behind the end is refused, and not cut: {start}..{end}");
        let piece = source.read_piece(digest, start..end);
        assert!(piece.is_err(), "a piece behind the end is refused, and not cut: {start}..{end}");
    }
    // No memory is taken for what a wrong map may ask for.
    assert!(read(0..u64::MAX).is_err() && read(7..1 << 62).is_err(), "a range beyond all memory is refused");
    let absent = runtime.handle().block_on(source.read_range(unknown, 0..4));
    assert!(
        matches!(crate::fault(&absent), Some(SourceFault::NotFound { .. })),
        "a range of an unknown blob: {absent:?}"
    );

    check_streams(&runtime, source, blob);
    let mut whole = Vec::new();
    source.open(digest).unwrap().read_to_end(&mut whole).unwrap();
    assert_eq!(whole, blob, "a blob that is opened is read from its start");
    for start in [1, length / 2, length] {
        let mut rest = Vec::new();
        source.open_at(digest, start).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, &blob[start as usize..], "a blob is read from byte {start}");
    }
    assert!(source.open_at(digest, length + 1).is_err(), "nothing is opened behind the end");
    assert!(
        matches!(crate::fault(&source.open(unknown)), Some(SourceFault::NotFound { .. })),
        "an unknown blob is not opened"
    );
}

fn check_streams(runtime: &Runtime, source: &dyn Source, blob: &[u8]) {
    use futures_util::StreamExt as _;
    let digest = Digest::of(blob);
    let (start, end) = (3, blob.len() as u64 - 2);
    let collected = runtime.handle().block_on(async {
        let mut stream = source.stream_range(digest, start..end);
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    });
    assert_eq!(collected, &blob[start as usize..end as usize], "a stream gives the range and ends");
    runtime.handle().block_on(async {
        let mut stream = source.stream_range(digest, 0..blob.len() as u64);
        assert!(stream.next().await.unwrap().is_ok());
        drop(stream);
    });
    let after = runtime.handle().block_on(source.read_range(digest, 0..2)).unwrap();
    assert_eq!(after, &blob[..2], "a stream that is dropped leaves the source as it was");
}

/// Checks a target whose reference names an image, and stores one there. `open` opens the same reference for reading.
///
/// # Panics
/// If a promise is broken.
pub fn check_target(target: &dyn Target, open: &dyn Fn() -> std::sync::Arc<dyn Place>) {
    target.check_writable().unwrap();
    check_blob_target(target);
    let (root, layer) = put_image(target, Role::Root);
    let place = open();
    let found = place.root().expect("the root is what the name stands for now");
    if place.size(root.digest).ok().flatten().is_some() || found.descriptor.digest == root.digest {
        assert_eq!(found.descriptor.digest, root.digest, "the root is what was stored");
    }
    let wanted = Blob { digest: Digest::of(&layer), size: layer.len() as u64 };
    assert_eq!(place.size(wanted.digest).unwrap(), Some(wanted.size), "the layer of the image is there");
    if let Some(place) = target.place() {
        check_empty_blob(place);
        check_tags(target);
        check_referrers(target, place, &root);
    }
}

/// Checks the part of [`check_target`] that is about blobs: for targets that no reference names.
///
/// # Panics
/// If a promise is broken.
pub fn check_blob_target(target: &dyn Target) {
    check_blobs(target);
    check_copies(target);
    check_writers_at_once(target);
    crate::images::put(target, b"");
    assert!(target.has(Digest::of(b""), 0).unwrap(), "a blob of no bytes is there");
}

/// Checks a source that has the empty blob.
///
/// # Panics
/// If a promise is broken.
pub fn check_empty_blob(source: &dyn Source) {
    let (runtime, digest) = (Runtime::start().unwrap(), Digest::of(b""));
    assert_eq!(source.size(digest).unwrap(), Some(0), "a blob of no bytes has a length");
    let mut bytes = Vec::new();
    source.open(digest).expect("a blob of no bytes is opened").read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"", "a blob of no bytes is empty");
    assert_eq!(source.read_small("config", digest, 0).expect("it is below every limit"), b"");
    let read = |range| runtime.handle().block_on(source.read_range(digest, range));
    assert_eq!(read(0..0).expect("all of an empty blob is read"), "");
    assert!(read(0..1).is_err(), "it has no first byte");
}

/// Several who bring the same blob at the same time: all of them succeed, and the blob is there once and whole.
fn check_writers_at_once(target: &dyn Target) {
    let bytes = noise(400_000, 24);
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    let all_are_writing = std::sync::Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                let mut blob = target.start_blob().unwrap();
                let (first, rest) = bytes.split_at(bytes.len() / 2);
                blob.write_all(first).unwrap();
                all_are_writing.wait();
                blob.write_all(rest).unwrap();
                blob.commit(digest, size, &go_on).expect("a blob is committed, whoever else commits it");
            });
        }
    });
    assert!(target.has(digest, size).unwrap(), "a blob that several brought is there");
    let Some(place) = target.place() else { return };
    let mut read = Vec::new();
    place.open(digest).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == bytes, "a blob that several brought is whole");
}

fn go_on(_bytes: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn check_blobs(target: &dyn Target) {
    let bytes = noise(300_000, 21);
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    assert!(!target.has(digest, size).unwrap(), "an unknown blob is not there");
    let mut dropped = target.start_blob().unwrap();
    dropped.write_all(&bytes).unwrap();
    drop(dropped);
    assert!(!target.has(digest, size).unwrap(), "a blob that is not committed is not there");
    let mut short = target.start_blob().unwrap();
    short.write_all(&bytes[..10]).unwrap();
    assert!(short.commit(digest, size, &go_on).is_err(), "a commit of another length is refused");
    assert!(!target.has(digest, size).unwrap(), "a refused commit leaves nothing");
    for _ in 0..2 {
        let mut blob = target.start_blob().unwrap();
        bytes.chunks(70_000).for_each(|piece| blob.write_all(piece).unwrap());
        blob.commit(digest, size, &go_on).expect("a blob is committed, also when it is there already");
        assert!(target.has(digest, size).unwrap(), "a committed blob is there");
    }
    assert!(!target.has(digest, size + 1).unwrap(), "a blob of another length is not there");
}

fn check_copies(target: &dyn Target) {
    let from = Memory::default().tag("source", "v1");
    let bytes = noise(LARGE, 22);
    let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
    let absent = target.copy_blob(blob, &from, &go_on);
    assert!(absent.is_err(), "a blob that the source does not have is not copied");
    let mut wrong = bytes.clone();
    wrong[LARGE / 2] ^= 1;
    from.forge(blob.digest, &wrong);
    assert!(target.copy_blob(blob, &from, &go_on).is_err(), "wrong bytes are refused");
    assert!(!target.has(blob.digest, blob.size).unwrap(), "wrong bytes leave no blob");
    from.forge(blob.digest, &bytes);
    let cancelled = target.copy_blob(blob, &from, &|_| ControlFlow::Break(()));
    assert!(matches!(crate::fault(&cancelled), Some(SourceFault::Cancelled)), "a copy is cancelled: {cancelled:?}");
    assert!(!target.has(blob.digest, blob.size).unwrap(), "a cancelled copy leaves no blob");
    let too_long = Blob { size: blob.size - 1, ..blob };
    assert!(target.copy_blob(too_long, &from, &go_on).is_err(), "a blob of another length is refused");
    target.copy_blob(blob, &from, &go_on).expect("a copy succeeds after all that");
    assert!(target.has(blob.digest, blob.size).unwrap(), "a copied blob is there");
}

/// Stores an image of one plain layer, and returns its manifest and the layer.
fn put_image(target: &dyn Target, role: Role) -> (Descriptor, Vec<u8>) {
    let layer = crate::images::layer_tar(&noise(20_000, 23));
    let diff_ids = [Digest::of(&layer).to_string()];
    let config =
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = serde_json::to_vec(&config).unwrap();
    crate::images::put(target, &layer);
    crate::images::put(target, &config);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: None,
        subject: None,
        config: descriptor(media::CONFIG, &config),
        layers: vec![descriptor(media::LAYER_TAR, &layer)],
        annotations: Default::default(),
    };
    let bytes = manifest.to_bytes();
    let document = Document::new(Digest::of(&bytes), bytes.clone()).unwrap();
    assert_eq!(target.refuses(Shape::of(&document)), None, "an ordinary image is accepted");
    let digest = target.put_manifest(media::MANIFEST, &bytes, role).unwrap();
    assert_eq!(digest, Digest::of(&bytes), "a manifest is stored under its digest");
    (descriptor(media::MANIFEST, &bytes), layer)
}

fn check_tags(target: &dyn Target) {
    assert!(target.read_tag("no-such-tag").unwrap().is_none(), "an unknown tag is not there");
    let (root, _) = put_image(target, Role::Part);
    let place = target.place().unwrap();
    let bytes = place.read_manifest(root.digest).expect("a part is read by its digest");
    if target.put_tag("another", media::MANIFEST, &bytes).unwrap() {
        let tagged = target.read_tag("another").unwrap().expect("the tag is there");
        assert_eq!(tagged.descriptor.digest, root.digest, "the tag stands for what was stored");
    }
}

fn check_referrers(target: &dyn Target, place: &dyn Place, subject: &Descriptor) {
    let manifest = |subject: Option<Descriptor>| {
        let empty = descriptor(media::EMPTY, b"{}");
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.to_owned()),
            artifact_type: Some("application/vnd.example.note".to_owned()),
            subject,
            config: empty.clone(),
            layers: vec![empty],
            annotations: Default::default(),
        };
        manifest.to_bytes()
    };
    if target.refuses_referrers().is_some() {
        assert!(target.put_referrer(&manifest(Some(subject.clone()))).is_err(), "what is refused is not stored");
        return;
    }
    crate::images::put(target, b"{}");
    assert!(target.put_referrer(&manifest(None)).is_err(), "a manifest without a subject refers to nothing");
    let stored = target.put_referrer(&manifest(Some(subject.clone()))).unwrap();
    let of = |kind| place.referrers(subject.digest, kind).unwrap().into_iter().map(|entry| entry.digest);
    assert_eq!(of(None).collect::<Vec<_>>(), [stored], "a referrer is listed, once");
    assert_eq!(of(Some("application/vnd.example.note")).count(), 1, "it is listed by its type");
    assert_eq!(of(Some("application/vnd.example.other")).count(), 0, "and by no other type");
}
