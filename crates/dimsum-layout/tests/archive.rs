//! Archives: what skopeo and docker write is read, what we write is read by skopeo, and what lies is refused by name.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic")]

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dimsum_format::manifest::{Descriptor, ImageConfig, Manifest};
use dimsum_format::{Digest, media};
use dimsum_layout::{Archive, ArchiveFault, ArchiveTarget, Members, OciLayout};
use dimsum_source::{Place, Prefer, Role, Selection, Source, SourceFault, Target, copy_image, resolve};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use dimsum_testing::images::{gzip, image, index, layer_tar, layout_with_image, noise, platform, put, tag};

/// A scratch directory with an image in `layout`.
struct Case {
    dir: TempDir,
    image: Descriptor,
}

impl Case {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let image = layout_with_image(&dir.path().join("layout"));
        Self { dir, image }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }

    fn layout(&self) -> OciLayout {
        OciLayout::open(self.path("layout"), tag("v1")).unwrap()
    }

    fn copy_to(&self, target: &dyn Target) {
        copy_image(&self.layout(), target, &Selection::All, &()).unwrap();
    }

    fn diff_ids(&self) -> Vec<Digest> {
        diff_ids(&self.layout())
    }
}

/// Runs skopeo and returns what it printed; none if it is not there, which is an error in CI.
fn skopeo(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("skopeo").arg("--insecure-policy").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            dimsum_testing::skip(&format!("skopeo: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn names(dir: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn manifest(place: &dyn Place) -> Manifest {
    Manifest::parse(&resolve(place, &platform("amd64"), Prefer::Original).unwrap().bytes).unwrap()
}

fn diff_ids(place: &dyn Place) -> Vec<Digest> {
    let config = place.read_small("config", manifest(place).config.digest, 1 << 20).unwrap();
    ImageConfig::parse(&config).unwrap().diff_ids().unwrap()
}

/// Reads every blob of an image and checks its digest and length.
fn check_blobs(place: &dyn Place) {
    let manifest = manifest(place);
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let mut bytes = Vec::new();
        place.open(blob.digest).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (blob.digest, blob.size));
        assert_eq!(place.size(blob.digest).unwrap(), Some(blob.size));
        let half = blob.size / 2;
        let mut rest = Vec::new();
        place.open_at(blob.digest, half).unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[half as usize..]);
    }
}

#[test]
fn an_oci_archive_of_skopeo_has_the_digests_of_its_layout() {
    let case = Case::new();
    let (from, to) = (case.name("oci", "layout:v1"), case.name("oci-archive", "a.tar:app:v1"));
    let Some(_) = skopeo(&["copy", "-q", &from, &to]) else { return };
    let archive = Archive::open_oci(&case.path("a.tar"), tag("app:v1")).unwrap();
    assert_eq!(archive.root().unwrap().descriptor.digest, case.image.digest);
    check_blobs(&archive);
    let error = Archive::open_oci(&case.path("a.tar"), tag("v2")).unwrap_err().to_string();
    assert!(error.contains("app:v1"), "{error}");
    let error = Archive::open_docker(&case.path("a.tar"), None).unwrap_err().to_string();
    assert!(error.contains("oci-archive"), "{error}");
}

#[test]
fn skopeo_reads_our_oci_archive_with_the_same_digests() {
    let case = Case::new();
    case.copy_to(&ArchiveTarget::oci(&case.path("a.tar"), tag("app:v1")).unwrap());
    let (from, to) = (case.name("oci-archive", "a.tar:app:v1"), case.name("oci", "back:v1"));
    let Some(_) = skopeo(&["copy", "-q", &from, &to]) else { return };
    let back = OciLayout::open(case.path("back"), tag("v1")).unwrap();
    assert_eq!(back.root().unwrap().descriptor.digest, case.image.digest);
    check_blobs(&back);
}

