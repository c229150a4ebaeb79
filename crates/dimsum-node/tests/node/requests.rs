//! What a registry is asked: by one mount, and by many of one image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dimsum_convert::{ConvertOptions, Input, convert};
use dimsum_engine::Access;
use dimsum_layout::OciLayout;
use dimsum_node::MountRequest;
use dimsum_testing::images::tag;
use dimsum_testing::outage::{OutageRegistry, RequestKind};

use crate::support::{Mounted, Node, can_mount, noise};

const FILES: u64 = 16;
const LENGTH: usize = 256 << 10;

/// Serves an image of [`FILES`] files under the tag `v1`.
fn registry(node: &Node) -> OutageRegistry {
    let (tree, layout) = (node.directory.path().join("tree"), node.directory.path().join("layout"));
    fs::create_dir(&tree).unwrap();
    for number in 0..FILES {
        fs::write(tree.join(number.to_string()), noise(number + 1, LENGTH)).unwrap();
    }
    let target = OciLayout::create(&layout, tag("v1")).unwrap();
    convert(Input::Directory { path: &tree }, &target, &ConvertOptions::default(), &()).unwrap();
    OutageRegistry::serve(&layout)
}

fn request(node: &Node, registry: &OutageRegistry) -> MountRequest {
    let access = Access { plain_http: true, ..Access::default() };
    MountRequest { access, ..MountRequest::new(&node.engine, &registry.reference("v1")).unwrap() }
}

#[test]
fn privileged_a_mount_asks_a_registry_for_each_thing_once() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let registry = registry(&node);
    registry.want_tokens();
    let first = node.mount_as(&request(&node, &registry), "first");
    use RequestKind::{Config, ManifestByTag, Meta, Token};
    // The first request of all is answered by the challenge that names the token server.
    let once = BTreeMap::from([(Token, 1), (ManifestByTag, 2), (Config, 1), (Meta, 1)]);
    assert_eq!(registry.counts(), once);
    // A warm mount asks only what the tag stands for now, with the token that it has.
    registry.reset_counts();
    let second = node.mount_as(&request(&node, &registry), "second");
    assert_eq!(registry.counts(), BTreeMap::from([(ManifestByTag, 1)]));
    drop((first, second));
    node.wait_until_nothing_is_mounted();
}

/// Reads all files of a mount, beginning at another one each time.
fn read_all(place: &Path, start: u64) {
    for number in (0..FILES).map(|number| (number + start) % FILES) {
        assert!(fs::read(place.join(number.to_string())).unwrap() == noise(number + 1, LENGTH));
    }
}

fn bytes_of_mounts(count: u64) -> u64 {
    let node = Node::new();
    let registry = registry(&node);
    let mounts: Vec<Mounted> = std::thread::scope(|scope| {
        let mount = |number: u64| {
            let mounted = node.mount_as(&request(&node, &registry), &format!("mnt{number}"));
            read_all(&mounted.place, number);
            mounted
        };
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || mount(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(registry.count(RequestKind::Meta), 1);
    drop(mounts);
    node.wait_until_nothing_is_mounted();
    registry.sent(RequestKind::Pack)
}

#[test]
fn privileged_many_mounts_of_one_image_share_what_they_fetch() {
    if !can_mount() {
        return;
    }
    let once = bytes_of_mounts(1);
    assert!(once >= FILES * LENGTH as u64, "{once}");
    for count in [8, 100] {
        let bytes = bytes_of_mounts(count);
        // A request that joins two wanted chunks over a gap may bring a chunk again that another one brings. Each mount
        // for itself would fetch `count` times as much.
        assert!(bytes <= 2 * once, "{count} mounts: {bytes} bytes, one mount: {once}");
        println!("{count} mounts fetched {bytes} bytes, one fetched {once}");
    }
}
