//! Manifests that refer to another one are found again, by the registry's own list or by the fallback tag.

use std::process::Command;
use std::sync::{Arc, Mutex};

use dimsum_format::manifest::{Annotations, Descriptor, Index, Manifest};
use dimsum_format::media;
use dimsum_layout::OciLayout;
use dimsum_registry::Access;
use dimsum_source::{ImageName, Place, Target, fallback_tag};
use tempfile::TempDir;

use crate::content::{Image, blob, write};
use crate::hostile::{Request, Server, answer};
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
    assert_eq!(place.referrers(subject, Some(TYPE)).unwrap(), []);
    let first = refer(target, &image.manifest, TYPE, "first");
    refer(target, &image.manifest, "application/vnd.dimsum.other.v1", "of another type");
    let second = refer(target, &image.manifest, TYPE, "second");
    refer(target, &image.manifest, TYPE, "first");
    let mut found = place.referrers(subject, Some(TYPE)).unwrap();
    found.sort_by(|a, b| b.annotations.cmp(&a.annotations));
    assert_eq!(found, [second, first.clone()]);
    let manifest = Manifest::parse(&place.read_manifest(first.digest).unwrap()).unwrap();
    assert_eq!(manifest.subject.unwrap().digest, subject);
    assert_eq!(place.referrers(first.digest, Some(TYPE)).unwrap(), [], "nothing refers to it");
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
    let found = place.referrers(subject.digest, Some(TYPE)).unwrap();
    assert_eq!(found.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [wanted]);
    let tags = server.seen().iter().filter(|request| request.target.contains("manifests/sha256-")).count();
    assert_eq!(tags, 0);
}

/// An index with one referrer, told from others by its number.
fn page_of(number: u64) -> Vec<u8> {
    let entry = Descriptor::new(media::MANIFEST, blob(&number.to_le_bytes()));
    let manifests = vec![Descriptor { artifact_type: Some(TYPE.to_owned()), ..entry }];
    let media_type = Some(media::INDEX.to_owned());
    Index { schema_version: 2, media_type, manifests, annotations: Annotations::new() }.to_bytes()
}

/// The number of the page that is asked for; 0 is the first.
fn page_number(request: &Request) -> u64 {
    request.target.rsplit_once("page=").map_or(0, |(_, number)| number.parse().unwrap())
}

#[test]
fn a_list_of_many_pages_is_read_to_its_end() {
    const PAGES: u64 = 5;
    let server = Server::start(|request, stream| {
        if request.target == "/v2/" {
            return answer(stream, 200, &[], b"{}");
        }
        let (path, number) = (request.target.split('?').next().unwrap(), page_number(request));
        let next = format!("<{path}?page={}>; rel=\"next\"", number + 1);
        let headers = [("Link", &*next)];
        answer(stream, 200, if number + 1 < PAGES { &headers } else { &[] }, &page_of(number))
    });
    let place = impatient().open(&server.reference("a/b:v1")).unwrap();
    for artifact_type in [Some(TYPE), None] {
        let found = place.referrers(blob(b"an image").digest, artifact_type).unwrap();
        let must: Vec<_> = (0..PAGES).map(|number| blob(&number.to_le_bytes()).digest).collect();
        assert_eq!(found.iter().map(|entry| entry.digest).collect::<Vec<_>>(), must);
    }
    assert_eq!(place.referrers(blob(b"an image").digest, Some("another/type")).unwrap(), []);
}

#[test]
fn a_list_that_never_ends_or_goes_on_elsewhere_is_an_error() {
    let elsewhere = Server::start(|_, stream| answer(stream, 200, &[], &page_of(0)));
    let there = elsewhere.url("/v2/a/b/referrers/x");
    let with_user = |host: &str| format!("http://user@{host}/v2/a/b/referrers/x");
    for (next, reason) in [
        ("ENDLESS", "goes in circles, or has more than"),
        ("SELF", "goes in circles, or has more than"),
        ("GONE", "a page of it is not there"),
        ("USER", "go on at another place"),
        (&*there, "go on at another place"),
        ("ftp://127.0.0.1/x", "go on at another place"),
        ("http://[", "go on at another place"),
    ] {
        let told = next.to_owned();
        let server = Server::start(move |request, stream| {
            let number = page_number(request);
            let path = request.target.split('?').next().unwrap();
            let next = match &*told {
                "ENDLESS" => format!("{path}?page={}", number + 1),
                "SELF" => request.target.clone(),
                "GONE" if number > 0 => return answer(stream, 404, &[], b""),
                "GONE" => format!("{path}?page=1"),
                "USER" => with_user(request.header("host").unwrap()),
                next => next.to_owned(),
            };
            answer(stream, 200, &[("Link", &format!("<{next}>; rel=next"))], &page_of(number))
        });
        let place = impatient().open(&server.reference("a/b:v1")).unwrap();
        let error = place.referrers(blob(b"an image").digest, Some(TYPE)).unwrap_err().to_string();
        assert!(error.contains(reason), "{next}: {error}");
        assert!(server.seen().len() <= 64);
    }
    assert_eq!(elsewhere.seen().len(), 0);
}

#[test]
fn a_list_that_is_none_is_an_error() {
    for body in [&b"{"[..], b"[]", &[b' '; 5 << 20]] {
        let server = Server::start(move |request, stream| match &*request.target {
            "/v2/" => answer(stream, 200, &[], b"{}"),
            _ => answer(stream, 200, &[], body),
        });
        let place = impatient().open(&server.reference("a/b:v1")).unwrap();
        assert!(place.referrers(blob(b"an image").digest, Some(TYPE)).is_err());
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
