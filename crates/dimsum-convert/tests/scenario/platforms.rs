//! Images of several platforms: the shape is kept, originals stand before their Dimsum images, what is no image
//! stays out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dimsum_convert::{
    Choice, ConversionPhase, ConversionProgress, ConvertError, ConvertedRoot, SkipReason, convert_all,
};
use dimsum_format::manifest::{Descriptor, ImageConfig, Index, Manifest, Platform};
use dimsum_format::{Digest, media};
use dimsum_layout::{ArchiveTarget, OciLayout};
use dimsum_source::{
    ImageName, Place as _, Prefer, Role, Selection, Source as _, Target as _, copy_image, is_twin, resolve,
};
use serde_json::json;
use tempfile::TempDir;

use crate::reader::{Node, read};
use crate::sources::{Layer, noise, small_options};
use crate::tar::{Packing, file};

struct Images(TempDir);

fn tag(tag: &str) -> Option<ImageName> {
    Some(ImageName::Tag(tag.into()))
}

fn platform(os: &str, architecture: &str) -> Platform {
    Platform { architecture: architecture.into(), os: os.into(), variant: None, os_version: None }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        artifact_type: None,
        annotations: Default::default(),
    }
}

impl Images {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn layout(&self, name: &str) -> OciLayout {
        OciLayout::create(self.0.path().join(name), tag("v1")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, bytes: &[u8]) {
        let layout = self.layout("source");
        let mut blob = layout.start_blob().unwrap();
        blob.write_all(bytes).unwrap();
        blob.commit(Digest::of(bytes), bytes.len() as u64, &|_| std::ops::ControlFlow::Continue(())).unwrap();
    }

    /// Puts an image with a file `arch` that says what it is for.
    fn image(&self, os: &str, architecture: &str, role: Role) -> Descriptor {
        let content = [architecture.as_bytes(), &noise(100_000, architecture.len() as u64)].concat();
        let layer = Layer::new(&[file("arch", content)], Packing::Gzip);
        let config = json!({
            "architecture": architecture,
            "os": os,
            "rootfs": { "type": "layers", "diff_ids": [layer.diff_id.to_string()] },
        });
        let config = serde_json::to_vec(&config).unwrap();
        self.put(&config);
        self.put(&layer.blob);
        self.manifest(
            media::CONFIG,
            &config,
            &[descriptor(layer.media_type, &layer.blob)],
            role,
            platform(os, architecture),
        )
    }

