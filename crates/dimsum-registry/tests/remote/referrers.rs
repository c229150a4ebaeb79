//! Manifests that refer to another one are found again, by the registry's own list or by the fallback tag.

use std::process::Command;
use std::sync::{Arc, Mutex};

use dimsum_format::manifest::{Annotations, Descriptor, Index, Manifest};
use dimsum_format::media;
use dimsum_registry::{Access, ImageName, OciLayout, Place, Target, fallback_tag};
use tempfile::TempDir;

use crate::content::{Image, blob, write};
use crate::hostile::{Server, answer};
use crate::real::{KINDS, find, impatient, network};

const TYPE: &str = "application/vnd.dimsum.test.v1";

/// Stores an artifact that refers to `subject`, told from others by `note`.
fn refer(target: &dyn Target, subject: &[u8], artifact_type: &str, note: &str) -> Descriptor {
    write(target, b"{}");
    write(target, note.as_bytes());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: Some(artifact_type.to_owned()),
        config: Descriptor::new(media::EMPTY, blob(b"{}")),
        layers: vec![Descriptor::new("text/plain", blob(note.as_bytes()))],
        subject: Some(Descriptor::new(media::MANIFEST, blob(subject))),
        annotations: Annotations::from([("note".to_owned(), note.to_owned())]),
    };
    let digest = target.put_referrer(&manifest.to_bytes()).unwrap();
    assert_eq!(digest, blob(&manifest.to_bytes()).digest);
    let artifact_type = Some(artifact_type.to_owned());
    let annotations = manifest.annotations.clone();
    Descriptor { artifact_type, annotations, ..Descriptor::new(media::MANIFEST, blob(&manifest.to_bytes())) }
}

/// Stores some and finds those of the right type and subject.
fn finds_its_own(target: &dyn Target, place: &dyn Place, image: &Image) {
    let subject = blob(&image.manifest).digest;
    assert_eq!(place.referrers(subject, TYPE).unwrap(), []);
    let first = refer(target, &image.manifest, TYPE, "first");
    refer(target, &image.manifest, "application/vnd.dimsum.other.v1", "of another type");
    let second = refer(target, &image.manifest, TYPE, "second");
    refer(target, &image.manifest, TYPE, "first");
    let mut found = place.referrers(subject, TYPE).unwrap();
    found.sort_by(|a, b| b.annotations.cmp(&a.annotations));
    assert_eq!(found, [second, first.clone()]);
    let manifest = Manifest::parse(&place.read_manifest(first.digest).unwrap()).unwrap();
    assert_eq!(manifest.subject.unwrap().digest, subject);
    assert_eq!(place.referrers(first.digest, TYPE).unwrap(), [], "nothing refers to it");
    image.compare(place);
}

#[test]
fn referrers_are_found_again_in_every_registry() {
    for kind in KINDS {
        let Some(registry) = kind.start() else { continue };
        let (image, network) = (Image::new(3), network(Access::default()));
        let reference = registry.reference("some/a:v1");
        image.push(&*network.create(&reference).unwrap());
        finds_its_own(&*network.create(&reference).unwrap(), &*network.open(&reference).unwrap(), &image);
        // None of these keeps a list of its own, so the tag is there too.
        let tag = fallback_tag(blob(&image.manifest).digest);
        let listed = network.create(&reference).unwrap().read_tag(&tag).unwrap().unwrap();
        assert_eq!(Index::parse(&listed.bytes).unwrap().manifests.len(), 3, "{kind:?}");
    }
}

/// A registry that keeps lists itself, as the specification wants it.
#[test]
fn a_registry_that_keeps_the_list_itself_gets_no_tag() {
    let listed: Arc<Mutex<Vec<Descriptor>>> = Arc::default();
    let list = Arc::clone(&listed);
    let server = Server::start(move |request, stream| match (&*request.method, &*request.target) {
        ("GET", "/v2/") => answer(stream, 200, &[], b"{}"),
        ("PUT", target) if target.contains("/manifests/sha256:") => {
            let manifest = Manifest::parse(&request.body).unwrap();
            let entry = Descriptor::new(media::MANIFEST, blob(&request.body));
            list.lock().unwrap().push(Descriptor { artifact_type: manifest.artifact_type, ..entry });
            answer(stream, 201, &[("OCI-Subject", &manifest.subject.unwrap().digest.to_string())], b"")
        }
        ("GET", target) if target.contains("/referrers/sha256:") => {
            let manifests = list.lock().unwrap().clone();
            let (media_type, annotations) = (Some(media::INDEX.to_owned()), Annotations::new());
            answer(stream, 200, &[], &Index { schema_version: 2, media_type, manifests, annotations }.to_bytes())
        }
        _ => answer(stream, 404, &[], b""),
    });
    let reference = server.reference("a/b:v1");
    let network = impatient();
    let (target, place) = (network.create(&reference).unwrap(), network.open(&reference).unwrap());
    let subject = Descriptor::new(media::MANIFEST, blob(b"an image"));
    let of_type = |artifact_type: &str| Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        artifact_type: Some(artifact_type.to_owned()),
        config: Descriptor::new(media::EMPTY, blob(b"{}")),
        layers: Vec::new(),
        subject: Some(subject.clone()),
        annotations: Annotations::new(),
    };
    let wanted = target.put_referrer(&of_type(TYPE).to_bytes()).unwrap();
    target.put_referrer(&of_type("another/type").to_bytes()).unwrap();
    let found = place.referrers(subject.digest, TYPE).unwrap();
    assert_eq!(found.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [wanted]);
    let tags = server.seen().iter().filter(|request| request.target.contains("manifests/sha256-")).count();
    assert_eq!(tags, 0);
}

#[test]
fn a_list_that_is_none_is_an_error() {
    for body in [&b"{"[..], b"[]", &[b' '; 5 << 20]] {
        let server = Server::start(move |request, stream| match &*request.target {
            "/v2/" => answer(stream, 200, &[], b"{}"),
            _ => answer(stream, 200, &[], body),
        });
        let place = impatient().open(&server.reference("a/b:v1")).unwrap();
        assert!(place.referrers(blob(b"an image").digest, TYPE).is_err());
    }
}

#[test]
fn a_layout_with_referrers_is_read_by_its_tag_and_without_one() {
    let image = Image::new(4);
    let layout = image.layout();
    finds_its_own(&layout, &image.layout(), &image);
    image.compare(&OciLayout::open(image.dir.path(), None).unwrap());
    let Some(skopeo) = find("skopeo", true) else { return };
    let copied = TempDir::new().unwrap();
    let (from, to) = (format!("oci:{}:v1", image.dir.path().display()), format!("oci:{}:v1", copied.path().display()));
    let output = Command::new(skopeo).args(["copy", "--preserve-digests", &from, &to]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    image.compare(&OciLayout::open(copied.path(), Some(ImageName::Tag("v1".into()))).unwrap());
}

#[test]
fn a_manifest_without_a_subject_is_no_referrer() {
    let image = Image::new(5);
    assert!(image.layout().put_referrer(&image.manifest).is_err());
}
