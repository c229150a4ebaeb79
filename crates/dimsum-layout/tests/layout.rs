//! OCI image layouts: what is written can be found and read, nothing half-written can be seen.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use dimsum_format::manifest::Platform;
use dimsum_format::{Digest, media};
use dimsum_layout::OciLayout;
use dimsum_source::{
    ImageName, Prefer, Role, Source as _, SourceError, SourceFault, Target as _, host_platform, resolve,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn tag(tag: &str) -> Option<ImageName> {
    Some(ImageName::Tag(tag.into()))
}

fn put(layout: &OciLayout, bytes: &[u8]) -> Digest {
    let mut blob = layout.start_blob().unwrap();
    blob.write_all(bytes).unwrap();
    blob.commit(Digest::of(bytes), bytes.len() as u64, &|_| std::ops::ControlFlow::Continue(())).unwrap();
    Digest::of(bytes)
}

fn manifest(text: &str) -> Vec<u8> {
    let digest = Digest::of(text.as_bytes());
    let config = json!({ "mediaType": media::CONFIG, "digest": digest, "size": 1 });
    serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [] }))
        .unwrap()
}

fn put_manifest(dir: &Path, name: Option<ImageName>, text: &str) -> Digest {
    OciLayout::create(dir, name).unwrap().put_manifest(media::MANIFEST, &manifest(text), Role::Root).unwrap()
}

fn find(dir: &Path, name: Option<ImageName>) -> Result<Digest, SourceError> {
    resolve(&OciLayout::open(dir, name)?, &host_platform(), Prefer::Dimsum).map(|image| image.descriptor.digest)
}

fn index(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("index.json")).unwrap()).unwrap()
}

fn files(dir: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_new_layout_is_one_for_other_tools_too() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/b:c");
    OciLayout::create(&path, None).unwrap();
    assert_eq!(std::fs::read(path.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    assert_eq!(index(&path), json!({ "schemaVersion": 2, "manifests": [] }));
    assert!(path.join("blobs/sha256").is_dir());
    OciLayout::create(&path, None).unwrap();
}

#[test]
fn a_directory_with_other_things_is_not_made_a_layout() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    assert!(matches!(dimsum_testing::fault(&OciLayout::create(dir.path(), None)), Some(SourceFault::Target { .. })));
    assert!(matches!(dimsum_testing::fault(&OciLayout::open(dir.path(), None)), Some(SourceFault::Name { .. })));
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_blob_is_visible_only_when_committed() {
    let dir = TempDir::new().unwrap();
    let layout = OciLayout::create(dir.path(), None).unwrap();
    let blobs = dir.path().join("blobs/sha256");
    let bytes = vec![7; 600_000];
    let mut blob = layout.start_blob().unwrap();
    for piece in bytes.chunks(1000) {
        blob.write_all(piece).unwrap();
    }
    assert!(!layout.has(Digest::of(&bytes), 600_000).unwrap());
    assert_eq!(files(&blobs).iter().filter(|name| !name.starts_with(".dimsum")).count(), 0);
    blob.commit(Digest::of(&bytes), 600_000, &|_| std::ops::ControlFlow::Continue(())).unwrap();
    assert!(layout.has(Digest::of(&bytes), 600_000).unwrap());
    assert_eq!(std::fs::read(blobs.join(Digest::of(&bytes).hex())).unwrap(), bytes);

    let mut dropped = layout.start_blob().unwrap();
    dropped.write_all(b"never").unwrap();
    drop(dropped);
    let mut wrong = layout.start_blob().unwrap();
    wrong.write_all(b"four").unwrap();
    assert!(wrong.commit(Digest::of(b"four"), 5, &|_| std::ops::ControlFlow::Continue(())).is_err());
    assert_eq!(files(&blobs), BTreeSet::from([Digest::of(&bytes).hex()]));
}

#[test]
fn a_blob_that_is_there_stays_and_one_that_is_damaged_is_replaced() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = TempDir::new().unwrap();
    let layout = OciLayout::create(dir.path(), None).unwrap();
    let digest = put(&layout, b"content");
    let path = dir.path().join("blobs/sha256").join(digest.hex());
    let inode = std::fs::metadata(&path).unwrap().ino();
    put(&layout, b"content");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    assert!(layout.has(digest, 7).unwrap() && !layout.has(digest, 6).unwrap());
    for damaged in ["cut", "cOntent"] {
        std::fs::write(&path, damaged).unwrap();
        assert!(!layout.has(digest, 7).unwrap(), "{damaged}");
        put(&layout, b"content");
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
    }
    assert_eq!(files(&dir.path().join("blobs/sha256")).len(), 1);
}

#[test]
fn a_range_is_read_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let layout = Arc::new(OciLayout::create(dir.path(), None).unwrap());
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
    let blob = put(&layout, &bytes);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        for range in [0..0, 0..100_000, 5..6, 99_999..100_000, 100_000..100_000] {
            let read = layout.read_range(blob, range.clone()).await.unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize]);
        }
        for range in [0..100_001, 100_001..100_002, 7..u64::MAX, std::ops::Range { start: 5, end: 4 }] {
            assert!(matches!(
                dimsum_testing::fault(&layout.read_range(blob, range).await),
                Some(SourceFault::Range { .. })
            ));
        }
        let missing = layout.read_range(Digest::of(b"?"), 0..1).await;
        assert!(matches!(dimsum_testing::fault(&missing), Some(SourceFault::NotFound { .. })));
        // More at a time than are allowed: all come to their end.
        let reads = (0..500u64).map(|i| {
            let layout = Arc::clone(&layout);
            tokio::spawn(async move { layout.read_range(blob, i * 100..i * 100 + 50).await.unwrap() })
        });
        for (i, read) in reads.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(read.await.unwrap(), bytes[i * 100..i * 100 + 50]);
        }
    });
    assert_eq!((layout.size(blob).unwrap(), layout.size(Digest::of(b"?")).unwrap()), (Some(100_000), None));
}