    fn manifest(
        &self,
        config_type: &str,
        config: &[u8],
        layers: &[Descriptor],
        role: Role,
        is: Platform,
    ) -> Descriptor {
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media::MANIFEST.into()),
            artifact_type: None,
            subject: None,
            config: descriptor(config_type, config),
            layers: layers.to_vec(),
            annotations: Default::default(),
        };
        let bytes = manifest.to_bytes();
        self.layout("source").put_manifest(media::MANIFEST, &bytes, role).unwrap();
        Descriptor { platform: Some(is), ..descriptor(media::MANIFEST, &bytes) }
    }

    fn attestation(&self, of: &Descriptor) -> Descriptor {
        let statement = format!("{{\"of\":\"{}\"}}", of.digest);
        self.put(statement.as_bytes());
        self.put(b"{}");
        let layer = descriptor("application/vnd.in-toto+json", statement.as_bytes());
        self.manifest(media::CONFIG, b"{}", &[layer], Role::Part, platform("unknown", "unknown"))
    }

    fn index(&self, manifests: Vec<Descriptor>, role: Role) -> Descriptor {
        let annotations = BTreeMap::from([("org.example".to_owned(), "kept".to_owned())]);
        let bytes =
            Index { schema_version: 2, media_type: Some(media::INDEX.into()), manifests, annotations }.to_bytes();
        self.layout("source").put_manifest(media::INDEX, &bytes, role).unwrap();
        descriptor(media::INDEX, &bytes)
    }

    /// Two platforms with attestations, one of them in an index of its own, an image for Windows, an artifact.
    fn rich(&self) -> [Descriptor; 2] {
        let (amd64, arm64) = (self.image("linux", "amd64", Role::Part), self.image("linux", "arm64", Role::Part));
        let windows = self.image("windows", "amd64", Role::Part);
        let artifact = descriptor("text/plain", b"artifact");
        self.put(b"artifact");
        let nested = self.index(vec![arm64.clone(), self.attestation(&arm64)], Role::Part);
        self.index(vec![amd64.clone(), nested, windows, self.attestation(&amd64), artifact], Role::Root);
        [amd64, arm64]
    }

    fn convert(&self, target: &str, choice: &Choice) -> Result<ConvertedRoot, ConvertError> {
        convert_all(&self.layout("source"), &self.layout(target), choice, &small_options(), &())
    }

    fn manifests(&self, target: &str) -> Vec<Descriptor> {
        Index::parse(&self.layout(target).root().unwrap().bytes).unwrap().manifests
    }

    /// The platform that the content of an image is for.
    fn content(&self, target: &str, manifest: Digest) -> String {
        match &read(&self.path(target), manifest).tree()["arch"] {
            Node::File(bytes) => {
                bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric()).take(5).map(|&byte| byte as char).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn with_original() -> Choice<'static> {
    Choice { with_original: true, ..Choice::default() }
}

#[test]
fn an_index_becomes_an_index_of_its_images() {
    let images = Images::new();
    let originals = images.rich();
    let converted = images.convert("target", &Choice::default()).unwrap();
    let root = images.layout("target").root().unwrap();
    assert_eq!(root.descriptor.digest, converted.root.digest);
    assert_eq!((root.bytes.len() as u64, &*converted.root.media_type), (converted.root.size, media::INDEX));
    assert_eq!(Index::parse(&root.bytes).unwrap().annotations["org.example"], "kept");
    let manifests = images.manifests("target");
    assert_eq!(manifests.len(), 2);
    for ((entry, original), image) in manifests.iter().zip(&originals).zip(&converted.images) {
        assert_eq!(entry.platform, original.platform);
        assert_eq!(entry.annotations[media::ANNOTATION_SOURCE_MANIFEST], original.digest.to_string());
        assert_eq!(entry.artifact_type, None, "where there is no original, it is the image");
        assert_eq!((image.source, image.converted.manifest), (original.digest, entry.digest));
        assert!(original.platform.as_ref().unwrap().architecture.starts_with(&images.content("target", entry.digest)));
        let bytes = images.layout("target").read_manifest(entry.digest).unwrap();
        assert_eq!(bytes.len() as u64, entry.size);
    }
    let reasons: Vec<_> = converted.left_out.iter().map(|each| each.reason).collect();
    assert_eq!(reasons, [SkipReason::NoImage, SkipReason::Windows, SkipReason::NoImage, SkipReason::NoImage]);
}

#[test]
fn originals_stand_before_their_dimsum_images_and_every_tool_finds_its_own() {
    let images = Images::new();
    let originals = images.rich();
    let converted = images.convert("target", &with_original()).unwrap();
    let manifests = images.manifests("target");
    assert_eq!(manifests.len(), 4);
    for (pair, original) in manifests.chunks(2).zip(&originals) {
        assert_eq!(&pair[0], original);
        assert!(is_twin(&pair[1]));
        assert_eq!(pair[1].platform, original.platform);
        assert_eq!(pair[1].annotations[media::ANNOTATION_SOURCE_MANIFEST], original.digest.to_string());
        let layout = images.layout("target");
        let find = |prefer| resolve(&layout, original.platform.as_ref().unwrap(), prefer).unwrap().descriptor.digest;
        assert_eq!((find(Prefer::Original), find(Prefer::Dimsum)), (pair[0].digest, pair[1].digest));
    }
    // The target holds the originals whole: it can be copied on, and moves nothing that is there.
    assert!(converted.images.iter().all(|image| image.original.as_ref().unwrap().blobs.moved == 2));
    copy_image(&images.layout("target"), &images.layout("copy"), &Selection::All, &()).unwrap();
    assert_eq!(images.layout("copy").root().unwrap().bytes, images.layout("target").root().unwrap().bytes);
    let again = images.convert("target", &with_original()).unwrap();
    assert!(again.images.iter().all(|image| image.original.as_ref().unwrap().blobs.moved == 0));
    assert_eq!(again.root, converted.root);
}

#[test]
fn chosen_platforms_are_converted_and_the_others_reported() {
    let images = Images::new();
    let [_, arm64] = images.rich();
    let choice = Choice { platforms: vec![platform("linux", "arm64")], ..Choice::default() };
    let converted = images.convert("target", &choice).unwrap();
    let [image] = &*converted.images else { panic!("{converted:?}") };
    assert_eq!(image.source, arm64.digest);
    let others: Vec<_> = converted.left_out.iter().filter(|each| each.reason == SkipReason::Platform).collect();
    assert_eq!(others.len(), 2, "{others:?}");
    let choice = Choice { platforms: vec![platform("linux", "vax")], ..Choice::default() };
    let error = images.convert("none", &choice).unwrap_err().to_string();
    assert!(error.contains("linux/vax") && error.contains("linux/amd64"), "{error}");
    assert!(images.layout("none").root().is_err());
}

#[test]
fn a_manifest_stays_a_manifest_unless_its_original_is_wanted_too() {
    let images = Images::new();
    let original = images.image("linux", "amd64", Role::Root);
    let alone = images.convert("alone", &Choice::default()).unwrap();
    let root = images.layout("alone").root().unwrap();
    assert_eq!((root.descriptor.digest, root.descriptor.size), (alone.root.digest, alone.root.size));
    assert!(!root.is_index());
    images.convert("both", &with_original()).unwrap();
    let both = images.manifests("both");
    assert_eq!((both[0].digest, both[0].platform.clone()), (original.digest, original.platform.clone()));
    assert_eq!((both[1].digest, both[1].platform.clone()), (alone.root.digest, original.platform));
}

#[test]
fn an_index_that_has_twins_is_converted_from_its_originals() {
    let images = Images::new();
    images.rich();
    let first = images.convert("target", &with_original()).unwrap();
    let target = images.layout("target");
    let again = convert_all(&target, &images.layout("again"), &with_original(), &small_options(), &()).unwrap();
    assert_eq!(images.manifests("again"), images.manifests("target"));
    let dimsum = again.left_out.iter().filter(|each| each.reason == SkipReason::Dimsum).map(|each| each.digest);
    assert!(dimsum.eq(first.images.iter().map(|image| image.converted.manifest)));
    // Where there is nothing else, it is to be copied.
    images.convert("only", &Choice::default()).unwrap();
    let only = images.layout("only");
    let error = convert_all(&only, &images.layout("none"), &Choice::default(), &small_options(), &()).unwrap_err();
    assert!(
        matches!(error, ConvertError::AlreadyDimsum { digest } if digest == only.root().unwrap().descriptor.digest)
    );
    let single = images.layout("single");
    let amd64 = Selection::One(platform("linux", "amd64"), Prefer::Dimsum);
    copy_image(&only, &single, &amd64, &()).unwrap();
    for choice in [Choice::default(), with_original()] {
        let error = convert_all(&single, &images.layout("none"), &choice, &small_options(), &()).unwrap_err();
        assert!(matches!(error, ConvertError::AlreadyDimsum { .. }), "{error}");
    }
}

#[test]
fn an_index_of_one_image_for_two_platforms_converts_it_once() {
    let images = Images::new();
    let mut twice = images.image("linux", "arm", Role::Part);
    let once = twice.clone();
    twice.platform.as_mut().unwrap().variant = Some("v7".into());
    images.index(vec![once, twice], Role::Root);
    let watch = Watch::default();
    convert_all(&images.layout("source"), &images.layout("target"), &Choice::default(), &small_options(), &watch)
        .unwrap();
    let manifests = images.manifests("target");
    assert_eq!((manifests.len(), manifests[0].digest), (2, manifests[1].digest));
    let begun =
        watch.phases.lock().unwrap().iter().filter(|phase| matches!(phase, ConversionPhase::Image { .. })).count();
    assert_eq!(begun, 1);
}

#[test]
fn a_platform_that_the_index_does_not_name_is_that_of_the_config() {
    let images = Images::new();
    let mut entry = images.image("linux", "riscv64", Role::Part);
    let is = entry.platform.take();
    images.index(vec![entry], Role::Root);
    images.convert("target", &with_original()).unwrap();
    assert!(images.manifests("target").iter().all(|entry| entry.platform == is));
}

#[derive(Default)]
struct Watch {
    phases: Mutex<Vec<ConversionPhase>>,
    asked: AtomicUsize,
    /// Cancels when it was asked so often.
    until: Option<usize>,
}

impl ConversionProgress for Watch {
    fn phase(&self, phase: ConversionPhase) {
        self.phases.lock().unwrap().push(phase);
    }

    fn cancelled(&self) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        self.until.is_some_and(|until| asked >= until)
    }
}

