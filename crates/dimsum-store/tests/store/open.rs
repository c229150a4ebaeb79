//! Opening stores and images.

use std::fs;
use std::sync::Arc;

use dimsum_format::Digest;
use dimsum_registry::Source;
use dimsum_store::{Options, Store, StoreError};

use crate::common::{Random, TestImage, open, put, read};

#[test]
fn a_store_of_another_version_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    drop(open(directory.path()));
    fs::write(directory.path().join("version"), "dimsum store 99\n").unwrap();
    let error = Store::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::Version { .. }));
    assert!(error.to_string().contains("dimsum store 99"), "{error}");
}

#[test]
fn an_image_that_nobody_has_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let error = open(directory.path()).image(Digest::of(b"x"), Vec::new()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { object: "manifest", .. }), "{error}");
}

#[test]
fn a_manifest_that_is_not_ours_is_refused() {
    let mut image = TestImage::new(1, 1, &[]);
    let manifest = put(&mut image.blobs, b"{\"schemaVersion\":2}".to_vec());
    let directory = tempfile::tempdir().unwrap();
    let error = open(directory.path()).image(manifest, vec![image.source("test")]).unwrap_err();
    assert!(matches!(error, StoreError::Format { .. }), "{error}");
}

#[test]
fn an_image_without_packs_has_its_meta_only() {
    let image = TestImage::new(1, 5, &[]);
    let directory = tempfile::tempdir().unwrap();
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(opened.config(), &image.blobs[&image.config][..]);
    assert_eq!((opened.digest(), opened.manifest().packs.len()), (image.manifest, 0));
}

#[test]
fn a_meta_that_does_not_fit_its_manifest_is_refused() {
    let whole = TestImage::new(1, 5, &[&[4, 4]]);
    let directory = tempfile::tempdir().unwrap();
    // Two packs in the manifest, one device in the meta.
    let packs = vec![whole.packs[0], whole.packs[0]];
    let data = whole.flat[whole.meta_length as usize..].to_vec();
    let more = TestImage::assemble(&mut Random(1), 5, whole.blobs.clone(), packs, whole.maps.clone(), data.clone());
    let error = open(directory.path()).image(more.manifest, vec![more.source("test")]).unwrap_err();
    assert!(matches!(error, StoreError::Disagree { what: "number of packs", .. }), "{error}");
    // A pack that is shorter than its frames.
    let mut blobs = whole.blobs.clone();
    let short = put(&mut blobs, b"short".to_vec());
    let less = TestImage::assemble(&mut Random(1), 5, blobs, vec![short], whole.maps.clone(), data);
    let error = open(directory.path()).image(less.manifest, vec![less.source("test")]).unwrap_err();
    assert!(matches!(error, StoreError::Disagree { what: "length of a pack", .. }), "{error}");
}

#[test]
fn two_stores_on_one_directory_see_each_others_work() {
    let image = TestImage::new(2, 5, &[&[4, 40]]);
    let directory = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(directory.path()), open(directory.path()));
    let early = reader.image(image.manifest, vec![image.source("test")]).unwrap();
    crate::damage::convert_into(&writer, &image);
    let source = image.source("unused");
    let late = reader.image(image.manifest, vec![source.clone() as Arc<dyn Source>]).unwrap();
    assert!(image.read_all(&late).is_empty());
    assert!(source.asked(image.packs[0]).is_empty());
    assert_eq!(read(&early, &image.chunk(0, 1)).unwrap(), image.expect(&image.chunk(0, 1)));
}

#[test]
fn a_store_that_is_dropped_from_its_own_callback_ends_quietly() {
    let image = TestImage::new(3, 5, &[&[4, 40]]);
    let directory = tempfile::tempdir().unwrap();
    let opened = open(directory.path()).image(image.manifest, vec![image.source("test")]).unwrap();
    let (give, take) = std::sync::mpsc::channel();
    let last = Arc::clone(&opened);
    let extents = [dimsum_store::Extent::Flat { range: image.chunk(0, 1) }];
    opened.read(&extents, move |result| {
        drop(last);
        give.send(result.is_ok()).unwrap();
    });
    drop(opened);
    assert!(take.recv().unwrap());
}
