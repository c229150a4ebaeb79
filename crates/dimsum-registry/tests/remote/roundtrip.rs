//! What is pushed can be pulled, from each registry that is there.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dimsum_format::{Digest, media};
use dimsum_registry::{Access, Network};
use dimsum_source::{Place, Reference, Role, SourceError, SourceFault};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::content::{Image, blob, go_on, write};
use crate::real::{KINDS, Kind, network};

/// Reads a range on the runtime, where ranges are read.
pub(crate) fn range(
    network: &Network,
    place: &Arc<dyn Place>,
    blob: Digest,
    range: Range<u64>,
) -> Result<Bytes, SourceError> {
    let place = Arc::clone(place);
    network.runtime().wait(async move { place.read_range(blob, range).await }).unwrap()
}

fn each(test: impl Fn(Kind, &Network, &dyn Fn(&str) -> Reference)) {
    for kind in KINDS {
        let Some(registry) = kind.start() else { continue };
        test(kind, &network(Access::default()), &|name| registry.reference(name));
    }
}

#[test]
fn what_is_pushed_is_pulled() {
    each(|kind, network, reference| {
        println!("{kind:?}");
        let image = Image::new(1);
        let reference = reference("a/b:v1");
        image.push(&*network.create(&reference).unwrap());
        image.compare(&*network.open(&reference).unwrap());
        // Another process, with nothing known.
        let fresh = self::network(Access::default());
        image.compare(&*fresh.open(&reference).unwrap());
    });
}

#[test]
fn ranges_are_exact_and_ends_are_errors() {
    each(|kind, network, reference| {
        let image = Image::new(2);
        let reference = reference("a/b:v1");
        image.push(&*network.create(&reference).unwrap());
        let place = network.open(&reference).unwrap();
        let (bytes, blob) = (&image.layers[1], blob(&image.layers[1]));
        for (start, end) in [(0, 1), (0, 100_000), (5, 6), (4_000_000, 9_000_000), (8_999_999, 9_000_000), (7, 7)] {
            let read = range(network, &place, blob.digest, start as u64..end as u64).unwrap();
            assert_eq!(read, bytes[start..end], "{kind:?} {start}..{end}");
        }
        let behind = range(network, &place, blob.digest, 8_999_999..9_000_001);
        assert!(matches!(dimsum_testing::fault(&behind), Some(SourceFault::Range { .. })), "{kind:?}: {behind:?}");
        let behind = range(network, &place, blob.digest, 9_000_000..9_000_001);
        assert!(matches!(dimsum_testing::fault(&behind), Some(SourceFault::Range { .. })), "{kind:?}: {behind:?}");
        let absent = range(network, &place, Digest::of(b"absent"), 0..1);
        assert!(matches!(dimsum_testing::fault(&absent), Some(SourceFault::NotFound { .. })), "{kind:?}: {absent:?}");
        let from = Arc::clone(&place);
        let pieces = network.runtime().wait(async move {
            let pieces: Vec<_> = from.stream_range(blob.digest, 1_000_000..8_000_000).collect().await;
            pieces.into_iter().collect::<Result<Vec<_>, _>>()
        });
        assert_eq!(pieces.unwrap().unwrap().concat(), bytes[1_000_000..8_000_000], "{kind:?}");
    });
}

#[test]
fn a_blob_is_uploaded_when_its_digest_is_known() {
    each(|_, network, reference| {
        let target = network.create(&reference("a/b:v1")).unwrap();
        for length in [0, 1, 4 << 20, (4 << 20) + 1, 10_000_000] {
            let bytes = crate::content::bytes(length as u64, length);
            write(&*target, &bytes);
            write(&*target, &bytes);
            assert!(target.has(Digest::of(&bytes), length as u64).unwrap());
            assert!(!target.has(Digest::of(&bytes), length as u64 + 1).unwrap());
        }
    });
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    each(|kind, network, reference| {
        let image = Image::new(3);
        image.push(&*network.create(&reference("a/b:v1")).unwrap());
        let first = reference("a/b:v1");
        let repository = first.repository().unwrap();
        let target = network.create(&reference("c/d:v1")).unwrap();
        let layer = blob(&image.layers[1]);
        let mounted = target.mount_blob(layer, repository).unwrap();
        assert!(mounted || kind == Kind::Crane, "{kind:?}");
        assert!(target.has(layer.digest, layer.size).unwrap() || !mounted, "{kind:?}");
        let absent = target.mount_blob(blob(b"absent"), repository).unwrap();
        assert!(!absent || kind == Kind::Crane, "{kind:?}");
        image.push(&*target);
        image.compare(&*network.open(&reference("c/d:v1")).unwrap());
    });
}

