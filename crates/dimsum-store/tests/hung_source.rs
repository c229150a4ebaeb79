//! A source that hangs takes no thread and no slot of another image. Alone in its process: it counts threads.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

#[expect(dead_code, reason = "the other scenarios use the rest")]
#[path = "store/common.rs"]
mod common;

use std::sync::{Arc, mpsc};

use common::{Reply, TestImage, open, read};
use dimsum_store::Extent;
use tokio::sync::Semaphore;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn sixty_four_hung_chunks_of_one_image_leave_another_alone() {
    let chunks = [2; 128];
    let (hanging, other) = (TestImage::new(1, 3, &[&chunks, &chunks]), TestImage::new(2, 3, &[&chunks]));
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (source_a, source_b) = (hanging.source("a"), other.source("b"));
    let a = store.image(hanging.manifest, vec![source_a.clone()]).unwrap();
    let b = store.image(other.manifest, vec![source_b]).unwrap();
    assert!(read(&b, &other.chunk(0, 0)).is_ok());
    let before = threads();

    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    source_a.hook(move |_, _, bytes| Reply::After(Arc::clone(&held), bytes));
    let (give, take) = mpsc::channel();
    // Every second chunk, so that they stay 64 requests.
    for chunk in 0..64 {
        let (give, range) = (give.clone(), hanging.chunk(0, chunk * 2));
        let must = hanging.expect(&range).to_vec();
        a.read(&[Extent::Flat { range }], move |result| give.send(result.unwrap().to_vec() == must).unwrap());
    }
    assert_eq!(threads(), before);
    // Cold and warm reads of B, and warm ones of A's other device are answered while A hangs.
    for _ in 0..2 {
        assert!(other.read_all(&b).is_empty());
    }
    assert_eq!(threads(), before);
    assert!(take.try_recv().is_err());
    assert!(source_a.asked(hanging.packs[0]).len() < 64, "the rest waits in A's own queue");

    permits.add_permits(1000);
    drop(give);
    assert_eq!(take.iter().filter(|right| *right).count(), 64);
    assert!(hanging.read_all(&a).is_empty());
}
