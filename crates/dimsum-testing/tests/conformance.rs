//! Every back end keeps the contract of sources, places and targets.
#![expect(clippy::unwrap_used, reason = "tests panic")]

#[path = "../../dimsum-registry/tests/remote/real.rs"]
#[expect(dead_code, reason = "the registries of the client's tests; a part of them is used here")]
mod real;

use std::sync::Arc;

use dimsum_layout::{Archive, ArchiveTarget, OciLayout};
use dimsum_registry::Access;
use dimsum_source::{ImageName, Selection, Target, Transports, copy_image};
use dimsum_testing::conformance::{check_place, check_target};
use dimsum_testing::images::{gzip, image, layer_tar, noise, tag};
use dimsum_testing::memory::Memory;
use dimsum_testing::outage::OutageRegistry;
use tempfile::TempDir;

/// Puts the image of the suite, and returns its layer as it is stored there.
fn fill(target: &dyn Target) -> Vec<u8> {
    let layer = layer_tar(&noise(300_000, 1));
    image(target, "amd64", std::slice::from_ref(&layer), dimsum_source::Role::Root);
    gzip(&layer)
}

#[test]
fn memory_keeps_the_contract() {
    let memory = Memory::default();
    let layer = fill(&memory.tag("image", "v1"));
    check_place(&memory.tag("image", "v1"), &layer);
    check_target(&memory.tag("fresh", "v1"), &|| Arc::new(memory.tag("fresh", "v1")));
}

#[test]
fn an_oci_layout_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    let layer = fill(&OciLayout::create(dir.path().join("a"), tag("v1")).unwrap());
    check_place(&OciLayout::open(dir.path().join("a"), tag("v1")).unwrap(), &layer);
    let fresh = OciLayout::create(dir.path().join("b"), tag("v1")).unwrap();
    check_target(&fresh, &|| Arc::new(OciLayout::open(dir.path().join("b"), tag("v1")).unwrap()));
}

#[test]
fn an_oci_archive_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
    let layer = fill(&ArchiveTarget::oci(&a, tag("v1")).unwrap());
    check_place(&Archive::open_oci(&a, tag("v1")).unwrap(), &layer);
    let fresh = ArchiveTarget::oci(&b, tag("v1")).unwrap();
    check_target(&fresh, &|| Arc::new(Archive::open_oci(&b, tag("v1")).unwrap()));
}

#[test]
fn a_docker_archive_keeps_the_contract() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
    fill(&ArchiveTarget::docker(&a, None).unwrap());
    // It holds plain tars.
    check_place(&Archive::open_docker(&a, None).unwrap(), &layer_tar(&noise(300_000, 1)));
    let fresh = ArchiveTarget::docker(&b, None).unwrap();
    check_target(&fresh, &|| Arc::new(Archive::open_docker(&b, None).unwrap()));
}

#[test]
fn a_registry_keeps_the_contract() {
    for kind in real::KINDS {
        let Some(registry) = kind.start() else { continue };
        let network = real::network(Access::default());
        let (filled, fresh) = (registry.reference("a/image:v1"), registry.reference("a/fresh:v1"));
        let layer = fill(&*network.create(&filled).unwrap());
        check_place(&*network.open(&filled).unwrap(), &layer);
        check_target(&*network.create(&fresh).unwrap(), &|| network.open(&fresh).unwrap());
    }
}

#[test]
fn the_registry_of_outages_keeps_the_contract_as_long_as_it_is_well() {
    let registry = OutageRegistry::empty();
    let network = real::network(Access::default());
    let name = real::parse(&registry.reference("v1"));
    let layer = fill(&*network.create(&name).unwrap());
    check_place(&*network.open(&name).unwrap(), &layer);
    check_target(&*network.create(&name).unwrap(), &|| network.open(&name).unwrap());
    assert_eq!(registry.open_uploads(), 0, "uploads are finished or given up");
}

#[test]
fn a_new_transport_is_one_registration() {
    let (memory, dir) = (Memory::default(), TempDir::new().unwrap());
    let mut transports = Transports::default();
    dimsum_layout::register(&mut transports);
    transports.register(Arc::new(memory.clone()));

    let layer = fill(&memory.tag("app", "v1"));
    let reference = transports.parse("memory:app:v1").unwrap();
    assert_eq!(reference.to_string(), "memory:app:v1");
    assert_eq!(reference.name(), Some(&ImageName::Tag("v1".to_owned())));
    let place = transports.open(&reference).unwrap();
    let layout = transports.parse(&format!("oci:{}:v1", dir.path().display())).unwrap();
    let copied = copy_image(&*place, &*transports.create(&layout).unwrap(), &Selection::All, &()).unwrap();
    assert_eq!(copied.root.digest, place.root().unwrap().descriptor.digest);
    let back = transports.parse("memory:back:v2").unwrap();
    copy_image(&*transports.open(&layout).unwrap(), &*transports.create(&back).unwrap(), &Selection::All, &()).unwrap();
    let size = transports.open(&back).unwrap().size(dimsum_format::Digest::of(&layer)).unwrap();
    assert_eq!(size, Some(layer.len() as u64));
    let unknown = transports.parse("magnet://app").unwrap_err().to_string();
    assert!(unknown.contains("memory:BOX[:TAG]"), "{unknown}");
}