#[test]
fn parts_are_named_by_their_digest_and_the_root_by_the_tag() {
    each(|kind, network, reference| {
        let image = Image::new(4);
        let target = network.create(&reference("a/b:all")).unwrap();
        for bytes in image.blobs() {
            target.copy_blob(blob(bytes), &image.layout(), &go_on).unwrap();
        }
        target.put_manifest(media::MANIFEST, &image.manifest, Role::Part).unwrap();
        let descriptor = json!({ "mediaType": media::MANIFEST, "digest": image.digest(), "size": image.manifest.len(),
            "platform": { "architecture": "amd64", "os": "linux" } });
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [descriptor] });
        let index = serde_json::to_vec(&index).unwrap();
        target.put_manifest(media::INDEX, &index, Role::Root).unwrap();
        let place = network.open(&reference("a/b:all")).unwrap();
        let root = place.root().unwrap();
        assert_eq!((root.bytes, &*root.descriptor.media_type), (index, media::INDEX), "{kind:?}");
        let pinned = network.open(&reference(&format!("a/b@{}", image.digest()))).unwrap();
        image.compare(&*pinned);
    });
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_not_uploaded() {
    each(|kind, network, reference| {
        let image = Image::new(5);
        let target = network.create(&reference("a/b:v1")).unwrap();
        for bytes in image.blobs() {
            let right = blob(bytes);
            let mut file = bytes.clone();
            *file.last_mut().unwrap() ^= 1;
            let path = image.dir.path().join("blobs/sha256").join(right.digest.hex());
            for wrong in [&file[..], &bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat()] {
                std::fs::write(&path, wrong).unwrap();
                let copied = target.copy_blob(right, &image.layout(), &go_on);
                assert!(
                    matches!(dimsum_testing::fault(&copied), Some(SourceFault::Digest { .. })),
                    "{kind:?}: {copied:?}"
                );
                assert!(!target.has(right.digest, right.size).unwrap());
            }
        }
    });
}

#[test]
fn progress_counts_each_byte_and_can_stop() {
    each(|kind, network, reference| {
        let image = Image::new(6);
        let target = network.create(&reference("a/b:v1")).unwrap();
        for bytes in image.blobs() {
            let stopped = target.copy_blob(blob(bytes), &image.layout(), &|_| std::ops::ControlFlow::Break(()));
            assert!(matches!(dimsum_testing::fault(&stopped), Some(SourceFault::Cancelled)), "{kind:?}: {stopped:?}");
            let moved = AtomicU64::new(0);
            let count = |bytes| {
                moved.fetch_add(bytes, Ordering::Relaxed);
                go_on(bytes)
            };
            target.copy_blob(blob(bytes), &image.layout(), &count).unwrap();
            assert_eq!(moved.into_inner(), bytes.len() as u64, "{kind:?}");
        }
    });
}

#[test]
fn a_blob_that_was_written_first_is_not_sent_if_nobody_wants_it_any_more() {
    each(|kind, network, reference| {
        let image = Image::new(7);
        let target = network.create(&reference("a/b:v1")).unwrap();
        for bytes in image.blobs() {
            let blob = blob(bytes);
            let mut writer = target.start_blob().unwrap();
            writer.write_all(bytes).unwrap();
            let stopped = writer.commit(blob.digest, blob.size, &|_| std::ops::ControlFlow::Break(()));
            assert!(matches!(dimsum_testing::fault(&stopped), Some(SourceFault::Cancelled)), "{kind:?}: {stopped:?}");
            assert!(!target.has(blob.digest, blob.size).unwrap(), "{kind:?}");
        }
    });
}

#[test]
fn what_is_not_there_is_said_so() {
    each(|kind, network, reference| {
        let root = network.open(&reference("a/b:v1")).unwrap().root();
        assert!(matches!(dimsum_testing::fault(&root), Some(SourceFault::Name { .. })), "{kind:?}: {root:?}");
        let pinned = network.open(&reference(&format!("a/b@{}", Digest::of(b"")))).unwrap().root();
        assert!(matches!(dimsum_testing::fault(&pinned), Some(SourceFault::NotFound { .. })), "{kind:?}: {pinned:?}");
        let pinned = network.create(&reference(&format!("a/b@{}", Digest::of(b""))));
        assert!(matches!(dimsum_testing::fault(&pinned), Some(SourceFault::Target { .. })), "{kind:?}");
    });
}
