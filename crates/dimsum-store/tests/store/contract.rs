//! The store as a source and a target of copies keeps their contract.

use dimsum_format::Digest;
use dimsum_testing::conformance::{check_blob_target, check_empty_blob, check_source};
use dimsum_testing::images::{noise, put};

use crate::common::open_alone;

#[test]
fn the_store_keeps_the_contract_of_targets_and_sources() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_alone(directory.path());
    let (target, source) = (store.target(), store.source());
    let blob = noise(300_000, 1);
    put(&target, &blob);
    assert_eq!(source.size(Digest::of(b"")).unwrap(), None);
    check_source(&*source, &blob);
    check_blob_target(&target);
    check_empty_blob(&*source);
    // What several wrote at the same time, and what was refused, left no other file.
    let temporary: Vec<_> = std::fs::read_dir(directory.path().join("packs")).unwrap().map(Result::unwrap).collect();
    assert!(temporary.iter().all(|entry| entry.file_type().unwrap().is_dir()), "{temporary:?}");
}