#[test]
fn an_index_goes_through_our_archive_and_skopeo_unchanged() {
    let dir = TempDir::new().unwrap();
    let layout = OciLayout::create(dir.path().join("layout"), tag("v1")).unwrap();
    let entry = |architecture: &str| image(&layout, architecture, &[layer_tar(architecture.as_bytes())], Role::Part);
    let root = index(&layout, vec![entry("amd64"), entry("arm64")], Role::Root);
    let file = dir.path().join("a.tar");
    copy_image(&layout, &ArchiveTarget::oci(&file, tag("v1")).unwrap(), &Selection::All, &()).unwrap();
    let archive = Archive::open_oci(&file, None).unwrap();
    assert_eq!(archive.root().unwrap().descriptor.digest, root.digest);
    let (from, to) = (format!("oci-archive:{}:v1", file.display()), format!("oci:{}/back:v1", dir.path().display()));
    let Some(_) = skopeo(&["copy", "-q", "--all", &from, &to]) else { return };
    let back = OciLayout::open(dir.path().join("back"), tag("v1")).unwrap();
    assert_eq!(back.root().unwrap().descriptor.digest, root.digest);
}

#[test]
fn a_docker_archive_of_skopeo_has_the_layers_of_its_layout() {
    let case = Case::new();
    let (from, to) = (case.name("oci", "layout:v1"), case.name("docker-archive", "d.tar:app:v1"));
    let Some(_) = skopeo(&["copy", "-q", &from, &to]) else { return };
    for name in [None, Some("app:v1"), Some("docker.io/library/app:v1")] {
        let archive = Archive::open_docker(&case.path("d.tar"), name.map(str::to_owned)).unwrap();
        check_blobs(&archive);
        assert_eq!(diff_ids(&archive), case.diff_ids());
        let layers: Vec<_> = manifest(&archive).layers.iter().map(|layer| layer.digest).collect();
        assert_eq!(layers, case.diff_ids(), "its layers are plain tars");
    }
    let error = Archive::open_docker(&case.path("d.tar"), Some("app:v2".into())).unwrap_err().to_string();
    assert!(error.contains("app:v1"), "{error}");
}

#[test]
fn skopeo_reads_our_docker_archive_with_the_same_layers() {
    let case = Case::new();
    case.copy_to(&ArchiveTarget::docker(&case.path("d.tar"), Some("app:v1".into())).unwrap());
    let ours = Archive::open_docker(&case.path("d.tar"), Some("app:v1".into())).unwrap();
    check_blobs(&ours);
    assert_eq!(manifest(&ours).config.digest, manifest(&case.layout()).config.digest, "the config goes as it is");
    let (from, to) = (case.name("docker-archive", "d.tar:app:v1"), case.name("oci", "back:v1"));
    let Some(_) = skopeo(&["copy", "-q", &from, &to]) else { return };
    let back = OciLayout::open(case.path("back"), tag("v1")).unwrap();
    check_blobs(&back);
    assert_eq!(diff_ids(&back), case.diff_ids());
}

#[test]
fn equal_images_are_equal_archives_whatever_was_there_before() {
    let case = Case::new();
    let write = |file: &str| {
        case.copy_to(&ArchiveTarget::oci(&case.path(file), tag("v1")).unwrap());
        std::fs::read(case.path(file)).unwrap()
    };
    let first = write("a.tar");
    // An attempt at another image was interrupted and left a blob in the spool.
    let interrupted = ArchiveTarget::oci(&case.path("b.tar"), tag("v1")).unwrap();
    put(&interrupted, b"of another image");
    drop(interrupted);
    assert!(names(case.dir.path()).contains(".b.tar.dimsum-spool"));
    assert_eq!(write("b.tar"), first);
    // An archive that is there is replaced.
    assert_eq!(write("b.tar"), first);
    assert_eq!(names(case.dir.path()), ["a.tar", "b.tar", "layout"].map(str::to_owned).into());
}

#[test]
fn tar_lists_our_archives() {
    let case = Case::new();
    case.copy_to(&ArchiveTarget::oci(&case.path("a.tar"), tag("v1")).unwrap());
    let output =
        Command::new("tar").env("TZ", "UTC").args(["--full-time", "-tvf"]).arg(case.path("a.tar")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 4 + 4, "{text}");
    assert!(text.lines().all(|line| line.contains("1970-01-01 00:00:00 ") && line.contains("0/0")), "{text}");
}

