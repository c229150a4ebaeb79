//! A layout on a file system that does not answer costs nobody but those who read it.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::future::poll_fn;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use dimsum_format::Digest;
use dimsum_fuse::mount::{MountOptions, attach, detach, open_detached};
use dimsum_layout::OciLayout;
use dimsum_source::{Runtime, Source as _, Target as _};
use dimsum_testing::{path_or_skip, root_or_skip};
use tempfile::TempDir;

/// More than any limit of one layout.
const READS: usize = 64;
/// When a read that does not come counts as one that never does.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn privileged_reads_that_hang_in_one_layout_leave_threads_for_another() {
    if !(root_or_skip() && path_or_skip("/dev/fuse")) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let (dead, alive) = (layout(&dir, "dead"), layout(&dir, "alive"));
    let blob = Digest::of(b"blob");
    // A FUSE file system that nobody serves does not even answer a lookup.
    let blobs = dir.path().join("dead/blobs/sha256");
    let unserved = open_detached(&MountOptions::new("unserved")).unwrap();
    attach(&unserved.mount, &blobs).unwrap();

    let runtime = Runtime::start().unwrap();
    let (give, take) = mpsc::channel();
    runtime.spawn(async move {
        let mut hung: Vec<_> = (0..READS).map(|_| dead.read_range(blob, 0..4)).collect();
        // Polled once, each has its thread or stands in line for one before the other layout is asked.
        poll_fn(|context| {
            assert!(hung.iter_mut().all(|read| read.as_mut().poll(context).is_pending()));
            Poll::Ready(())
        })
        .await;
        drop(give.send(alive.read_range(blob, 0..4).await));
    });
    let read = take.recv_timeout(PATIENCE);

    // Lets the others go, so that the runtime can end: without its session the file system answers with an error.
    drop(unserved);
    detach(&blobs, true).unwrap();
    assert_eq!(&read.unwrap().unwrap()[..], b"blob");
}

fn layout(dir: &TempDir, name: &str) -> OciLayout {
    let layout = OciLayout::create(dir.path().join(name), None).unwrap();
    let mut blob = layout.start_blob().unwrap();
    blob.write_all(b"blob").unwrap();
    blob.commit(Digest::of(b"blob"), 4, &|_| std::ops::ControlFlow::Continue(())).unwrap();
    layout
}
