//! What refers to an image comes along with a copy: recipes by themselves, all of it if asked for, nothing that lies.
#![expect(clippy::unwrap_used, reason = "tests panic")]

#[path = "remote/real.rs"]
#[expect(dead_code, reason = "the registries of the client's tests; a part of them is used here")]
mod real;

use std::path::{Path, PathBuf};

use dimsum_format::manifest::{Annotations, Descriptor, Index, Manifest};
use dimsum_format::{Digest, media};
use dimsum_layout::{ArchiveTarget, OciLayout};
use dimsum_registry::Access;
use dimsum_source::{
    Place, Referrers, Role, Selection, Source as _, Target, copy_image, copy_with_referrers, fallback_tag,
};
use tempfile::TempDir;

use dimsum_testing::images::{descriptor, image, index, layer_tar, put, tag};

const SIGNATURE: &str = "application/vnd.example.signature.v1";

struct Case(TempDir);

impl Case {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn layout(&self, name: &str) -> OciLayout {
        OciLayout::create(self.path(name), tag("v1")).unwrap()
    }
}

/// Puts something that has the layers of a Dimsum image.
fn dimsum(target: &dyn Target, note: &str, role: Role) -> Descriptor {
    let (config, pack, meta) = (b"{}".to_vec(), format!("pack {note}"), format!("meta {note}"));
    for bytes in [&config, pack.as_bytes(), meta.as_bytes()] {
        put(target, bytes);
    }
    let layers = vec![descriptor(media::PACK, pack.as_bytes()), descriptor(media::META, meta.as_bytes())];
    let bytes = artifact(None, None, layers).to_bytes();
    target.put_manifest(media::MANIFEST, &bytes, role).unwrap();
    Descriptor { platform: Some(dimsum_testing::images::platform("amd64")), ..descriptor(media::MANIFEST, &bytes) }
}

fn artifact(artifact_type: Option<&str>, subject: Option<&Descriptor>, layers: Vec<Descriptor>) -> Manifest {
    Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.into()),
        artifact_type: artifact_type.map(str::to_owned),
        config: descriptor(media::EMPTY, b"{}"),
        layers,
        subject: subject.cloned(),
        annotations: Annotations::new(),
    }
}

/// Stores a referrer with one blob.
fn refer(target: &dyn Target, subject: &Descriptor, artifact_type: &str, note: &str) -> Descriptor {
    put(target, b"{}");
    put(target, note.as_bytes());
    let layers = vec![descriptor("text/plain", note.as_bytes())];
    let bytes = artifact(Some(artifact_type), Some(subject), layers).to_bytes();
    target.put_referrer(&bytes).unwrap();
    descriptor(media::MANIFEST, &bytes)
}

fn listed(place: &dyn Place, subject: &Descriptor) -> Vec<Digest> {
    place.referrers(subject.digest, None).unwrap().iter().map(|entry| entry.digest).collect()
}

