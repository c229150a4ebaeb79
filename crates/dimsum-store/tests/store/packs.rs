//! The near tier: frames as they came, in sparse files and in whole packs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dimsum_source::Target as _;
use dimsum_store::Cause;

use crate::common::{Random, Reply, TestImage, files_named, forget_devices, open, open_joining, read};
use crate::damage::convert_into;

/// Frames of a block or more each, none above the gap that is bridged at first.
fn image() -> TestImage {
    TestImage::incompressible(71, 20, &[&[60, 3, 1, 50], &[5]])
}

fn pack_files(store: &Path) -> Vec<PathBuf> {
    files_named(store, "packs")
}

/// The sparse file of a pack.
fn sparse(store: &Path, image: &TestImage, device: usize) -> PathBuf {
    let prefix = format!("{}.", image.packs[device].hex());
    let is = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix);
    pack_files(store).into_iter().find(is).unwrap()
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_a_network_gave_is_decoded_again_without_it() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    assert!(image.read_all(&open(directory.path()).image(image.manifest, vec![source]).unwrap()).is_empty());
    forget_devices(directory.path());
    let opened = open(directory.path()).image(image.manifest, Vec::new()).unwrap();
    assert!(image.read_all(&opened).is_empty());
    let stats = opened.stats();
    assert_eq!((stats.source_requests, stats.local_requests, stats.source_failures), (0, 5, 0));
}

#[test]
fn what_lies_on_a_disk_is_not_copied() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.source("oci");
    assert!(image.read_all(&open(directory.path()).image(image.manifest, vec![source]).unwrap()).is_empty());
    assert!(pack_files(directory.path()).is_empty());
}

#[test]
fn a_frame_that_is_absent_sends_its_neighbours_not_to_the_network() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let store = open(directory.path());
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    for chunk in [0, 1, 3] {
        read(&opened, &image.chunk(0, chunk)).unwrap();
    }
    opened.wait_idle();
    drop((opened, store));
    forget_devices(directory.path());
    source.clear_log();
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    let all = image.chunk(0, 0).start..image.chunk(0, 3).end;
    assert_eq!(read(&opened, &all).unwrap(), image.expect(&all));
    assert_eq!(source.asked(image.packs[0]), [image.frame(0, 2)]);
}

#[test]
fn a_sparse_file_is_no_pack_until_all_of_it_is_there_and_right() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let (pack, whole) = (image.packs[0], &image.blobs[&image.packs[0]]);
    let store = open(directory.path());
    let claims = || {
        let has = store.target().has(pack, whole.len() as u64).unwrap();
        (has, store.source().size(pack).unwrap(), store.source().open(pack).is_ok())
    };
    let opened = store.image(image.manifest, vec![image.remote("registry")]).unwrap();
    read(&opened, &image.chunk(0, 0)).unwrap();
    opened.wait_idle();
    assert_eq!(fs::metadata(sparse(directory.path(), &image, 0)).unwrap().len(), whole.len() as u64);
    assert_eq!(claims(), (false, None, false));
    image.read_all(&opened);
    assert_eq!(claims(), (false, None, false), "what stands behind the frames was never fetched");
    // All there, one bit wrong.
    let path = sparse(directory.path(), &image, 0);
    let mut forged = whole.to_vec();
    forged[5] ^= 1;
    fs::write(&path, forged).unwrap();
    assert_eq!(claims(), (false, None, false));
    fs::write(&path, whole).unwrap();
    assert_eq!(claims(), (true, Some(whole.len() as u64), true));
    assert!(!path.exists(), "it has the pack's own name now");
    assert!(store.check(None, &mut |_| {}).findings.is_empty());
}

#[test]
fn a_wrong_frame_is_fetched_again_and_written_over() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    image.read_all(&open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap());
    for chunk in 0..4 {
        flip(&sparse(directory.path(), &image, 0), image.frame(0, chunk).start + 30);
    }
    let report = open(directory.path()).check(None, &mut |_| {});
    let wrong: Vec<_> = report.findings.iter().map(|found| (found.cause.clone(), found.offset)).collect();
    assert!(report.is_damaged() && wrong.len() == 4, "{wrong:?}");
    assert!(matches!(wrong[1], (Cause::Frame { chunk: 1 }, at) if at == image.frame(0, 1).start), "{wrong:?}");

    forget_devices(directory.path());
    let alone = open(directory.path()).image(image.manifest, Vec::new()).unwrap();
    assert!(read(&alone, &image.chunk(0, 1)).is_err(), "and no wrong byte");
    drop(alone);
    source.clear_log();
    let opened = open(directory.path()).image(image.manifest, vec![source.clone()]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(source.asked(image.packs[1]).len(), 0);
    drop(opened);
    assert!(!open(directory.path()).check(None, &mut |_| {}).is_damaged());
    forget_devices(directory.path());
    assert!(image.read_all(&open(directory.path()).image(image.manifest, Vec::new()).unwrap()).is_empty());
}

