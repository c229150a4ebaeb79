//! Equal chunks of other devices: not fetched, and never believed.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use dimsum_format::map::DeviceMap;
use dimsum_format::{Blake3, Digest};
use dimsum_source::Target as _;
use dimsum_store::{Image, Store};
use proptest::prelude::*;

use crate::common::{
    Random, TestImage, TestSource, files, files_named, forget_devices, open, open_alone, open_joining, put, read,
};

/// Contents 2, 3 and 4 are in both images, in other places of other devices.
const FIRST: &[&[(u64, u32)]] = &[&[(1, 64), (2, 40), (3, 64), (4, 7)], &[(5, 1)]];
const SECOND: &[&[(u64, u32)]] = &[&[(9, 64), (2, 40), (4, 7), (8, 30)], &[(3, 64)]];
/// Chunks of the second image that the first has, by device and number, and those that it has not.
const SHARED: [(usize, u32); 3] = [(0, 1), (0, 2), (1, 0)];
const NEW: [(usize, u32); 2] = [(0, 0), (0, 3)];

fn pair() -> (TestImage, TestImage) {
    (TestImage::of_chunks(1, 1, FIRST), TestImage::of_chunks(2, 1, SECOND))
}

/// Opens an image in a store that bridges nothing, with a registry that counts.
fn open_apart(directory: &Path, image: &TestImage) -> (Arc<Image>, Arc<TestSource>) {
    let source = image.remote("registry");
    (open_joining(directory, 0).image(image.manifest, vec![source.clone()]).unwrap(), source)
}

/// Ranges of packs that a source was asked for, in order.
fn asked(image: &TestImage, source: &TestSource) -> Vec<(usize, Range<u64>)> {
    let packs = image.packs.iter().enumerate();
    let mut asked: Vec<_> =
        packs.flat_map(|(device, pack)| source.asked(*pack).into_iter().map(move |range| (device, range))).collect();
    asked.sort_by_key(|(device, range)| (*device, range.start));
    asked
}

fn frames(image: &TestImage, chunks: &[(usize, u32)]) -> Vec<(usize, Range<u64>)> {
    chunks.iter().map(|(device, chunk)| (*device, image.frame(*device, *chunk))).collect()
}

fn length(frames: &[(usize, Range<u64>)]) -> u64 {
    frames.iter().map(|(_, range)| range.end - range.start).sum()
}

fn digests(image: &TestImage) -> Vec<Blake3> {
    let of = |map: &DeviceMap| (0..map.chunks() as u32).map(|chunk| map.digest(chunk).unwrap()).collect::<Vec<_>>();
    image.maps.iter().flat_map(|(map, _)| of(map)).collect()
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// The file with the decoded bytes of a device.
fn data(store: &Path, image: &TestImage, device: usize) -> PathBuf {
    let id = image.maps[device].0.id().hex();
    store.join("devices").join(&id[..2]).join(id).join("data")
}

/// The sparse file of a pack.
fn sparse(store: &Path, pack: Digest) -> PathBuf {
    let is = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&pack.hex());
    files_named(store, "packs").into_iter().find(is).unwrap()
}

/// Takes away everything that the store has of the devices and packs of an image.
fn evict(store: &Path, image: &TestImage) {
    for (device, pack) in image.packs.iter().enumerate() {
        // Others may be at it too.
        drop(fs::remove_dir_all(data(store, image, device).parent().unwrap()));
        for path in files_named(store, "packs") {
            if path.file_name().unwrap().to_str().unwrap().starts_with(&pack.hex()) {
                drop(fs::remove_file(path));
            }
        }
    }
}

#[test]
fn chunks_that_another_image_has_are_not_fetched() {
    for (decoded, same_process) in [(true, true), (true, false), (false, true), (false, false)] {
        let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
        let store = open_joining(directory.path(), 0);
        let before = store.image(first.manifest, vec![first.remote("first")]).unwrap();
        if decoded {
            assert!(first.read_all(&before).is_empty());
        } else {
            before.fill(|_| {}).wait().unwrap();
        }
        let source = second.remote("second");
        let store = if same_process {
            store
        } else {
            drop((before, store));
            drop(open_alone(directory.path()));
            open_joining(directory.path(), 0)
        };
        let opened = store.image(second.manifest, vec![source.clone()]).unwrap();
        assert!(second.read_all(&opened).is_empty());
        assert_eq!(asked(&second, &source), frames(&second, &NEW), "decoded {decoded}, same process {same_process}");
        let (stats, shared) = (opened.stats(), frames(&second, &SHARED));
        assert_eq!((stats.chunks_shared, stats.bytes_shared), (3, length(&shared)));
        assert_eq!((stats.local_requests, stats.source_failures, stats.damage), (0, 0, 0));
        // It has them itself now.
        evict(directory.path(), &first);
        let alone = open(directory.path()).image(second.manifest, Vec::new()).unwrap();
        assert!(second.read_all(&alone).is_empty());
        assert_eq!(alone.stats().chunks_shared, 0);
    }
}