#[test]
fn an_archive_that_was_never_begun_leaves_nothing() {
    let case = Case::new();
    drop(ArchiveTarget::oci(&case.path("a.tar"), None).unwrap());
    let target = ArchiveTarget::docker(&case.path("d.tar"), None).unwrap();
    drop(target.start_blob().unwrap());
    drop(target);
    assert_eq!(names(case.dir.path()), ["layout".to_owned()].into());
}

#[test]
fn one_archive_has_one_writer() {
    let case = Case::new();
    let _first = ArchiveTarget::oci(&case.path("a.tar"), None).unwrap();
    let error = ArchiveTarget::oci(&case.path("a.tar"), None).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
}

#[test]
fn a_docker_archive_holds_one_ordinary_image_and_says_so_before_anything_moves() {
    let case = Case::new();
    let layout = OciLayout::create(case.path("layout"), tag("index")).unwrap();
    index(&layout, vec![case.image.clone()], Role::Root);
    let dimsum = OciLayout::create(case.path("layout"), tag("dimsum")).unwrap();
    let mut twin = manifest(&case.layout());
    twin.layers.last_mut().unwrap().media_type = media::META.into();
    dimsum.put_manifest(media::MANIFEST, &twin.to_bytes(), Role::Root).unwrap();
    for (source, word) in [(&layout, "one platform"), (&dimsum, "no Dimsum images")] {
        let target = ArchiveTarget::docker(&case.path("d.tar"), None).unwrap();
        let error = copy_image(source, &target, &Selection::All, &()).unwrap_err();
        assert!(matches!(error.detail(), Some(SourceFault::Target { reason, .. }) if reason.contains(word)), "{error}");
        drop(target);
        assert!(!case.path(".d.tar.dimsum-spool").exists());
    }
    let target = ArchiveTarget::docker(&case.path("d.tar"), None).unwrap();
    let one = Selection::One(platform("amd64"), Prefer::Original);
    copy_image(&layout, &target, &one, &()).unwrap();
    let before = std::fs::read(case.path("d.tar")).unwrap();
    assert!(ArchiveTarget::docker(&case.path("d.tar"), Some("x".into())).is_err(), "it is not touched");
    assert_eq!(std::fs::read(case.path("d.tar")).unwrap(), before);
}

#[test]
fn a_layer_that_is_not_its_diff_id_makes_no_docker_archive() {
    let case = Case::new();
    let layout = OciLayout::create(case.path("layout"), tag("lie")).unwrap();
    let mut manifest = manifest(&case.layout());
    let other = gzip(&layer_tar(b"another"));
    put(&layout, &other);
    (manifest.layers[1].digest, manifest.layers[1].size) = (Digest::of(&other), other.len() as u64);
    layout.put_manifest(media::MANIFEST, &manifest.to_bytes(), Role::Root).unwrap();
    let target = ArchiveTarget::docker(&case.path("d.tar"), None).unwrap();
    let error = copy_image(&layout, &target, &Selection::All, &()).unwrap_err();
    assert!(matches!(error.detail(), Some(SourceFault::Digest { .. })), "{error}");
    assert!(!case.path("d.tar").exists());
}