#[test]
fn a_damaged_pack_of_a_conversion_is_mended_from_any_source() {
    for remote in [true, false] {
        let (image, directory) = (image(), tempfile::tempdir().unwrap());
        let store = open(directory.path());
        convert_into(&store, &image);
        let path = pack_files(directory.path())
            .into_iter()
            .find(|path| path.file_name().unwrap().to_str() == Some(&image.packs[0].hex()))
            .unwrap();
        flip(&path, image.frame(0, 1).start + 9);
        flip(&path, image.frame(0, 3).start + 9);
        let source = if remote { image.remote("registry") } else { image.source("oci") };
        let opened = store.image(image.manifest, vec![source]).unwrap();
        assert!(image.read_all(&opened).is_empty());
        assert_eq!(fs::read(&path).unwrap(), image.blobs[&image.packs[0]]);
        assert!(store.check(None, &mut |_| {}).findings.is_empty());
        assert!(pack_files(directory.path()).iter().all(|path| path.extension().is_none()));
    }
}

#[test]
fn an_image_that_claims_anothers_pack_changes_neither_its_pack_nor_its_frames() {
    let shape: &[&[u32]] = &[&[20, 5, 5]];
    let (honest, mut other) = (TestImage::incompressible(1, 3, shape), TestImage::incompressible(2, 3, shape));
    let pack_of_other = other.blobs[&other.packs[0]].clone();
    let data = other.flat.split_off(other.meta_length as usize);
    let maps = vec![(other.maps[0].0.clone(), honest.maps[0].1.clone())];
    let mut blobs = other.blobs.clone();
    blobs.insert(honest.packs[0], pack_of_other);
    let thief = TestImage::assemble(&mut Random(3), 3, blobs, vec![honest.packs[0]], maps, data);

    for converted in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        if converted {
            convert_into(&store, &honest);
        } else {
            let opened = store.image(honest.manifest, vec![honest.remote("registry")]).unwrap();
            assert!(honest.read_all(&opened).is_empty());
        }
        let before: Vec<(PathBuf, Vec<u8>)> =
            pack_files(directory.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        let robbed = store.image(thief.manifest, vec![thief.remote("own")]).unwrap();
        assert!(thief.read_all(&robbed).is_empty());
        robbed.fill(|_| {}).wait().unwrap();
        for (path, bytes) in &before {
            assert!(fs::read(path).unwrap() == *bytes, "{}", path.display());
        }
        drop(robbed);
        forget_devices(directory.path());
        let opened = open(directory.path()).image(honest.manifest, Vec::new()).unwrap();
        assert!(honest.read_all(&opened).is_empty());
    }
}

#[test]
fn frames_that_nobody_proved_take_no_ones_place() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let source = image.remote("registry");
    let opened = open_joining(directory.path(), u64::MAX).image(image.manifest, vec![source.clone()]).unwrap();
    read(&opened, &image.chunk(0, 1)).unwrap();
    opened.wait_idle();
    // Wrong in the gap between two frames that are right.
    let (pack, gap) = (image.packs[0], image.frame(0, 1));
    source.hook(move |blob, range, bytes| {
        let mut bytes = bytes.to_vec();
        if blob == pack && range.start < gap.start && range.end > gap.end {
            bytes[(gap.start - range.start) as usize..(gap.end - range.start) as usize].fill(9);
        }
        Reply::Bytes(Bytes::from(bytes))
    });
    let extents = [0, 2].map(|chunk| dimsum_store::Extent::Flat { range: image.chunk(0, chunk) });
    opened.read_blocking(&extents).unwrap();
    opened.wait_idle();
    assert_eq!(opened.stats().bytes_bridged, image.frame(0, 1).end - image.frame(0, 1).start);
    drop(opened);
    forget_devices(directory.path());
    let alone = open(directory.path()).image(image.manifest, Vec::new()).unwrap();
    assert_eq!(read(&alone, &image.chunk(0, 1)).unwrap(), image.expect(&image.chunk(0, 1)));
}