#[test]
fn a_chunk_that_the_other_image_never_read_is_fetched() {
    let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
    let (before, _) = open_apart(directory.path(), &first);
    read(&before, &first.chunk(0, 1)).unwrap();
    before.wait_idle();
    let (opened, source) = open_apart(directory.path(), &second);
    assert!(second.read_all(&opened).is_empty());
    // The second image's first chunk and its third to last, which are next to each other.
    let last = second.frame(0, 2).start..second.frame(0, 3).end;
    assert_eq!(asked(&second, &source), [(0, second.frame(0, 0)), (0, last), (1, second.frame(1, 0))]);
}

#[test]
fn a_layout_on_this_machine_is_read_as_before() {
    let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
    let (before, _) = open_apart(directory.path(), &first);
    assert!(first.read_all(&before).is_empty());
    let source = second.source("oci");
    let opened = open(directory.path()).image(second.manifest, vec![source]).unwrap();
    assert!(second.read_all(&opened).is_empty());
    assert_eq!(opened.stats().chunks_shared, 0);
}

#[test]
fn a_store_without_a_source_reads_from_another_image_what_is_lost() {
    let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
    for image in [&second, &first] {
        let (opened, _) = open_apart(directory.path(), image);
        assert!(image.read_all(&opened).is_empty());
    }
    // Decoded, and the frame that it would heal from.
    for (device, chunk) in [(0, 1), (0, 3)] {
        flip(&data(directory.path(), &second, device), second.maps[device].0.chunk_bytes(chunk).unwrap().start + 5);
        flip(&sparse(directory.path(), second.packs[device]), second.frame(device, chunk).start + 20);
    }
    let opened = open(directory.path()).image(second.manifest, Vec::new()).unwrap();
    assert_eq!(read(&opened, &second.chunk(0, 1)).unwrap(), second.expect(&second.chunk(0, 1)));
    opened.wait_idle();
    assert_eq!((opened.stats().repairs, opened.stats().chunks_shared), (1, 1));
    assert!(read(&opened, &second.chunk(0, 3)).is_err(), "nobody else has this one");
}

#[test]
fn a_fill_copies_what_is_here_and_fetches_the_rest() {
    // Packs of the same encoder have the same frames; those of another one have others.
    for level in [1, 19] {
        let ((_, second), directory) = (pair(), tempfile::tempdir().unwrap());
        let first = TestImage::of_chunks(1, level, FIRST);
        let fits = first.frame(0, 1).end - first.frame(0, 1).start == length(&frames(&second, &SHARED[..1]));
        assert_eq!(fits, level == 1);
        let (before, _) = open_apart(directory.path(), &first);
        before.fill(|_| {}).wait().unwrap();
        drop(before);
        let (opened, source) = open_apart(directory.path(), &second);
        let fill = opened.fill(|_| {});
        fill.wait().unwrap();
        for (device, asked) in asked(&second, &source) {
            for (_, frame) in frames(&second, &SHARED).iter().filter(|(of, _)| *of == device) {
                assert!(asked.end <= frame.start || frame.end <= asked.start, "{asked:?}");
            }
        }
        let stats = opened.stats();
        assert_eq!(stats.bytes_shared, length(&frames(&second, &SHARED)));
        assert_eq!(stats.bytes_filled + stats.bytes_shared, second.pack_bytes());
        assert_eq!(fill.progress().done, second.pack_bytes());
        // It needs neither the registry nor the other image any more, and is a whole pack where the frames fit.
        evict(directory.path(), &first);
        let store = open(directory.path());
        let alone = store.image(second.manifest, Vec::new()).unwrap();
        assert!(second.read_all(&alone).is_empty());
        for pack in &second.packs {
            assert_eq!(store.target().has(*pack, second.blobs[pack].len() as u64).unwrap(), fits);
        }
        assert!(!store.check(None, &mut |_| {}).is_damaged());
    }
}