/// Writes a tar that does nothing it is not told.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn entry(mut self, kind: u8, name: &str, link: &str, size: &str, content: &[u8]) -> Self {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000644");
        put(124, size.as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name, "", &format!("{:011o}", content.len()), content)
    }

    fn link(self, kind: u8, name: &str, target: &str) -> Self {
        self.entry(kind, name, target, "00000000000", b"")
    }

    fn extended(self, kind: u8, records: &str) -> Self {
        self.entry(kind, "headers", "", &format!("{:011o}", records.len()), records.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn refusal(archive: &[u8]) -> String {
    let parsed = Members::parse("test.tar", archive);
    match dimsum_testing::fault(&parsed) {
        Some(ArchiveFault { member, reason, .. }) => format!("{member}: {reason}"),
        None => panic!("{parsed:?}"),
    }
}

#[test]
fn hostile_members_are_refused_by_name() {
    let whole = || Tar::default().file("a", b"1");
    let huge = "x".repeat(70_000);
    for (archive, words) in [
        (Tar::default().file("../a", b"").end(), "../a: its name leads out"),
        (Tar::default().file("a/../../b", b"").end(), "leads out"),
        (Tar::default().file("/etc/passwd", b"").end(), "/etc/passwd: its name leads out"),
        (Tar::default().file("a//b", b"").end(), "plain form"),
        (Tar::default().file("", b"").end(), "plain form"),
        (whole().file("b", b"2").file("./a", b"3").end(), "./a: it is there twice"),
        (whole().link(b'2', "a", "b").end(), "a: it is there twice"),
        (whole().link(b'1', "b", "a").end(), "b: it is a hard link"),
        (whole().link(b'3', "null", "").end(), "null: it is no file"),
        (whole().link(b'S', "sparse", "").end(), "sparse: it is no file"),
        (Tar::default().entry(b'0', "big", "", "77777777777", b"x").end(), "big: it reaches beyond"),
        (Tar::default().entry(b'0', "big", "", "-1", b"x").end(), "big: its size is not a number"),
        (Tar::default().entry(b'2', "link", "a", "00000000001", b"x").end(), "link: it is no regular file"),
        (Tar::default().extended(b'x', "27 size=9223372036854775807\n").file("big", b"x").end(), ": its extended"),
        (Tar::default().extended(b'x', "28 size=9223372036854775807\n").file("big", b"x").end(), "big: it reaches"),
        (Tar::default().extended(b'x', "29 size=18446744073709551616\n").file("big", b"x").end(), "malformed"),
        (Tar::default().extended(b'x', "13 path=../b\n").file("a", b"").end(), "../b: its name leads out"),
        (Tar::default().extended(b'x', "22 GNU.sparse.major=1\n").file("a", b"").end(), "sparse"),
        (Tar::default().extended(b'g', "10 path=b\n").file("a", b"").end(), "one name"),
        (Tar::default().extended(b'x', &huge).file("a", b"").end(), "larger than 64 KiB"),
        (Tar::default().extended(b'x', "10 path=b\n").end(), "where its member should be"),
        (Tar::default().file("a", b"").0, "no end"),
        (Vec::new(), "no end"),
        (b"this is no tar at all".repeat(100), "checksum"),
        ([whole().0, vec![0; 512], whole().end()].concat(), "lone block"),
        (whole().end()[..700].to_vec(), "no end"),
    ] {
        let refusal = refusal(&archive);
        assert!(refusal.contains(words), "{words:?}: {refusal}");
    }
}

#[test]
fn long_names_are_read_in_each_dialect() {
    let name = format!("{}/{}", "d".repeat(120), "n".repeat(60));
    let pax = Tar::default().extended(b'x', &format!("{} path={name}\n", name.len() + 10)).file("short", b"1").end();
    let gnu = Tar::default().extended(b'L', &format!("{name}\0")).file("short", b"1").end();
    for archive in [pax, gnu] {
        let members = Members::parse("test.tar", &archive).unwrap();
        assert_eq!(archive[members.file(&name).unwrap().start as usize], b'1');
        assert_eq!(members.files().count(), 1);
    }
}

#[test]
fn a_million_headers_are_refused() {
    let mut archive = Tar::default();
    for _ in 0..=65_536 {
        archive = archive.link(b'5', "d/", "");
    }
    assert!(refusal(&archive.end()).contains("one too many"));
}

fn docker_archive(dir: &Path, layers: &[(&str, &[u8])], more: Tar, names: Value, diff_ids: &[&[u8]]) -> PathBuf {
    let diff_ids: Vec<_> = diff_ids.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let config =
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let listing = json!([{ "Config": "config.json", "RepoTags": ["app:v1"], "Layers": names }]);
    let mut tar = more.file("config.json", config.to_string().as_bytes());
    for (name, content) in layers {
        tar = tar.file(name, content);
    }
    let file = dir.join("docker.tar");
    std::fs::write(&file, tar.file("manifest.json", listing.to_string().as_bytes()).end()).unwrap();
    file
}

#[test]
fn layers_of_docker_save_are_found_through_its_links_and_compressed_ones_keep_their_bytes() {
    let dir = TempDir::new().unwrap();
    let (plain, packed) = (layer_tar(b"one"), layer_tar(b"two"));
    let blob = gzip(&packed);
    let links = Tar::default().link(b'2', "1234/layer.tar", "../abcd/layer.tar");
    let file = docker_archive(
        dir.path(),
        &[("abcd/layer.tar", &plain), ("blobs/sha256/x", &blob)],
        links,
        json!(["abcd/layer.tar", "blobs/sha256/x", "1234/layer.tar"]),
        &[&plain, &packed, &plain],
    );
    let archive = Archive::open_docker(&file, None).unwrap();
    check_blobs(&archive);
    let layers: Vec<_> = manifest(&archive).layers.iter().map(|each| (each.media_type.clone(), each.digest)).collect();
    let plain_layer = (media::LAYER_TAR.to_owned(), Digest::of(&plain));
    assert_eq!(layers, [plain_layer.clone(), (media::LAYER_GZIP.to_owned(), Digest::of(&blob)), plain_layer]);
    // The image is what an ordinary layout can hold.
    let target = OciLayout::create(dir.path().join("layout"), tag("v1")).unwrap();
    copy_image(&archive, &target, &Selection::All, &()).unwrap();
    check_blobs(&OciLayout::open(dir.path().join("layout"), None).unwrap());
}

#[test]
fn docker_archives_that_name_what_is_not_there_are_refused() {
    let dir = TempDir::new().unwrap();
    let plain = layer_tar(b"one");
    let member = |names: Value, more: Tar, diff_ids: &[&[u8]]| {
        let file = docker_archive(dir.path(), &[("a/layer.tar", &plain)], more, names, diff_ids);
        Archive::open_docker(&file, None).unwrap_err().to_string()
    };
    assert!(member(json!(["b/layer.tar"]), Tar::default(), &[&plain]).contains("b/layer.tar"));
    assert!(member(json!(["../layer.tar"]), Tar::default(), &[&plain]).contains("no such file"));
    let out = Tar::default().link(b'2', "l", "../../etc/passwd");
    assert!(member(json!(["l"]), out, &[&plain]).contains("no such file"));
    let absolute = Tar::default().link(b'2', "l", "/a/layer.tar");
    assert!(member(json!(["l"]), absolute, &[&plain]).contains("no such file"));
    let twice = Tar::default().link(b'2', "l", "m").link(b'2', "m", "a/layer.tar");
    assert!(member(json!(["l"]), twice, &[&plain]).contains("no such file"));
    assert!(member(json!(["a/layer.tar"]), Tar::default(), &[]).contains("number of layers"));
}

#[test]
fn an_image_without_layers_and_without_a_name_is_one_too() {
    let dir = TempDir::new().unwrap();
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let listing = json!([{ "Config": "config.json", "RepoTags": null, "Layers": null }]).to_string();
    let file = dir.path().join("docker.tar");
    let tar = Tar::default().file("config.json", config.to_string().as_bytes());
    std::fs::write(&file, tar.file("manifest.json", listing.as_bytes()).end()).unwrap();
    let archive = Archive::open_docker(&file, None).unwrap();
    check_blobs(&archive);
    assert_eq!(manifest(&archive).layers.len(), 0);
    let target = ArchiveTarget::docker(&dir.path().join("again.tar"), None).unwrap();
    copy_image(&archive, &target, &Selection::All, &()).unwrap();
    check_blobs(&Archive::open_docker(&dir.path().join("again.tar"), None).unwrap());
}

#[test]
fn an_archive_from_before_docker_1_10_is_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("old.tar");
    std::fs::write(&file, Tar::default().file("repositories", b"{}").end()).unwrap();
    let error = Archive::open_docker(&file, None).unwrap_err().to_string();
    assert!(error.contains("before 1.10") && error.contains("save it again"), "{error}");
}

#[test]
fn links_have_no_place_in_an_oci_archive() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.tar");
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    std::fs::write(&file, Tar::default().file("index.json", index).link(b'2', "blobs/sha256/a", "/x").end()).unwrap();
    let error = Archive::open_oci(&file, None).unwrap_err().to_string();
    assert!(error.contains("blobs/sha256/a") && error.contains("link"), "{error}");
}

