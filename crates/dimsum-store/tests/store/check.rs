//! `check` finds what is damaged and names it, and calls nothing damaged that is not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use dimsum_store::{Cause, Object, Severity};

use crate::common::{Random, TestImage, files_named, open};
use crate::damage::convert_into;

fn image() -> TestImage {
    TestImage::new(51, 40, &[&[20, 3, 1, 30], &[5]])
}

#[test]
fn a_store_in_order_has_no_findings() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    convert_into(&store, &image);
    image.read_all(&store.image(image.manifest, Vec::new()).unwrap());
    let mut last = 0;
    let report = store.check(None, &mut |progress| last = progress.bytes);
    assert!(report.findings.is_empty() && !report.is_damaged(), "{:?}", report.findings);
    let packs: usize = image.blobs.values().map(bytes::Bytes::len).sum();
    assert!(report.bytes == last && last as usize >= packs + image.flat.len() - 100_000, "{report:?}");
}

#[test]
fn a_flipped_bit_in_any_file_is_found_and_named() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    convert_into(&store, &image);
    image.read_all(&store.image(image.manifest, Vec::new()).unwrap());
    let kinds = [
        ("data", Object::Data),
        ("meta", Object::Meta),
        ("index", Object::MetaIndex),
        ("manifest", Object::Manifest),
        ("config", Object::Config),
        ("packs", Object::Pack),
        ("state", Object::State),
    ];
    let mut random = Random(5);
    for (name, object) in kinds {
        let files = files_named(directory.path(), name);
        for _ in 0..40 {
            let path = &files[random.below(files.len() as u64) as usize];
            let mut bytes = fs::read(path).unwrap();
            let at = random.below(bytes.len() as u64);
            let pristine = bytes.clone();
            if name == "state" && pristine[at as usize] == 0 {
                // Perhaps one of the gaps, which mean nothing.
                continue;
            }
            bytes[at as usize] ^= 1 << random.below(8);
            fs::write(path, bytes).unwrap();
            let report = store.check(None, &mut |_| {});
            let found: Vec<_> = report.findings.iter().filter(|found| found.severity == Severity::Damage).collect();
            // Frame lengths in an index prove themselves by use only; two bits of the sum cannot both change.
            assert!(report.is_damaged(), "{} at {at}", path.display());
            assert!(found.iter().any(|found| found.object == object && found.path == *path), "{found:?}");
            if matches!(object, Object::Data | Object::Meta) {
                assert!(found.iter().any(|found| (found.offset..found.offset + (16 << 10)).contains(&at)), "{found:?}");
            }
            assert!(found.iter().all(|found| !found.cause.to_string().is_empty()));
            fs::write(path, pristine).unwrap();
        }
    }
    assert!(!store.check(None, &mut |_| {}).is_damaged());
}

#[test]
fn left_overs_foreign_names_and_orphans_are_notes() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    image.read_all(&store.image(image.manifest, vec![image.source("test")]).unwrap());
    let id = image.maps[0].0.id().hex();
    let device = directory.path().join("devices").join(&id[..2]).join(&id);
    // Chaining values lost in a power cut.
    OpenOptions::new().write(true).open(device.join("state")).unwrap().set_len(64).unwrap();
    fs::write(directory.path().join("packs/.tmp-0123"), "x").unwrap();
    fs::write(directory.path().join("images/README"), "x").unwrap();
    fs::create_dir_all(directory.path().join("devices/zz")).unwrap();
    let unnamed = directory.path().join("devices/ab").join("ab".repeat(32));
    fs::create_dir_all(&unnamed).unwrap();
    fs::write(unnamed.join("data"), "x").unwrap();
    let report = store.check(None, &mut |_| {});
    assert!(!report.is_damaged(), "{:?}", report.findings);
    let has = |wanted: fn(&Cause) -> bool| report.findings.iter().any(|found| wanted(&found.cause));
    assert!(has(|cause| matches!(cause, Cause::Orphan { chunk: 3 })));
    assert!(has(|cause| matches!(cause, Cause::LeftOver)));
    assert!(has(|cause| matches!(cause, Cause::Name)));
    assert!(has(|cause| matches!(cause, Cause::Unnamed)));
}

#[test]
fn a_hole_in_data_with_chaining_values_is_damage() {
    let (image, directory) = (image(), tempfile::tempdir().unwrap());
    let store = open(directory.path());
    image.read_all(&store.image(image.manifest, vec![image.source("test")]).unwrap());
    let path = files_named(directory.path(), "data").remove(0);
    let length = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(0).unwrap();
    file.set_len(length).unwrap();
    file.write_all_at(&[0], length - 1).unwrap();
    assert!(store.check(None, &mut |_| {}).is_damaged());
}