#[test]
fn a_cancelled_conversion_moves_no_name() {
    let images = Images::new();
    images.rich();
    let whole = Watch::default();
    let source = images.layout("source");
    convert_all(&source, &images.layout("whole"), &with_original(), &small_options(), &whole).unwrap();
    let asked = whole.asked.load(Ordering::Relaxed);
    for until in [0, asked / 4, asked / 2, asked * 3 / 4] {
        let watch = Watch { until: Some(until), ..Watch::default() };
        let target = images.layout(&format!("target{until}"));
        let error = convert_all(&source, &target, &with_original(), &small_options(), &watch).unwrap_err();
        assert!(matches!(error, ConvertError::Cancelled), "{error}");
        assert!(target.root().is_err());
    }
}

#[test]
fn a_target_that_holds_no_dimsum_image_says_so_at_once() {
    let images = Images::new();
    images.image("linux", "amd64", Role::Root);
    let watch = Watch::default();
    for choice in [Choice::default(), with_original()] {
        let target = ArchiveTarget::docker(&images.path("d.tar"), None).unwrap();
        assert!(convert_all(&images.layout("source"), &target, &choice, &small_options(), &watch).is_err());
    }
    assert!(watch.phases.lock().unwrap().is_empty() && !images.path("d.tar").exists());
    // An OCI archive holds everything.
    let target = ArchiveTarget::oci(&images.path("o.tar"), None).unwrap();
    let converted = convert_all(&images.layout("source"), &target, &with_original(), &small_options(), &()).unwrap();
    let archive = dimsum_layout::Archive::open_oci(&images.path("o.tar"), None).unwrap();
    assert_eq!(archive.root().unwrap().descriptor.digest, converted.root.digest);
    let config = archive.read_small("config", converted.images[0].converted.config.digest, 1 << 20).unwrap();
    assert!(ImageConfig::parse(&config).is_ok());
}