#[test]
fn compressed_archives_are_refused_with_the_command_that_helps() {
    let case = Case::new();
    case.copy_to(&ArchiveTarget::oci(&case.path("a.tar"), None).unwrap());
    let bytes = std::fs::read(case.path("a.tar")).unwrap();
    std::fs::write(case.path("a.tar.gz"), gzip(&bytes)).unwrap();
    std::fs::write(case.path("a.tar.zst"), [b"\x28\xb5\x2f\xfd", &bytes[..]].concat()).unwrap();
    for (file, tool) in [("a.tar.gz", "gzip -d"), ("a.tar.zst", "zstd -d")] {
        let error = Archive::open_oci(&case.path(file), None).unwrap_err().to_string();
        assert!(error.contains(tool), "{error}");
    }
    assert!(Archive::open_oci(case.dir.path(), None).unwrap_err().to_string().contains("regular file"));
}

#[test]
fn ranges_of_an_archive_are_read_whole_or_not_at_all() {
    let case = Case::new();
    case.copy_to(&ArchiveTarget::oci(&case.path("a.tar"), None).unwrap());
    let archive = Archive::open_oci(&case.path("a.tar"), None).unwrap();
    let layer = manifest(&archive).layers[0].clone();
    let mut bytes = Vec::new();
    archive.open(layer.digest).unwrap().read_to_end(&mut bytes).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for range in [0..0, 0..layer.size, 5..6, layer.size - 1..layer.size, layer.size..layer.size] {
            let read = archive.read_range(layer.digest, range.clone()).await.unwrap();
            assert_eq!(read, bytes[range.start as usize..range.end as usize]);
        }
        for range in [0..layer.size + 1, 7..u64::MAX, std::ops::Range { start: 5, end: 4 }] {
            assert!(matches!(
                dimsum_testing::fault(&archive.read_range(layer.digest, range).await),
                Some(SourceFault::Range { .. })
            ));
        }
        let missing = archive.read_range(Digest::of(b"?"), 0..1).await;
        assert!(matches!(dimsum_testing::fault(&missing), Some(SourceFault::NotFound { .. })));
    });
    assert!(archive.open_at(layer.digest, layer.size + 1).is_err());
}

