//! What becomes of the fill of a mount.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dimsum_node::{FillStatus, MountRequest};

use crate::support::{Node, REMOTE, TestImage, can_mount, forget_pages, noise, request, watch};

fn fill(tree: &Path) {
    for number in 0..4 {
        fs::write(tree.join(number.to_string()), noise(number + 1, 1 << 20)).unwrap();
    }
}

fn filled(image: &TestImage) -> MountRequest {
    fs::write(image.layout.join(REMOTE), "").unwrap();
    MountRequest { fill: true, ..request(image) }
}

/// Waits until the fill of a mount is in a state.
fn wait_for(node: &Node, id: u64, wanted: impl Fn(&FillStatus) -> bool) -> FillStatus {
    loop {
        let status = node.info(id).fill;
        if wanted(&status) {
            return status;
        }
        std::thread::yield_now();
    }
}

#[test]
fn privileged_a_fill_that_stopped_says_why_and_is_taken_up_again() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = node.image("image", fill);
    node.client.connect_or_start().unwrap();
    // No pack can be written while a file is where their directory belongs.
    let packs = node.client.store().join("packs");
    fs::remove_dir_all(&packs).unwrap();
    fs::write(&packs, "").unwrap();
    let mounted = node.mount_as(&filled(&image), "mnt");
    let status = wait_for(&node, mounted.id, |status| matches!(status, FillStatus::Failed { .. }));
    let FillStatus::Failed { reason, .. } = status else { unreachable!() };
    assert!(reason.contains("packs"), "{reason}");
    fs::remove_file(&packs).unwrap();
    fs::create_dir(&packs).unwrap();
    wait_for(&node, mounted.id, |status| *status == FillStatus::Done);
    assert!(node.info(mounted.id).stats.image.bytes_filled > 4 << 20);
    assert!(node.log().contains("the fill stopped") && node.log().contains("the fill is complete"), "{}", node.log());
}

#[test]
fn privileged_a_mount_whose_image_was_opened_again_is_filled() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = node.image("image", fill);
    let blobs = image.layout.join("blobs/sha256");
    let mounted = node.mount_as(&filled(&image), "mnt");
    wait_for(&node, mounted.id, |status| *status == FillStatus::Done);
    let file = File::open(mounted.place.join("0")).unwrap();
    let (images, hidden) = (node.client.store().join("images"), node.client.store().join("hidden"));
    fs::rename(&images, &hidden).unwrap();
    fs::rename(&blobs, image.layout.join("hidden")).unwrap();
    let server = watch(node.server());
    server.kill();
    server.wait();
    forget_pages(&file);
    file.read_exact_at(&mut [0; 4096], 0).unwrap_err();
    let status = node.info(mounted.id).fill;
    assert!(matches!(&status, FillStatus::Waiting { reason } if !reason.is_empty()), "{status:?}");
    if images.exists() {
        fs::remove_dir_all(&images).unwrap();
    }
    fs::rename(&hidden, &images).unwrap();
    fs::rename(image.layout.join("hidden"), &blobs).unwrap();
    while file.read_exact_at(&mut [0; 4096], 0).is_err() {
        std::thread::yield_now();
    }
    wait_for(&node, mounted.id, |status| *status == FillStatus::Done);
}
