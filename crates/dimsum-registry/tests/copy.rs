//! Copies: shapes and digests are kept, what is there does not move, and an interrupted copy goes on where it stopped.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

#[path = "remote/real.rs"]
#[expect(dead_code, reason = "the registries of the client's tests; a part of them is used here")]
mod real;

use std::collections::BTreeSet;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dimsum_format::manifest::{Blob, Descriptor, Index, Platform};
use dimsum_format::{Digest, FormatError, media};
use dimsum_layout::{ArchiveTarget, OciLayout};
use dimsum_registry::Access;
use dimsum_source::{
    BoxFuture, CopyProgress, Document, Outcome, Place, Prefer, Reference, Role, Selection, Source, SourceError,
    SourceFault, Target as _, copy_image, is_twin,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use dimsum_testing::images::{descriptor, image, index, layer_tar, layout_with_image, noise, platform, put, tag};

/// A layout that counts what is read of its blobs.
#[derive(Debug)]
struct Counting {
    layout: OciLayout,
    bytes: Arc<AtomicU64>,
    /// Where reading began, in order.
    starts: Mutex<Vec<u64>>,
}

struct CountingReader(Box<dyn Read + Send>, Arc<AtomicU64>);

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Counting {
    fn open(dir: &Path) -> Self {
        let layout = OciLayout::open(dir, tag("v1")).unwrap();
        Self { layout, bytes: Arc::default(), starts: Mutex::default() }
    }

    fn take(&self) -> (u64, Vec<u64>) {
        (self.bytes.swap(0, Ordering::Relaxed), std::mem::take(&mut self.starts.lock().unwrap()))
    }
}

impl Source for Counting {
    fn name(&self) -> &str {
        Source::name(&self.layout)
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        self.layout.read_range(blob, range)
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.open_at(blob, 0)
    }

    fn open_at(&self, blob: Digest, start: u64) -> Result<Box<dyn Read + Send>, SourceError> {
        self.starts.lock().unwrap().push(start);
        Ok(Box::new(CountingReader(self.layout.open_at(blob, start)?, Arc::clone(&self.bytes))))
    }

    fn read_manifest(&self, digest: Digest) -> Result<Vec<u8>, SourceError> {
        self.layout.read_manifest(digest)
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        self.layout.size(blob)
    }
}

impl Place for Counting {
    fn reference(&self) -> &Reference {
        self.layout.reference()
    }

    fn root(&self) -> Result<Document, SourceError> {
        self.layout.root()
    }
}

/// Cancels when so many bytes have moved, and keeps what it was told.
#[derive(Default)]
struct Watch {
    until: Option<u64>,
    moved: AtomicU64,
    planned: Mutex<Option<(usize, usize, u64)>>,
    done: Mutex<Vec<(Digest, Outcome)>>,
}

impl CopyProgress for Watch {
    fn planned(&self, manifests: usize, blobs: usize, bytes: u64) {
        *self.planned.lock().unwrap() = Some((manifests, blobs, bytes));
    }

    fn blob_moved(&self, _blob: Blob, count: u64) {
        self.moved.fetch_add(count, Ordering::Relaxed);
    }

    fn blob_done(&self, blob: Blob, outcome: Outcome) {
        self.done.lock().unwrap().push((blob.digest, outcome));
    }

    fn cancelled(&self) -> bool {
        self.until.is_some_and(|until| self.moved.load(Ordering::Relaxed) >= until)
    }
}

struct Case(TempDir);

impl Case {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn source(&self) -> OciLayout {
        OciLayout::create(self.path("source"), tag("v1")).unwrap()
    }

    fn target(&self) -> OciLayout {
        OciLayout::create(self.path("target"), tag("v1")).unwrap()
    }

    fn partials(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("target/blobs")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect()
    }

    /// Puts an image of one incompressible layer and returns the layer.
    fn big(&self) -> Blob {
        image(&self.source(), "amd64", &[noise(4 << 20, 9)], Role::Root);
        let root = self.source().root().unwrap();
        let layer = dimsum_format::manifest::Manifest::parse(&root.bytes).unwrap().layers[0].clone();
        Blob { digest: layer.digest, size: layer.size }
    }

    fn blob(&self, digest: Digest) -> Vec<u8> {
        std::fs::read(self.path("target/blobs/sha256").join(digest.hex())).unwrap()
    }
}

fn digests(place: &OciLayout) -> BTreeSet<Digest> {
    let entries = std::fs::read_dir(place.dir().join("blobs/sha256")).unwrap();
    entries.map(|entry| Digest::from_hex(entry.unwrap().file_name().to_str().unwrap()).unwrap()).collect()
}

/// An index of two platforms, each with a twin and an attestation.
fn rich_index(layout: &OciLayout) -> Descriptor {
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let original = image(layout, architecture, &[layer_tar(architecture.as_bytes())], Role::Part);
        let mut twin =
            image(layout, architecture, &[layer_tar(b"as a twin"), layer_tar(architecture.as_bytes())], Role::Part);
        twin.artifact_type = Some(media::ARTIFACT_TYPE.into());
        let mut attestation = image(layout, "unknown", &[format!("attests {architecture}").into_bytes()], Role::Part);
        attestation.platform =
            Some(Platform { architecture: "unknown".into(), os: "unknown".into(), variant: None, os_version: None });
        let key = |key: &str| format!("vnd.docker.reference.{key}");
        attestation.annotations.insert(key("digest"), original.digest.to_string());
        attestation.annotations.insert(key("type"), "attestation-manifest".into());
        entries.extend([original, twin, attestation]);
    }
    index(layout, entries, Role::Root)
}