#[test]
fn wrong_bytes_in_the_other_device_are_not_taken_and_heal_as_before() {
    let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
    let (before, _) = open_apart(directory.path(), &first);
    assert!(first.read_all(&before).is_empty());
    drop(before);
    // Content 2, decoded and as a frame; content 3, decoded only.
    for chunk in [1, 2] {
        flip(&data(directory.path(), &first, 0), first.maps[0].0.chunk_bytes(chunk).unwrap().start + 30_000);
    }
    flip(&sparse(directory.path(), first.packs[0]), first.frame(0, 1).start + 20);
    let (opened, source) = open_apart(directory.path(), &second);
    assert!(second.read_all(&opened).is_empty());
    let fetched = second.frame(0, 0).start..second.frame(0, 0).end;
    assert_eq!(asked(&second, &source)[0], (0, fetched));
    assert_eq!(source.asked(second.packs[0]).iter().filter(|range| range.start == second.frame(0, 1).start).count(), 1);
    let stats = opened.stats();
    assert_eq!((stats.chunks_shared, stats.damage, stats.source_failures), (2, 0, 0), "{stats:?}");
    // Nobody has touched the first image's files: its own reader finds what is wrong, and fetches what its pack has wrong too.
    drop(opened);
    let (again, of_first) = open_apart(directory.path(), &first);
    assert!(first.read_all(&again).is_empty());
    assert_eq!((again.stats().damage, again.stats().repairs), (2, 2));
    assert_eq!(asked(&first, &of_first), frames(&first, &[(0, 1)]));
    drop(again);
    assert!(!open(directory.path()).check(None, &mut |_| {}).is_damaged());
}

/// An image that says of other bytes that they have the digests of the second image's chunks.
fn forger(second: &TestImage) -> TestImage {
    let mut maps = second.maps.clone();
    // A device of its own.
    maps[0].0.push(1, Blake3::new([7; 32])).unwrap();
    maps.truncate(1);
    let other = TestImage::of_chunks(3, 1, &[&[(91, 64), (92, 40), (93, 7), (94, 30), (95, 1)]]);
    maps[0].1 = other.maps[0].1.clone();
    let mut blobs = other.blobs.clone();
    let pack = put(&mut blobs, other.blobs[&other.packs[0]].to_vec());
    let data = other.flat[other.meta_length as usize..].to_vec();
    TestImage::assemble(&mut Random(4), 3, blobs, vec![pack], maps, data)
}

#[test]
fn a_map_that_lies_makes_nobody_elses_bytes_wrong() {
    let ((_, second), directory) = (pair(), tempfile::tempdir().unwrap());
    let forged = forger(&second);
    let store = open_joining(directory.path(), 0);
    let liar = store.image(forged.manifest, vec![forged.remote("forger")]).unwrap();
    liar.fill(|_| {}).wait().unwrap();
    // Decoded too: its own reader would never write that.
    let id = forged.maps[0].0.id().hex();
    let device = directory.path().join("devices").join(&id[..2]).join(id);
    fs::create_dir_all(&device).unwrap();
    for name in ["data", "state"] {
        fs::write(device.join(name), Random(6).bytes(1 << 20, u64::MAX)).unwrap();
    }
    assert_eq!(store.has_chunks(&digests(&second)), [true, true, true, true, false], "they seem to be there");

    let source = second.remote("registry");
    let opened = store.image(second.manifest, vec![source.clone()]).unwrap();
    opened.fill(|_| {}).wait().unwrap();
    assert_eq!((opened.stats().bytes_filled, opened.stats().bytes_shared), (second.pack_bytes(), 0));
    assert!(second.read_all(&opened).is_empty());
    evict(directory.path(), &second);
    source.clear_log();
    let (opened, source) = open_apart(directory.path(), &second);
    assert!(second.read_all(&opened).is_empty());
    let all = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)];
    assert_eq!(length(&asked(&second, &source)), length(&frames(&second, &all)));
    let stats = opened.stats();
    assert_eq!((stats.chunks_shared, stats.source_failures, stats.read_errors), (0, 0, 0));
}

#[test]
fn what_is_evicted_while_others_look_is_fetched() {
    for round in 0..8 {
        let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
        let (before, _) = open_apart(directory.path(), &first);
        assert!(first.read_all(&before).is_empty());
        let (opened, source) = open_apart(directory.path(), &second);
        thread::scope(|scope| {
            scope.spawn(|| evict(directory.path(), &first));
            for reader in 0..3 {
                let (opened, second) = (&opened, &second);
                scope.spawn(move || {
                    let mut random = Random(round * 3 + reader);
                    for _ in 0..20 {
                        let range = second.chunk(0, random.below(4) as u32);
                        assert_eq!(read(opened, &range).unwrap(), second.expect(&range));
                    }
                });
            }
        });
        assert!(second.read_all(&opened).is_empty());
        let fetched = length(&asked(&second, &source));
        let frames = second.maps.iter().map(|(_, frames)| frames.length()).sum::<u64>();
        assert_eq!(fetched + opened.stats().bytes_shared, frames, "each chunk came once, from here or from there");
    }
}

