//! The registry of outages fails as it is told, and in no other way.
#![expect(clippy::unwrap_used, reason = "tests panic")]

#[path = "../../dimsum-registry/tests/remote/real.rs"]
#[expect(dead_code, reason = "the registries of the client's tests; a part of them is used here")]
mod real;

use dimsum_format::Digest;
use dimsum_format::manifest::Manifest;
use dimsum_testing::images::layout_with_image;
use dimsum_testing::outage::{Fault, OutageRegistry, RequestKind};
use tempfile::TempDir;

#[test]
fn every_fault_of_a_blob_is_an_error_and_health_brings_the_bytes() {
    let dir = TempDir::new().unwrap();
    let image = layout_with_image(dir.path());
    let registry = OutageRegistry::serve(dir.path());
    let place = real::impatient().open(&real::parse(&registry.reference("v1"))).unwrap();
    let root = place.root().unwrap();
    assert_eq!(root.descriptor.digest, image.digest);
    let config = Manifest::parse(&root.bytes).unwrap().config;
    for fault in Fault::ALL {
        registry.script(RequestKind::Config, fault);
        let read = place.read_small("config", config.digest, 1 << 20);
        assert!(read.is_err(), "{fault:?}");
        registry.heal();
        let read = place.read_small("config", config.digest, 1 << 20).unwrap();
        assert_eq!(Digest::of(&read), config.digest, "{fault:?}");
    }
    assert!(registry.count(RequestKind::Config) >= 20);
    assert_eq!(registry.count(RequestKind::Pack), 0);
}

#[test]
fn a_registry_that_wants_tokens_is_read_with_one() {
    let dir = TempDir::new().unwrap();
    let image = layout_with_image(dir.path());
    let registry = OutageRegistry::serve(dir.path());
    registry.want_tokens();
    let place = real::impatient().open(&real::parse(&registry.pinned(image.digest))).unwrap();
    assert_eq!(place.root().unwrap().descriptor.digest, image.digest);
    assert_eq!(registry.count(RequestKind::Token), 1);
    registry.script(RequestKind::Token, Fault::Status(503));
    let other = real::impatient().open(&real::parse(&registry.reference("v1"))).unwrap();
    assert!(other.root().is_err());
}