#[test]
fn an_index_is_copied_whole_and_the_second_time_nothing_moves() {
    let case = Case::new();
    let root = rich_index(&case.source());
    let (source, watch) = (Counting::open(&case.path("source")), Watch::default());
    let copied = copy_image(&source, &case.target(), &Selection::All, &watch).unwrap();
    assert_eq!(copied.root.digest, root.digest);
    assert_eq!((copied.manifests, copied.blobs.present, copied.blobs.moved), (7, 0, 6 + 5));
    assert_eq!(copied.blobs.moved_bytes, watch.moved.load(Ordering::Relaxed));
    assert_eq!(*watch.planned.lock().unwrap(), Some((7, 11, copied.blobs.moved_bytes)));
    assert_eq!(watch.done.lock().unwrap().len(), 11);
    assert_eq!(digests(&case.target()), digests(&case.source()));
    assert_eq!(case.target().root().unwrap().bytes, case.source().root().unwrap().bytes);

    source.take();
    let again = copy_image(&source, &case.target(), &Selection::All, &()).unwrap();
    assert_eq!(source.take(), (0, vec![]));
    assert_eq!((again.blobs.present, again.blobs.present_bytes), (11, copied.blobs.moved_bytes));
}

#[test]
fn chosen_platforms_keep_their_twins_and_attestations() {
    let case = Case::new();
    let root = rich_index(&case.source());
    let chosen = Selection::Platforms(vec![platform("arm64")]);
    let copied = copy_image(&case.source(), &case.target(), &chosen, &()).unwrap();
    let source = Index::parse(&case.source().root().unwrap().bytes).unwrap();
    let target = Index::parse(&case.target().root().unwrap().bytes).unwrap();
    assert_eq!(target.manifests, source.manifests[3..]);
    assert!(is_twin(&target.manifests[1]));
    assert_ne!(copied.root.digest, root.digest);
    assert_eq!(copied.manifests, 4);
    let again = copy_image(&case.source(), &case.target(), &chosen, &()).unwrap();
    assert_eq!(again.root, copied.root);
    // All that there is: the index keeps its bytes.
    let all = Selection::Platforms(vec![platform("arm64"), platform("amd64")]);
    assert_eq!(copy_image(&case.source(), &case.target(), &all, &()).unwrap().root.digest, root.digest);
    let none = Selection::Platforms(vec![platform("vax")]);
    let error = copy_image(&case.source(), &case.target(), &none, &()).unwrap_err().to_string();
    assert!(error.contains("linux/vax") && error.contains("linux/amd64, linux/arm64"), "{error}");
}

#[test]
fn one_image_of_an_index_becomes_the_root() {
    let case = Case::new();
    rich_index(&case.source());
    let manifests = Index::parse(&case.source().root().unwrap().bytes).unwrap().manifests;
    for (prefer, must) in [(Prefer::Original, &manifests[3]), (Prefer::Dimsum, &manifests[4])] {
        let one = Selection::One(platform("arm64"), prefer);
        let copied = copy_image(&case.source(), &case.target(), &one, &()).unwrap();
        assert_eq!((copied.root.digest, copied.manifests), (must.digest, 1));
        assert_eq!(case.target().root().unwrap().descriptor.digest, must.digest);
    }
}