#[test]
fn a_manifest_that_is_not_the_one_pinned_is_refused() {
    let dir = TempDir::new().unwrap();
    let digest = put_manifest(dir.path(), tag("v1"), "one");
    let path = dir.path().join("blobs/sha256").join(digest.hex());
    std::fs::write(&path, manifest("two")).unwrap();
    let pinned = find(dir.path(), Some(ImageName::Digest(digest)));
    assert!(matches!(dimsum_testing::fault(&pinned), Some(SourceFault::Digest { .. })), "{pinned:?}");
}

#[test]
fn a_missing_document_is_called_by_its_kind() {
    let dir = TempDir::new().unwrap();
    put_manifest(dir.path(), tag("v1"), "one");
    let (layout, absent) = (OciLayout::open(dir.path(), None).unwrap(), Digest::of(b"?"));
    let manifest = layout.read_manifest(absent).unwrap_err();
    assert!(manifest.to_string().ends_with(&format!(": no manifest {absent}")), "{manifest}");
    let config = layout.read_small("config", absent, 10).unwrap_err();
    assert!(config.to_string().ends_with(&format!(": no config {absent}")), "{config}");
}

#[test]
fn a_tag_moves_and_what_others_wrote_stays() {
    let dir = TempDir::new().unwrap();
    let path = dir.path();
    let old = put_manifest(path, tag("v1"), "one");
    put_manifest(path, tag("v2"), "two");
    let mut document = index(path);
    document["x-other"] = json!({ "kept": true });
    document["manifests"][1]["data"] = json!("kept too");
    std::fs::write(path.join("index.json"), document.to_string()).unwrap();
    let new = put_manifest(path, tag("v1"), "three");
    assert_ne!(old, new);
    assert_eq!(find(path, tag("v1")).unwrap(), new);
    let document = index(path);
    assert_eq!(document["manifests"].as_array().unwrap().len(), 2);
    assert_eq!((&document["x-other"]["kept"], &document["manifests"][1]["data"]), (&json!(true), &json!("kept too")));
    // Without a tag: listed once.
    put_manifest(path, None, "four");
    put_manifest(path, None, "four");
    assert_eq!(index(path)["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(find(path, Some(ImageName::Digest(old))).unwrap(), old, "still there by its digest");
}

#[test]
fn many_writers_lose_nothing() {
    let dir = TempDir::new().unwrap();
    OciLayout::create(dir.path(), None).unwrap();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let dir = dir.path();
            scope.spawn(move || put_manifest(dir, tag(&format!("t{i}")), &format!("{i}")));
        }
    });
    assert_eq!(index(dir.path())["manifests"].as_array().unwrap().len(), 8);
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let dir = TempDir::new().unwrap();
    OciLayout::create(dir.path(), None).unwrap();
    assert!(find(dir.path(), None).unwrap_err().to_string().contains("empty"));
    put_manifest(dir.path(), tag("one"), "1");
    assert!(find(dir.path(), None).is_ok());
    put_manifest(dir.path(), tag("two"), "2");
    for name in [None, tag("three")] {
        let error = find(dir.path(), name).unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("two"), "{error}");
    }
}

#[test]
fn a_platform_is_picked_from_an_index() {
    let dir = TempDir::new().unwrap();
    let layout = OciLayout::create(dir.path(), tag("multi")).unwrap();
    let entry = |architecture: &str, text: &str| {
        let digest = put(&layout, &manifest(text));
        let platform = json!({ "architecture": architecture, "os": "linux" });
        json!({ "mediaType": media::MANIFEST, "digest": digest, "size": manifest(text).len(), "platform": platform })
    };
    let host = host_platform();
    let own = entry(&host.architecture, "own");
    let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [entry("vax", "other"), own] });
    layout.put_manifest(media::INDEX, &serde_json::to_vec(&index).unwrap(), Role::Root).unwrap();
    let multi = OciLayout::open(dir.path(), tag("multi")).unwrap();
    let picked = resolve(&multi, &host, Prefer::Dimsum).unwrap();
    assert_eq!(picked.descriptor.digest, Digest::of(&manifest("own")));
    let vax = Platform { architecture: "vax".into(), ..host };
    assert_eq!(resolve(&layout, &vax, Prefer::Dimsum).unwrap().descriptor.digest, Digest::of(&manifest("other")));
    let pdp = Platform { architecture: "pdp11".into(), ..vax };
    let error = resolve(&layout, &pdp, Prefer::Dimsum).unwrap_err().to_string();
    assert!(error.contains("linux/vax") && error.contains("linux/pdp11"), "{error}");
}
