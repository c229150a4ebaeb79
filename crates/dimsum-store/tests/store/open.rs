//! Opening stores and images.

use std::fs;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use dimsum_format::Digest;
use dimsum_source::{BoxFuture, Source, SourceError, SourceFault};
use dimsum_store::{Store, StoreError, StoreOptions};

use tokio::sync::Semaphore;

use crate::common::{Random, Reply, TestImage, open, put, read};

#[test]
fn a_store_of_another_version_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    drop(open(directory.path()));
    fs::write(directory.path().join("version"), "dimsum store 99\n").unwrap();
    let error = Store::open(directory.path(), StoreOptions::default()).unwrap_err();
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

#[test]
fn a_registry_is_asked_for_the_manifest_and_then_for_config_and_meta_at_once() {
    let image = TestImage::new(4, 60, &[&[4, 40]]);
    let directory = tempfile::tempdir().unwrap();
    let source = image.remote("registry");
    let (config, meta) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (config_digest, asked) = (image.config, [Arc::clone(&config), Arc::clone(&meta)]);
    // Each is answered once the other was asked for.
    source.hook(move |blob, _, bytes| {
        let [config, meta] = &asked;
        let (mine, other) = if blob == config_digest { (config, meta) } else { (meta, config) };
        mine.add_permits(1);
        Reply::After(Arc::clone(other), bytes)
    });
    let options = StoreOptions { request_deadline: Duration::from_secs(10), ..StoreOptions::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
    for blob in [image.config, image.meta] {
        let (asked, whole) = (source.asked(blob), 0..image.blobs[&blob].len() as u64);
        assert!(asked.len() == 1 && asked[0] == whole, "{asked:?}");
    }
    assert_eq!((source.requests(), opened.stats().source_requests), (3, 3));
    source.behave();
    assert!(image.read_all(&opened).is_empty());
    assert_eq!(source.asked(image.meta).len(), 1, "all frames of the meta came with it");
}

#[test]
fn of_a_meta_above_the_limit_the_index_is_asked_for_first() {
    let image = TestImage::new(4, 200, &[&[4, 40]]);
    let length = image.blobs[&image.meta].len() as u64;
    for (whole_meta, requests) in [(length, 1), (length - 1, 2)] {
        let directory = tempfile::tempdir().unwrap();
        let source = image.remote("registry");
        let store = Store::open(directory.path(), StoreOptions { whole_meta, ..StoreOptions::default() }).unwrap();
        let opened = store.image(image.manifest, vec![source.clone()]).unwrap();
        let asked = source.asked(image.meta);
        assert_eq!((asked.len(), asked[0].start == 0), (requests, requests == 1), "{asked:?}");
        assert!(image.read_all(&opened).is_empty());
    }
}

#[test]
fn a_meta_that_is_forged_as_a_whole_comes_from_the_next_registry() {
    let image = TestImage::new(4, 60, &[&[4, 40]]);
    let directory = tempfile::tempdir().unwrap();
    let (liar, right) = (image.remote("liar"), image.remote("right"));
    liar.hook(|_, _, bytes| Reply::Bytes(vec![7; bytes.len()].into()));
    let opened = open(directory.path()).image(image.manifest, vec![liar.clone(), right]).unwrap();
    liar.behave();
    assert!(image.read_all(&opened).is_empty());
}

/// A registry that never answers a question for a manifest.
#[derive(Debug)]
struct Hung(Arc<Barrier>);

impl Source for Hung {
    fn name(&self) -> &str {
        "hung"
    }

    fn read_range(&self, _: Digest, _: std::ops::Range<u64>) -> BoxFuture<'_, Result<bytes::Bytes, SourceError>> {
        Box::pin(std::future::pending())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn open(&self, digest: Digest) -> Result<Box<dyn std::io::Read + Send>, SourceError> {
        self.0.wait();
        Err(SourceFault::NotFound { object: "blob", digest }.at("hung"))
    }

    fn size(&self, _: Digest) -> Result<Option<u64>, SourceError> {
        Ok(None)
    }
}

#[test]
fn opening_does_not_wait_for_a_registry_that_hangs() {
    let image = TestImage::new(4, 60, &[&[4, 40]]);
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { request_deadline: Duration::from_millis(20), ..StoreOptions::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let (alone, first) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let error = store.image(image.manifest, vec![Arc::new(Hung(Arc::clone(&alone)))]).unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    let opened = store.image(image.manifest, vec![Arc::new(Hung(Arc::clone(&first))), image.remote("right")]).unwrap();
    assert!(image.read_all(&opened).is_empty());
    // Lets the threads that were left behind go.
    alone.wait();
    first.wait();
}