#[test]
fn metas_that_are_damaged_or_of_nothing_known_stand_in_nobodys_way() {
    let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
    let images = directory.path().join("images");
    for name in ["manifest", "meta"] {
        let (before, _) = open_apart(directory.path(), &first);
        assert!(first.read_all(&before).is_empty());
        drop(before);
        let garbage = images.join(Digest::of(name.as_bytes()).hex());
        fs::create_dir_all(garbage.join("config")).unwrap();
        fs::write(images.join(first.manifest.hex()).join(name), Random(8).bytes(9000, u64::MAX)).unwrap();
        fs::write(garbage.join(name), b"").unwrap();
        fs::write(images.join("no image"), b"").unwrap();
        let (opened, source) = open_apart(directory.path(), &second);
        assert!(second.read_all(&opened).is_empty());
        assert_eq!(asked(&second, &source).len(), 2, "one request for each pack");
        drop(opened);
        evict(directory.path(), &second);
    }
}

#[test]
fn a_store_knows_which_chunks_lie_on_the_node() {
    let ((first, second), directory) = (pair(), tempfile::tempdir().unwrap());
    let store = open_joining(directory.path(), 0);
    let has = |store: &Store| store.has_chunks(&digests(&second));
    assert_eq!(has(&store), [false; 5]);
    let opened = store.image(first.manifest, vec![first.remote("registry")]).unwrap();
    assert_eq!(has(&store), [false; 5], "its map alone is not its bytes");
    read(&opened, &first.chunk(0, 1)).unwrap();
    opened.wait_idle();
    assert_eq!(has(&store), [false, true, false, false, false]);
    // As a frame only, and for another process.
    forget_devices(directory.path());
    opened.fill(|_| {}).wait().unwrap();
    assert_eq!(has(&open(directory.path())), [false, true, true, false, true]);
    evict(directory.path(), &first);
    assert_eq!(has(&store), [false; 5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn any_images_that_share_read_right_whatever_happens_to_files(
        seed in any::<u64>(),
        contents in prop::collection::vec(prop::collection::vec(0u64..12, 1..9), 2..4),
    ) {
        let directory = tempfile::tempdir().unwrap();
        // Contents have lengths of their own.
        let chunk = |content: &u64| (*content, 1 + (content * 7) as u32 % 40);
        let images: Vec<TestImage> = (0u64..).zip(&contents).map(|(number, contents)| {
            let chunks: Vec<_> = contents.iter().map(chunk).collect();
            TestImage::of_chunks(seed ^ number, 1 + (seed % 2) as i32 * 3 * number as i32, &[&chunks, &chunks[..1]])
        }).collect();
        let store = open(directory.path());
        let opened: Vec<_> = images
            .iter()
            .map(|image| store.image(image.manifest, vec![image.remote("registry")]).unwrap())
            .collect();
        let mut random = Random(seed);
        thread::scope(|scope| {
            for (number, (image, opened)) in (0..).zip(images.iter().zip(&opened)) {
                let mut random = Random(seed ^ number);
                scope.spawn(move || {
                    let fill = random.below(2).eq(&0).then(|| opened.fill(|_| {}));
                    for _ in 0..25 {
                        let device = random.below(2) as usize;
                        let range = image.chunk(device, random.below(image.maps[device].0.chunks()) as u32);
                        assert!(read(opened, &range).unwrap() == image.expect(&range));
                    }
                    drop(fill);
                });
            }
            for _ in 0..12 {
                let parts = files(directory.path());
                let parts: Vec<_> = parts.iter().filter(|path| !path.starts_with(directory.path().join("images"))).collect();
                let Some(path) = parts.get(random.below(parts.len().max(1) as u64) as usize) else { continue };
                let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
                if length > 0 && path.file_name().unwrap() != "version" {
                    flip(path, random.below(length));
                }
            }
        });
        for (image, opened) in images.iter().zip(&opened) {
            prop_assert!(image.read_all(opened).is_empty());
            prop_assert_eq!(opened.stats().read_errors, 0);
        }
    }
}
