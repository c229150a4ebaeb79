//! A source that hangs costs its own image's readers only.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{HANG, Node, can_mount, forget_pages, noise, watch};

/// Each a chunk of its own.
const FILES: u64 = 64;
const LENGTH: usize = 256 << 10;

#[test]
fn privileged_64_hung_chunks_of_one_image_leave_the_other_alone() {
    if !can_mount() {
        return;
    }
    let node = Node::new();
    let fill = |seed: u64| {
        move |tree: &Path| {
            for number in 0..FILES {
                fs::write(tree.join(number.to_string()), noise(seed + number, LENGTH)).unwrap();
            }
        }
    };
    let (a, b) = (node.image("a", fill(1000)), node.image("b", fill(2000)));
    let (hung, free) = (node.mount(&a, "hung"), node.mount(&b, "free"));
    let server = node.server();
    // Everything that a read needs has been started once.
    assert!(fs::read(free.place.join("0")).unwrap() == noise(2000, LENGTH));
    assert!(fs::read(hung.place.join("0")).unwrap() == noise(1000, LENGTH));
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{server}/task")).unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("fuse-")).count()
    };
    let before = threads();
    for number in 1..FILES {
        assert!(fs::read(free.place.join(number.to_string())).unwrap() == noise(2000 + number, LENGTH));
    }
    let usual = p99(&free.place);
    fs::write(a.layout.join(HANG), "").unwrap();
    std::thread::scope(|scope| {
        for number in 1..FILES {
            let path = hung.place.join(number.to_string());
            scope.spawn(move || {
                let mut bytes = [0; 4096];
                File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
                assert!(bytes[..] == noise(1000 + number, LENGTH)[..4096]);
            });
        }
        while node.info(hung.id).stats.session.parked < FILES - 1 {
            std::thread::yield_now();
        }
        for number in 1..FILES {
            let file = File::open(free.place.join(number.to_string())).unwrap();
            let mut bytes = vec![0; LENGTH];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == noise(2000 + number, LENGTH));
            // And again with the store warm.
            forget_pages(&file);
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes == noise(2000 + number, LENGTH));
        }
        println!("p99 of a 4 KiB read, page cache cold: {usual:?}, beside 63 hung reads {:?}", p99(&free.place));
        assert!(node.info(hung.id).stats.session.parked >= FILES - 1, "the source did not hang long enough");
        assert_eq!(threads(), before);
        // The next server asks the source anew, so that nobody has to wait for the deadline.
        fs::remove_file(a.layout.join(HANG)).unwrap();
        watch(server).kill();
    });
}

/// Returns the 99th percentile of reads of one block that the server is asked for.
fn p99(place: &Path) -> Duration {
    let files: Vec<File> = (1..FILES).map(|number| File::open(place.join(number.to_string())).unwrap()).collect();
    let mut times: Vec<Duration> = (0..2000_usize)
        .map(|number| {
            let file = &files[number * 31 % files.len()];
            forget_pages(file);
            let offset = (number * 7919 % (LENGTH / 4096) * 4096) as u64;
            let start = Instant::now();
            file.read_exact_at(&mut [0; 4096], offset).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() * 99 / 100]
}