proptest! {
    #[test]
    fn every_member_is_found_where_it_was_written(
        files in prop::collection::btree_map("[a-z]{1,8}(/[a-z]{1,8}){0,3}\\.f", 0usize..2000, 0..20),
    ) {
        let mut tar = Tar::default();
        for (name, &length) in &files {
            tar = tar.file(name, &noise(length, length as u64));
        }
        let archive = tar.end();
        let members = Members::parse("test.tar", &archive).unwrap();
        prop_assert_eq!(members.files().count(), files.len());
        for (name, &length) in &files {
            let range = members.file(name).unwrap();
            prop_assert_eq!(&archive[range.start as usize..range.end as usize], &noise(length, length as u64)[..]);
        }
    }

    #[test]
    fn a_damaged_archive_gives_members_inside_of_it_or_an_error(
        flips in prop::collection::vec((0usize..6000, any::<u8>()), 1..6),
        cut in 0usize..6000,
    ) {
        let tar = Tar::default().file("index.json", b"{}").extended(b'x', "11 path=ab\n").file("x", &noise(700, 1));
        let mut archive = tar.link(b'2', "l", "ab").file("last", b"x").end();
        for (at, byte) in flips {
            let length = archive.len();
            archive[at % length] = byte;
        }
        archive.truncate(archive.len().max(cut));
        if let Ok(members) = Members::parse("test.tar", &archive) {
            let mut ranges: Vec<_> = members.files().map(|(_, range)| range).collect();
            ranges.sort_by_key(|range| range.start);
            prop_assert!(ranges.iter().all(|range| range.start <= range.end && range.end <= archive.len() as u64));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "contents do not overlap");
        }
    }
}