fn file(layout: &Path, digest: Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

#[test]
fn recipes_come_along_and_other_referrers_if_asked_for() {
    let case = Case::new();
    let source = case.layout("source");
    let subject = dimsum(&source, "a", Role::Root);
    let recipe = refer(&source, &subject, media::ORIGINAL, "recipe");
    let signature = refer(&source, &subject, SIGNATURE, "signature");
    let about_it = refer(&source, &signature, SIGNATURE, "a signature of the signature");

    let copy = |name: &str, which| {
        let target = case.layout(name);
        (copy_with_referrers(&source, &target, &Selection::All, which, &()).unwrap(), target)
    };
    let (copied, target) = copy("ours", Referrers::Ours);
    assert_eq!(copied.referrers.iter().map(|each| each.digest).collect::<Vec<_>>(), [recipe.digest]);
    let carried = &copied.referrers[0];
    assert_eq!((carried.subject, &*carried.artifact_type, carried.bytes), (subject.digest, media::ORIGINAL, 8));
    assert_eq!(listed(&target, &subject), [recipe.digest]);
    assert_eq!(target.root().unwrap().descriptor.digest, subject.digest);
    let parsed = Manifest::parse(&target.read_manifest(recipe.digest).unwrap()).unwrap();
    assert_eq!(target.read_small("recipe", parsed.layers[0].digest, 100).unwrap(), b"recipe");

    let (copied, target) = copy("all", Referrers::All);
    assert_eq!((copied.referrers.len(), copied.referrers_left.len()), (3, 0));
    assert_eq!(listed(&target, &subject), [recipe.digest, signature.digest]);
    assert_eq!(listed(&target, &signature), [about_it.digest]);

    let (copied, target) = copy("none", Referrers::None);
    assert_eq!((copied.referrers.len(), listed(&target, &subject).len()), (0, 0));
    let (again, _) = copy("ours", Referrers::Ours);
    assert_eq!((again.blobs.moved, again.referrers.len()), (0, 1), "the second time nothing moves");
}

#[test]
fn each_image_of_an_index_keeps_its_own() {
    let case = Case::new();
    let source = case.layout("source");
    let plain = image(&source, "arm64", &[layer_tar(b"x")], Role::Part);
    let ours = [dimsum(&source, "a", Role::Part), dimsum(&source, "b", Role::Part)];
    index(&source, [&[plain.clone()][..], &ours[..]].concat(), Role::Root);
    let recipes = ["for a", "for b"].map(|note| {
        refer(&source, &ours[usize::from(note == "for b")], media::ORIGINAL, note);
        Digest::of(note.as_bytes())
    });
    // Whoever calls this a recipe of an ordinary image is not asked.
    refer(&source, &plain, media::ORIGINAL, "of no Dimsum image");
    let target = case.layout("target");
    let copied = copy_with_referrers(&source, &target, &Selection::All, Referrers::Ours, &()).unwrap();
    assert_eq!(copied.referrers.len(), 2);
    for (image, recipe) in ours.iter().zip(recipes) {
        assert_eq!(listed(&target, image).len(), 1);
        assert!(target.size(recipe).unwrap().is_some());
    }
    assert_eq!(listed(&target, &plain), []);
}

#[test]
fn what_only_claims_to_refer_is_left_and_named() {
    let case = Case::new();
    let source = case.layout("source");
    let (subject, other) = (dimsum(&source, "a", Role::Root), descriptor(media::MANIFEST, b"another image"));
    let good = refer(&source, &subject, media::ORIGINAL, "good");
    let gone = refer(&source, &subject, media::ORIGINAL, "gone");
    std::fs::remove_file(file(&case.path("source"), gone.digest)).unwrap();
    let stranger = refer(&source, &other, media::ORIGINAL, "of another image");
    let signature = refer(&source, &other, SIGNATURE, "no recipe");
    let broken = b"{}";
    put(&source, broken);
    // Somebody writes into the list what does not belong there.
    let lie =
        |descriptor: &Descriptor| Descriptor { artifact_type: Some(media::ORIGINAL.into()), ..descriptor.clone() };
    let entries = [&good, &gone, &stranger, &signature, &descriptor(media::MANIFEST, broken)].map(lie).to_vec();
    let media_type = Some(media::INDEX.to_owned());
    let list = Index { schema_version: 2, media_type, manifests: entries, annotations: Annotations::new() };
    source.put_tag(&fallback_tag(subject.digest), media::INDEX, &list.to_bytes()).unwrap();

    let target = case.layout("target");
    let copied = copy_with_referrers(&source, &target, &Selection::All, Referrers::Ours, &()).unwrap();
    assert_eq!(listed(&target, &subject), [good.digest]);
    let reasons: Vec<_> = copied.referrers_left.iter().map(|left| (left.digest, left.reason)).collect();
    assert_eq!(
        reasons,
        [
            (gone.digest, "it is listed, but not there"),
            (stranger.digest, "it speaks of something else"),
            (signature.digest, "it speaks of something else"),
            (Digest::of(broken), "it is no manifest that can be read"),
        ]
    );
}

#[test]
fn a_target_that_keeps_none_says_what_stays_behind() {
    let case = Case::new();
    let source = case.layout("source");
    let subject = dimsum(&source, "a", Role::Root);
    let recipe = refer(&source, &subject, media::ORIGINAL, "recipe");
    let archive = ArchiveTarget::oci(&case.path("a.tar"), tag("v1")).unwrap();
    let copied = copy_with_referrers(&source, &archive, &Selection::All, Referrers::Ours, &()).unwrap();
    assert_eq!((copied.referrers.len(), copied.referrers_left.len()), (0, 1));
    assert_eq!(copied.referrers_left[0].digest, recipe.digest);
}

#[test]
fn more_referrers_than_anybody_needs_are_refused_before_anything_moves() {
    let case = Case::new();
    let source = case.layout("source");
    let subject = dimsum(&source, "a", Role::Root);
    let huge = Descriptor { size: u64::MAX / 2, ..descriptor("text/plain", b"a disk full") };
    put(&source, b"{}");
    for note in ["one", "two"] {
        let layers = vec![huge.clone(), descriptor("text/plain", note.as_bytes())];
        source.put_referrer(&artifact(Some(media::ORIGINAL), Some(&subject), layers).to_bytes()).unwrap();
    }
    let target = case.layout("target");
    let error = copy_with_referrers(&source, &target, &Selection::All, Referrers::Ours, &()).unwrap_err();
    assert!(error.to_string().contains("bytes of all referrers"), "{error}");
    assert_eq!(std::fs::read_dir(case.path("target/blobs/sha256")).unwrap().count(), 0);
    copy_image(&source, &target, &Selection::All, &()).unwrap();
}

#[test]
fn recipes_travel_through_every_registry_and_back() {
    for kind in real::KINDS {
        let Some(registry) = kind.start() else { continue };
        let case = Case::new();
        let source = case.layout("source");
        let subject = dimsum(&source, "a", Role::Root);
        let recipe = refer(&source, &subject, media::ORIGINAL, "recipe");
        let network = real::network(Access::default());
        let (first, second) = (registry.reference("some/a:v1"), registry.reference("other/b:v1"));
        let copy = |from: &dyn Place, to: &dyn Target| {
            copy_with_referrers(from, to, &Selection::All, Referrers::Ours, &()).unwrap()
        };
        copy(&source, &*network.create(&first).unwrap());
        let across = copy(&*network.open(&first).unwrap(), &*network.create(&second).unwrap());
        assert_eq!((across.blobs.moved, across.referrers.len()), (0, 1), "{kind:?}: all is mounted");
        let back = case.layout("back");
        copy(&*network.open(&second).unwrap(), &back);
        assert_eq!(listed(&back, &subject), [recipe.digest], "{kind:?}");
    }
}