#[test]
fn nested_indexes_are_followed_and_filtered_inside() {
    let case = Case::new();
    let layout = case.source();
    let entry = |architecture: &str| image(&layout, architecture, &[layer_tar(architecture.as_bytes())], Role::Part);
    let inner = index(&layout, vec![entry("amd64"), entry("arm64")], Role::Part);
    let other = index(&layout, vec![entry("s390x")], Role::Part);
    let root = index(&layout, vec![inner.clone(), other], Role::Root);
    let copied = copy_image(&layout, &case.target(), &Selection::All, &()).unwrap();
    assert_eq!((copied.root.digest, copied.manifests), (root.digest, 6));
    let chosen = Selection::Platforms(vec![platform("arm64")]);
    let copied = copy_image(&layout, &case.target(), &chosen, &()).unwrap();
    assert_eq!(copied.manifests, 3);
    let outer = Index::parse(&case.target().root().unwrap().bytes).unwrap().manifests;
    assert_eq!(outer.len(), 1);
    assert_ne!(outer[0].digest, inner.digest);
    let inside = Index::parse(&case.target().read_manifest(outer[0].digest).unwrap()).unwrap().manifests;
    assert_eq!((inside.len(), inside[0].platform.clone()), (1, Some(platform("arm64"))));
}

#[test]
fn a_filtered_index_keeps_what_is_not_known_here() {
    let case = Case::new();
    let layout = case.source();
    let entry = |architecture: &str| {
        let entry = image(&layout, architecture, &[layer_tar(architecture.as_bytes())], Role::Part);
        let mut value = serde_json::to_value(entry).unwrap();
        value["platform"]["os.features"] = json!(["x"]);
        value["data"] = json!("eA==");
        value
    };
    let document = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "x": 1, "manifests": [entry("amd64"), entry("arm64")], "y": 2 });
    layout.put_manifest(media::INDEX, document.to_string().as_bytes(), Role::Root).unwrap();
    copy_image(&layout, &case.target(), &Selection::Platforms(vec![platform("amd64")]), &()).unwrap();
    let written: Value = serde_json::from_slice(&case.target().root().unwrap().bytes).unwrap();
    let mut must = document;
    must["manifests"].as_array_mut().unwrap().pop();
    assert_eq!(written, must);
}

#[test]
fn an_interrupted_copy_goes_on_in_the_middle_of_a_blob() {
    let case = Case::new();
    let blob = case.big();
    let source = Counting::open(&case.path("source"));
    let watch = Watch { until: Some(1 << 20), ..Watch::default() };
    let error = copy_image(&source, &case.target(), &Selection::All, &watch).unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::Cancelled)), "{error}");
    assert!(case.target().root().is_err(), "the name stands for nothing yet");
    let (read, _) = source.take();
    let partials = case.partials();
    assert_eq!(partials.len(), 1);
    let kept = std::fs::metadata(&partials[0]).unwrap().len();
    assert!((1 << 20..blob.size).contains(&kept) && read >= kept, "{kept} of {} kept", blob.size);

    let copied = copy_image(&source, &case.target(), &Selection::All, &()).unwrap();
    let (_, starts) = source.take();
    assert!(starts.contains(&kept), "{starts:?}");
    let config = copied.blobs.present_bytes;
    assert!(copied.blobs.moved_bytes <= blob.size - kept + 1000 && config < 1000, "{copied:?}");
    assert_eq!(Digest::of(&case.blob(blob.digest)), blob.digest);
    assert_eq!(case.partials(), Vec::<PathBuf>::new());
}

