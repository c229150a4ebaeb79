//! Mounts whose registry hangs leave everything else quick.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{HANG, Node, can_mount, noise, request, watch};

/// As many as the server once had threads for clients.
const HUNG: usize = 64;

fn fill(tree: &Path) {
    fs::write(tree.join("file"), noise(1, 4096)).unwrap();
}

#[test]
fn privileged_64_mounts_whose_source_hangs_leave_questions_and_other_mounts_alone() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let (hung, free) = (node.image("hung", fill), node.image("free", fill));
    fs::write(hung.layout.join(HANG), "").unwrap();
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        node.client.connect_or_start().unwrap();
        for _ in 0..HUNG {
            scope.spawn(|| {
                let mounted = node.ask(&request(&hung));
                answered.fetch_add(1, Ordering::Relaxed);
                drop(mounted);
            });
        }
        while node.client.info().unwrap().expect("a server runs").opening < HUNG {
            std::thread::yield_now();
        }
        let mounted = node.mount(&free, "free-mnt");
        assert!(fs::read(mounted.place.join("file")).unwrap() == noise(1, 4096));
        assert_eq!(node.client.mounts().unwrap().len(), 1);
        assert_eq!(answered.load(Ordering::Relaxed), 0, "the source did not hang long enough");
        // Those that wait ask the next server, and its source answers.
        fs::remove_file(hung.layout.join(HANG)).unwrap();
        watch(node.server()).kill();
    });
    assert_eq!(answered.load(Ordering::Relaxed), HUNG);
}

#[test]
fn privileged_a_client_that_hangs_up_gets_no_mount() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let hung = node.image("hung", fill);
    fs::write(hung.layout.join(HANG), "").unwrap();
    node.client.connect_or_start().unwrap();
    let connection = node.client.send_mount(&request(&hung)).unwrap();
    while node.client.info().unwrap().unwrap().opening == 0 {
        std::thread::yield_now();
    }
    drop(connection);
    fs::remove_file(hung.layout.join(HANG)).unwrap();
    // The reads that hang come to their deadline; then the image is opened for nobody.
    while node.client.info().unwrap().unwrap().opening > 0 {
        std::thread::yield_now();
    }
    assert!(node.client.mounts().unwrap().is_empty());
    assert!(!node.log().contains("mounted on"), "{}", node.log());
}
