//! Damage to every kind of file of the store: right bytes or an error, and right bytes again once a source is there.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::media;
use dimsum_source::{Role, Source, Target};
use dimsum_store::Store;

use crate::common::{Random, TestImage, files_named, open, open_alone, read};

/// Places per kind of file.
const PLACES: usize = 510;

fn small(seed: u64) -> TestImage {
    TestImage::new(seed, 40, &[&[20, 3, 1, 30], &[5]])
}

/// Flips a bit, cuts off, or zeroes a block at a random place.
fn damage(path: &Path, random: &mut Random, how: usize) -> String {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let at = random.below(length.max(1));
    match how % 3 {
        0 if length > 0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << random.below(8);
            file.write_all_at(&byte, at).unwrap();
        }
        1 => file.set_len(at).unwrap(),
        _ => punch(&file, at, 4096.min(length.saturating_sub(at)).max(1)),
    }
    format!("{} at {at} of {length}, {}", path.display(), ["flip", "truncate", "punch"][how % 3])
}

fn punch(file: &File, at: u64, length: u64) {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // Not every file system of a build machine can; zeros are the same to a reader.
    if fallocate(file, flags, at, length).is_err() {
        file.write_all_at(&vec![0; length as usize], at).unwrap();
    }
}

fn survives(kind: &str) {
    let image = small(31);
    let directory = tempfile::tempdir().unwrap();
    let source = image.source("origin");
    let origins = || vec![Arc::clone(&source) as Arc<dyn Source>];
    assert!(image.read_all(&open(directory.path()).image(image.manifest, origins()).unwrap()).is_empty());
    let files = files_named(directory.path(), kind);
    assert!(!files.is_empty());
    let mut random = Random(77);
    let mut seen = 0;
    for place in 0..PLACES {
        let path = &files[random.below(files.len() as u64) as usize];
        let what = damage(path, &mut random, place);
        // A store of its own each time: what one proved in memory does not depend on the disk any more.
        let store = open_alone(directory.path());
        // Without any source: right bytes (asserted while reading) or an error.
        if let Ok(opened) = store.image(image.manifest, Vec::new()) {
            image.read_all(&opened);
        }
        drop(store);
        // With one: right bytes, and the store is whole again.
        let store = open_alone(directory.path());
        let opened = store.image(image.manifest, origins()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(image.read_all(&opened).is_empty(), "{what}");
        let stats = opened.stats();
        seen += u64::from(stats.damage > 0);
        assert_eq!((stats.read_errors, stats.write_errors), (0, 0), "{what}: {stats:?}");
        let report = store.check(None, &mut |_| {});
        assert!(!report.is_damaged(), "{what}: {:?}", report.findings);
    }
    // Some damage has no effect: zeroes over zeroes, bits that nothing reads, a cut that leaves a chunk absent.
    assert!(seen > PLACES as u64 / 5, "{seen} of {PLACES} were seen");
}

#[test]
fn damaged_device_data_is_repaired() {
    survives("data");
}

#[test]
fn damaged_chaining_values_are_repaired() {
    survives("state");
}

#[test]
fn a_damaged_meta_is_repaired() {
    survives("meta");
}

#[test]
fn a_damaged_index_is_repaired() {
    survives("index");
}

#[test]
fn a_damaged_manifest_is_repaired() {
    survives("manifest");
}

#[test]
fn a_damaged_config_is_repaired() {
    survives("config");
}

#[test]
fn damage_under_an_open_image_is_seen_at_the_next_read() {
    let image = small(32);
    let directory = tempfile::tempdir().unwrap();
    let opened = open(directory.path()).image(image.manifest, vec![image.source("origin")]).unwrap();
    image.read_all(&opened);
    let files = files_named(directory.path(), "data");
    let mut random = Random(78);
    for flips in 1..=PLACES as u64 {
        let path = &files[random.below(files.len() as u64) as usize];
        let what = damage(path, &mut random, 0);
        assert!(image.read_all(&opened).is_empty(), "{what}");
        let stats = opened.stats();
        assert_eq!((stats.damage, stats.repairs), (flips, flips), "{what}");
    }
}

#[test]
fn damage_without_a_source_is_an_error_and_stays_one() {
    let image = small(33);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    image.read_all(&store.image(image.manifest, vec![image.source("origin")]).unwrap());
    let path = directory.path().join("devices");
    let id = image.maps[0].0.id().hex();
    let data = OpenOptions::new().write(true).open(path.join(&id[..2]).join(&id).join("data")).unwrap();
    let at = image.maps[0].0.chunk_bytes(1).unwrap().start + 7;
    data.write_all_at(&[0xFF], at).unwrap();
    let opened = store.image(image.manifest, Vec::new()).unwrap();
    for _ in 0..3 {
        assert!(read(&opened, &image.chunk(0, 1)).is_err());
        assert_eq!(read(&opened, &image.chunk(0, 0)).unwrap(), image.expect(&image.chunk(0, 0)));
    }
}

#[test]
fn forged_data_with_chaining_values_that_match_it_is_not_believed() {
    let shape: &[&[u32]] = &[&[20, 5, 1, 4]];
    let (image, forged) = (TestImage::new(1, 3, shape), TestImage::new(2, 3, shape));
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (image, directory) in [(&image, &directory), (&forged, &other)] {
        image.read_all(&open(directory.path()).image(image.manifest, vec![image.source("origin")]).unwrap());
    }
    for name in ["data", "state"] {
        let (from, to) = (files_named(other.path(), name).remove(0), files_named(directory.path(), name).remove(0));
        fs::copy(from, to).unwrap();
    }
    let alone = open(directory.path()).image(image.manifest, Vec::new()).unwrap();
    for chunk in 0..4 {
        assert!(read(&alone, &image.chunk(0, chunk)).is_err());
    }
    drop(alone);
    let opened = open_alone(directory.path()).image(image.manifest, vec![image.source("origin")]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(opened.stats().repairs, 4);
}

/// Puts an image into the store as a conversion does.
pub(crate) fn convert_into(store: &Store, image: &TestImage) {
    let target = store.target();
    for (digest, blob) in &image.blobs {
        if *digest == image.manifest {
            continue;
        }
        let mut writer = target.start_blob().unwrap();
        writer.write_all(blob).unwrap();
        assert!(!target.has(*digest, blob.len() as u64).unwrap(), "not before it is whole");
        writer.commit(*digest, blob.len() as u64, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        assert!(target.has(*digest, blob.len() as u64).unwrap());
        assert!(!target.has(*digest, blob.len() as u64 + 1).unwrap());
    }
    let digest = target.put_manifest(media::MANIFEST, &image.blobs[&image.manifest], Role::Root).unwrap();
    assert_eq!(digest, image.manifest);
}

/// Takes away everything that was decoded.
fn forget_decoded(directory: &Path) {
    if directory.join("devices").exists() {
        fs::remove_dir_all(directory.join("devices")).unwrap();
    }
    for name in ["meta", "index"] {
        for path in files_named(directory, name) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_converted_image_is_read_and_heals_from_the_stores_own_packs() {
    let image = small(34);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    convert_into(&store, &image);
    let opened = store.image(image.manifest, Vec::new()).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(opened.stats().source_requests, 0);
    drop((opened, store));
    for kind in ["data", "state", "meta", "index", "config"] {
        let mut random = Random(79);
        let files = files_named(directory.path(), kind);
        for place in 0..60 {
            let what = damage(&files[random.below(files.len() as u64) as usize], &mut random, place);
            let opened = open(directory.path())
                .image(image.manifest, Vec::new())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(image.read_all(&opened).is_empty(), "{what}");
        }
    }
    assert!(!open(directory.path()).check(None, &mut |_| {}).is_damaged());
}

#[test]
fn damaged_packs_give_right_bytes_or_errors_and_right_bytes_with_an_origin() {
    let image = small(35);
    let directory = tempfile::tempdir().unwrap();
    convert_into(&open(directory.path()), &image);
    let source = image.source("origin");
    let files: Vec<(PathBuf, Bytes)> = files_named(directory.path(), "packs")
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap().into()))
        .collect();
    let mut random = Random(80);
    let mut failed = 0;
    for place in 0..PLACES {
        let (path, pristine) = &files[random.below(files.len() as u64) as usize];
        let what = damage(path, &mut random, place);
        match open(directory.path()).image(image.manifest, Vec::new()) {
            Ok(opened) => failed += usize::from(!image.read_all(&opened).is_empty()),
            Err(_) => failed += 1,
        }
        forget_decoded(directory.path());
        match open(directory.path()).image(image.manifest, Vec::new()) {
            Ok(opened) => failed += usize::from(!image.read_all(&opened).is_empty()),
            Err(_) => failed += 1,
        }
        forget_decoded(directory.path());
        let opened = open(directory.path())
            .image(image.manifest, vec![source.clone()])
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(image.read_all(&opened).is_empty(), "{what}");
        // The next damage is to find neither this one mended nor the frames that were fetched for it.
        fs::write(path, pristine).unwrap();
        for path in files_named(directory.path(), "packs") {
            if path.extension().is_some() {
                fs::remove_file(path).unwrap();
            }
        }
    }
    assert!(failed > PLACES / 4, "{failed} of {PLACES} damaged packs could not be read alone");
}

#[test]
fn garbage_in_the_place_of_files_never_panics_and_never_reads_wrong() {
    let image = small(36);
    let source = image.source("origin");
    let names = ["data", "state", "meta", "index", "manifest", "config", "packs"];
    for name in names {
        for garbage in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let store = open(directory.path());
            convert_into(&store, &image);
            image.read_all(&store.image(image.manifest, Vec::new()).unwrap());
            for path in files_named(directory.path(), name) {
                fs::remove_file(&path).unwrap();
                match garbage {
                    0 => fs::create_dir(&path).unwrap(),
                    1 => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                    2 => rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap(),
                    3 => File::create(&path).unwrap().set_len(1 << 26).unwrap(),
                    _ => fs::write(&path, Random(5).bytes(100_000, u64::MAX)).unwrap(),
                }
            }
            store.check(None, &mut |_| {});
            let opened = store.image(image.manifest, vec![source.clone()]).unwrap_or_else(|error| {
                panic!("{name} {garbage}: {error}");
            });
            assert!(image.read_all(&opened).is_empty(), "{name} {garbage}");
        }
    }
}