#[test]
fn a_damaged_part_of_a_blob_is_fetched_again() {
    let case = Case::new();
    let blob = case.big();
    let partial = case.path(&format!("target/blobs/.dimsum-partial-{}", blob.digest.hex()));
    let source = Counting::open(&case.path("source"));
    // Flipped, longer than the blob, and whole but wrong.
    for length in [1_000_000, blob.size as usize + 1, blob.size as usize] {
        std::fs::remove_dir_all(case.path("target")).ok();
        case.target();
        std::fs::write(&partial, noise(length, 77)).unwrap();
        copy_image(&source, &case.target(), &Selection::All, &()).unwrap();
        assert_eq!(Digest::of(&case.blob(blob.digest)), blob.digest);
        assert_eq!(case.partials(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_second_copy_mends_what_was_damaged_since_the_first() {
    let case = Case::new();
    let blob = case.big();
    let source = Counting::open(&case.path("source"));
    copy_image(&source, &case.target(), &Selection::All, &()).unwrap();
    let mut bytes = case.blob(blob.digest);
    bytes[1_000_000] ^= 1;
    std::fs::write(case.path("target/blobs/sha256").join(blob.digest.hex()), bytes).unwrap();
    let copied = copy_image(&source, &case.target(), &Selection::All, &()).unwrap();
    assert_eq!(copied.blobs.moved_bytes, blob.size);
    assert_eq!(Digest::of(&case.blob(blob.digest)), blob.digest);
}

#[test]
fn a_finished_part_of_a_blob_is_not_fetched_again() {
    let case = Case::new();
    let blob = case.big();
    case.target();
    let bytes = std::fs::read(case.path("source/blobs/sha256").join(blob.digest.hex())).unwrap();
    std::fs::write(case.path(&format!("target/blobs/.dimsum-partial-{}", blob.digest.hex())), bytes).unwrap();
    let source = Counting::open(&case.path("source"));
    copy_image(&source, &case.target(), &Selection::All, &()).unwrap();
    assert!(source.take().0 < 1000, "only the config was read");
}

#[test]
fn a_source_that_lies_moves_no_name_and_leaves_no_part() {
    let case = Case::new();
    let old = layout_with_image(&case.path("target"));
    let blob = case.big();
    let path = case.path("source/blobs/sha256").join(blob.digest.hex());
    let right = std::fs::read(&path).unwrap();
    let mut flipped = right.clone();
    flipped[3_000_000] ^= 1;
    let long = [&right[..], b"x"].concat();
    for wrong in [&flipped[..], &long, &right[..right.len() - 1], &right[..100]] {
        std::fs::write(&path, wrong).unwrap();
        let error = copy_image(&case.source(), &case.target(), &Selection::All, &()).unwrap_err();
        assert!(matches!(error.detail(), Some(SourceFault::Digest { .. })), "{error}");
        assert_eq!(case.partials(), Vec::<PathBuf>::new());
        assert_eq!(case.target().root().unwrap().descriptor.digest, old.digest);
    }
}

#[test]
fn a_blob_that_somebody_else_copies_is_copied_beside_it() {
    let case = Case::new();
    let blob = case.big();
    case.target();
    let partial = case.path(&format!("target/blobs/.dimsum-partial-{}", blob.digest.hex()));
    let other = std::fs::File::create(&partial).unwrap();
    other.lock().unwrap();
    copy_image(&case.source(), &case.target(), &Selection::All, &()).unwrap();
    assert_eq!(Digest::of(&case.blob(blob.digest)), blob.digest);
    assert!(partial.exists(), "it is the other's");
    drop(other);
    case.target();
    assert!(!partial.exists(), "nobody writes it and its blob is whole");
}

#[test]
fn forgotten_parts_of_blobs_do_not_pile_up() {
    let case = Case::new();
    case.target();
    for number in 0..40u32 {
        let digest = Digest::of(&number.to_le_bytes());
        std::fs::write(case.path(&format!("target/blobs/.dimsum-partial-{}", digest.hex())), b"x").unwrap();
    }
    case.target();
    assert_eq!(case.partials().len(), 16);
}

#[test]
fn an_interrupted_archive_goes_on_too() {
    let case = Case::new();
    let blob = case.big();
    let (source, file) = (Counting::open(&case.path("source")), case.path("a.tar"));
    let target = || ArchiveTarget::oci(&file, tag("v1")).unwrap();
    let watch = Watch { until: Some(1 << 20), ..Watch::default() };
    copy_image(&source, &target(), &Selection::All, &watch).unwrap_err();
    assert!(!file.exists());
    source.take();
    copy_image(&source, &target(), &Selection::All, &()).unwrap();
    assert!(source.take().0 < blob.size - (1 << 20) + 1000);
    let archive = dimsum_layout::Archive::open_oci(&file, tag("v1")).unwrap();
    let mut bytes = Vec::new();
    archive.open(blob.digest).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), blob.digest);
}

#[test]
fn layers_that_lie_elsewhere_are_named_but_not_moved() {
    let case = Case::new();
    let layout = case.source();
    let root = image(&layout, "amd64", &[layer_tar(b"own")], Role::Part);
    let mut manifest: Value = serde_json::from_slice(&layout.read_manifest(root.digest).unwrap()).unwrap();
    let mut foreign =
        serde_json::to_value(descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"far")).unwrap();
    foreign["urls"] = json!(["https://example.com/layer"]);
    manifest["layers"].as_array_mut().unwrap().push(foreign);
    let bytes = manifest.to_string();
    layout.put_manifest(media::MANIFEST, bytes.as_bytes(), Role::Root).unwrap();
    let copied = copy_image(&layout, &case.target(), &Selection::All, &()).unwrap();
    assert_eq!((copied.blobs.moved, copied.blobs.skipped), (2, 1));
    assert_eq!(case.target().root().unwrap().bytes, bytes.as_bytes());
    let file = case.path("a.tar");
    copy_image(&layout, &ArchiveTarget::oci(&file, None).unwrap(), &Selection::All, &()).unwrap();
}

#[test]
fn what_is_missing_is_named_and_everything_else_stays_for_the_next_attempt() {
    let case = Case::new();
    layout_with_image(&case.path("source"));
    let blob = case.source().root().unwrap();
    let layer = dimsum_format::manifest::Manifest::parse(&blob.bytes).unwrap().layers[1].digest;
    let path = case.path("source/blobs/sha256").join(layer.hex());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = copy_image(&case.source(), &case.target(), &Selection::All, &()).unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::NotFound { digest, .. }) if *digest == layer), "{error}");
    std::fs::write(&path, bytes).unwrap();
    let copied = copy_image(&case.source(), &case.target(), &Selection::All, &()).unwrap();
    assert!(copied.blobs.present + copied.blobs.moved == 3 && copied.blobs.moved >= 1, "{copied:?}");
}

