//! The server is killed under its readers.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dimsum_node::umount;

use crate::support::{HANG, Node, can_mount, forget_pages, noise, watch};

const FILES: u64 = 16;
const LENGTH: usize = 1 << 20;
const READERS: u64 = 4;
const KILLS: u32 = 50;

fn fill(tree: &Path) {
    for number in 0..FILES {
        fs::write(tree.join(number.to_string()), noise(number + 1, LENGTH)).unwrap();
    }
}

/// The control file system of FUSE, mounted by this test if nobody has.
struct Control {
    directory: PathBuf,
    ours: bool,
}

impl Control {
    fn new(node: &Node) -> Self {
        let known = Path::new("/sys/fs/fuse/connections");
        if fs::read_dir(known).is_ok_and(|mut entries| entries.next().is_some()) {
            return Self { directory: known.to_owned(), ours: false };
        }
        let directory = node.directory.path().join("control");
        fs::create_dir(&directory).unwrap();
        rustix::mount::mount("fusectl", &directory, "fusectl", rustix::mount::MountFlags::empty(), None).unwrap();
        Self { directory, ours: true }
    }

    /// How many requests of the mount wait for an answer now.
    fn waiting(&self, place: &Path) -> u64 {
        let device = rustix::fs::minor(fs::metadata(place).unwrap().dev());
        let text = fs::read_to_string(self.directory.join(format!("{device}/waiting"))).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.ours {
            rustix::mount::unmount(&self.directory, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
}

#[test]
fn privileged_readers_get_right_bytes_while_servers_are_killed() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = node.image("image", fill);
    let mounted = node.mount(&image, "mnt");
    let control = Control::new(&node);
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut in_flight = 0;
    std::thread::scope(|scope| {
        // Ends the readers also when this thread fails.
        let stop = Stop(&done);
        for reader in 0..READERS {
            let (done, reads, place) = (&done, &reads, &mounted.place);
            scope.spawn(move || read_until(done, reads, place, reader));
        }
        for _ in 0..KILLS {
            let server = watch(node.server());
            let mut waiting = 0;
            while waiting == 0 {
                waiting = control.waiting(&mounted.place);
            }
            server.kill();
            in_flight += waiting;
            server.wait();
        }
        // All of them go on with the last server.
        let enough = reads.load(Ordering::Relaxed) + 4 * READERS * FILES;
        while reads.load(Ordering::Relaxed) < enough {
            std::thread::yield_now();
        }
        drop(stop);
    });
    assert!(in_flight >= u64::from(KILLS));
    let stats = node.info(mounted.id).stats;
    assert_eq!((stats.driver.errors, stats.image.source_failures), (0, 0), "{stats:?}\n{}", node.log());
    umount(&mounted.place, false).unwrap();
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads files at changing places, each time from the server, and holds every byte against what it must be.
fn read_until(done: &AtomicBool, reads: &AtomicU64, place: &Path, reader: u64) {
    let contents: Vec<Vec<u8>> = (0..FILES).map(|number| noise(number + 1, LENGTH)).collect();
    let mut step = reader * 7919;
    while !done.load(Ordering::Relaxed) {
        step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (step >> 33) % FILES;
        let file = File::open(place.join(number.to_string())).unwrap();
        forget_pages(&file);
        let length = if step & (1 << 40) == 0 { 4096 } else { 300_000 };
        let offset = (step >> 20) as usize % (LENGTH - length);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset as u64).unwrap();
        assert!(bytes == contents[number as usize][offset..offset + length], "file {number} at {offset}");
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn privileged_an_image_that_cannot_be_opened_again_is_eio_and_comes_back() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = node.image("image", fill);
    let mounted = node.mount(&image, "mnt");
    let path = mounted.place.join("0");
    let file = File::open(&path).unwrap();
    let server = watch(node.server());
    // Manifest and config are needed to open it; they are nowhere now.
    let (images, hidden) = (node.client.store().join("images"), node.client.store().join("hidden"));
    fs::rename(&images, &hidden).unwrap();
    fs::rename(&image.layout, node.directory.path().join("hidden")).unwrap();
    server.kill();
    server.wait();
    forget_pages(&file);
    let mut bytes = vec![0; 4096];
    assert_eq!(file.read_exact_at(&mut bytes, 0).unwrap_err().raw_os_error(), Some(5), "{}", node.log());
    assert!(node.info(mounted.id).broken.is_some());
    if images.exists() {
        fs::remove_dir_all(&images).unwrap();
    }
    fs::rename(&hidden, &images).unwrap();
    fs::rename(node.directory.path().join("hidden"), &image.layout).unwrap();
    // It is tried again when somebody reads, after a while.
    while file.read_exact_at(&mut bytes, 0).is_err() {
        std::thread::yield_now();
    }
    assert!(bytes == noise(1, LENGTH)[..4096]);
    assert_eq!(node.info(mounted.id).broken, None);
}

#[test]
fn privileged_a_read_that_waited_for_a_source_is_answered_by_the_next_server() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let image = node.image("image", fill);
    let mounted = node.mount(&image, "mnt");
    fs::write(image.layout.join(HANG), "").unwrap();
    let path = mounted.place.join("3");
    let reader = std::thread::spawn(move || fs::read(path));
    while node.info(mounted.id).stats.session.parked == 0 {
        std::thread::yield_now();
    }
    let server = watch(node.server());
    fs::remove_file(image.layout.join(HANG)).unwrap();
    server.kill();
    assert!(reader.join().unwrap().unwrap() == noise(4, LENGTH));
    assert!(node.info(mounted.id).stats.session.resent > 0);
}