#[test]
fn absurd_indexes_are_refused() {
    let case = Case::new();
    let layout = case.source();
    let mut nested = image(&layout, "amd64", &[layer_tar(b"x")], Role::Part);
    let mut lying = nested.clone();
    for _ in 0..6 {
        nested = index(&layout, vec![nested], Role::Root);
    }
    let limit = |error: SourceError| match error.detail() {
        Some(SourceFault::Format { source: FormatError::Limit { part, .. } | FormatError::Mismatch { part, .. } }) => {
            *part
        }
        _ => panic!("{error}"),
    };
    let copy = || copy_image(&case.source(), &case.target(), &Selection::All, &()).unwrap_err();
    assert_eq!(limit(copy()), "depth of nested indexes");
    lying.size += 1;
    index(&layout, vec![lying], Role::Root);
    assert_eq!(limit(copy()), "length of a manifest");
    // One blob under two lengths: one of them is a lie.
    let bytes = put(&layout, b"blob");
    let entry = |size: u64| json!({ "mediaType": "text/plain", "digest": bytes, "size": size });
    let document = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [entry(4), entry(5)] });
    layout.put_manifest(media::INDEX, document.to_string().as_bytes(), Role::Root).unwrap();
    assert_eq!(limit(copy()), "length of a blob");
}

#[test]
fn between_repositories_of_a_registry_blobs_are_mounted() {
    let Some(registry) = real::Kind::Debian.start() else { return };
    let network = real::network(Access::default());
    let case = Case::new();
    let root = rich_index(&case.source());
    let (first, second) = (registry.reference("a/first:v1"), registry.reference("b/second:v1"));
    let copy = |from: &Reference, to: &Reference| {
        let (from, to) = (network.open(from).unwrap(), network.create(to).unwrap());
        copy_image(&*from, &*to, &Selection::All, &()).unwrap()
    };
    let up = copy_image(&case.source(), &*network.create(&first).unwrap(), &Selection::All, &()).unwrap();
    assert_eq!((up.root.digest, up.blobs.moved, up.blobs.mounted), (root.digest, 11, 0));
    let across = copy(&first, &second);
    assert_eq!((across.root.digest, across.blobs.mounted, across.blobs.moved_bytes), (root.digest, 11, 0));
    assert_eq!(across.blobs.mounted_bytes, up.blobs.moved_bytes);
    let again = copy(&first, &second);
    assert_eq!((again.blobs.present, again.blobs.mounted), (11, 0));
    copy_image(&*network.open(&second).unwrap(), &case.target(), &Selection::All, &()).unwrap();
    assert_eq!(digests(&case.target()), digests(&case.source()));
}

#[test]
fn an_interrupted_pull_goes_on_in_the_middle_of_a_blob() {
    let Some(registry) = real::Kind::Debian.start() else { return };
    let network = real::network(Access::default());
    let case = Case::new();
    let blob = case.big();
    let name = registry.reference("a/big:v1");
    copy_image(&case.source(), &*network.create(&name).unwrap(), &Selection::All, &()).unwrap();
    let watch = Watch { until: Some(1 << 20), ..Watch::default() };
    let pull = |progress: &Watch| copy_image(&*network.open(&name).unwrap(), &case.target(), &Selection::All, progress);
    pull(&watch).unwrap_err();
    let kept = std::fs::metadata(&case.partials()[0]).unwrap().len();
    assert!(kept >= 1 << 19);
    let copied = pull(&Watch::default()).unwrap();
    assert!(copied.blobs.moved_bytes <= blob.size - kept + 1000, "{copied:?}");
    assert_eq!(Digest::of(&case.blob(blob.digest)), blob.digest);
}
