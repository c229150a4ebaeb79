//! What images and layouts say of themselves is shown to people and programs, and does nothing else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use dimsum_format::Digest;
use serde_json::{Value, json};

use crate::support::{Layer, Scratch, TAG, both, write_layout};

/// Clears a screen, by seven and by eight bits, and turns text around.
const STEER: &str = "\x1b[2J\u{9b}2J\u{202e}";

fn is_tame(text: &str) -> bool {
    !text.contains(['\x1b', '\u{9b}', '\u{202e}'])
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Changes the manifest of the only image of a layout.
fn edit(layout: &Path, change: impl Fn(&mut Value)) {
    let mut index = read(&layout.join("index.json"));
    let digest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
    let blobs = layout.join("blobs/sha256");
    let mut manifest = read(&blobs.join(digest.hex()));
    change(&mut manifest);
    let bytes = manifest.to_string();
    let digest = Digest::of(bytes.as_bytes());
    fs::write(blobs.join(digest.hex()), &bytes).unwrap();
    index["manifests"][0]["digest"] = json!(digest);
    index["manifests"][0]["size"] = json!(bytes.len());
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn annotations_and_tags_cannot_steer_a_terminal() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), vec![Layer::default().file("a", 0o644, b"a")], json!({}));
    let image = scratch.image("image");
    scratch.ok(&["convert", &scratch.image("source"), &image]);
    edit(&scratch.path("image"), |manifest| {
        manifest["annotations"]["io.dimsum.encoder"] = json!(STEER);
        manifest["layers"][0]["annotations"]["io.dimsum.source.diff-id"] = json!(STEER);
    });
    for words in [&["inspect", &image][..], &["inspect", "--chunks", &image], &["inspect", &image, "--format", "json"]]
    {
        let shown = scratch.ok(words);
        assert!(is_tame(&shown), "{shown:?}");
    }
    let told: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    assert_eq!(told["encoder"], STEER, "a program gets it as it is");

    let mut index = read(&scratch.path("image").join("index.json"));
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!(STEER);
    fs::write(scratch.path("image").join("index.json"), index.to_string()).unwrap();
    for format in ["text", "json"] {
        let output = scratch.output(&["inspect", &image, "--format", format]);
        assert_eq!(output.status.code(), Some(1));
        assert!(both(&output).contains("[2J") && is_tame(&both(&output)), "{:?}", both(&output));
    }
}

#[test]
fn names_and_link_targets_of_any_bytes_reach_programs_whole() {
    let scratch = Scratch::new();
    let tree = scratch.path("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    symlink(OsStr::from_bytes(b"to\xff"), tree.join("link")).unwrap();
    symlink("plain", tree.join("other")).unwrap();
    fs::write(tree.join(OsStr::from_bytes(b"na\xfeme")), "x").unwrap();
    let deep = tree.join(OsStr::from_bytes(b"dir\xfd"));
    fs::create_dir(&deep).unwrap();
    fs::write(deep.join("file"), "content").unwrap();
    let image = format!("oci:{}:{TAG}", scratch.path("image").display());
    let source = format!("dir:{}", tree.display());
    scratch.ok(&["convert", &source, &image]);
    let rows = scratch.ok(&["ls", "--format", "json", &image]);
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |key: &str, hex: &str| rows.iter().find(|row| row[key] == hex).unwrap();
    assert_eq!(row("path_hex", "6e61fe6d65")["type"], "file");
    assert_eq!(row("path", "link")["target_hex"], "746fff");
    assert_eq!((&row("path", "other")["target"], row("path", "other").get("target_hex")), (&json!("plain"), None));
    let map: Value = serde_json::from_str(&scratch.ok(&["inspect", "--chunks", &image, "--format", "json"])).unwrap();
    assert_eq!(map["directories"][0]["path_hex"], "646972fd");

    // A directory is no image that could stand beside the new one, or be given back.
    for option in ["--with-original", "--keep-original"] {
        let refused = scratch.output(&["convert", option, &source, &scratch.image("other")]);
        assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));
    }
}

#[test]
fn sizes_that_no_disk_holds_are_shown_or_refused_and_nothing_panics() {
    let scratch = Scratch::new();
    let source = scratch.image("source");
    let layers = ["a", "b"].map(|name| Layer::default().file(name, 0o644, name.as_bytes()));
    write_layout(&scratch.path("source"), layers.into(), json!({}));
    let image = scratch.image("image");
    scratch.ok(&["convert", &source, &image]);
    let huge = |manifest: &mut Value| {
        for layer in 0..2 {
            manifest["layers"][layer]["size"] = json!(u64::MAX);
        }
    };
    edit(&scratch.path("image"), huge);
    edit(&scratch.path("source"), huge);
    for words in [
        &["inspect", &image][..],
        &["inspect", "--chunks", &image],
        &["diff", "--no-data", &image, &image],
        &["check", &image],
        &["store", "fill", &image],
        &["estimate", &image],
        &["estimate", &source],
        &["convert", &source, &scratch.image("other")],
        &["copy", &image, &scratch.image("copy")],
    ] {
        let output = scratch.output(words);
        assert!(matches!(output.status.code(), Some(0..=3)), "{words:?}: {}", both(&output));
    }
    let shown: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    assert_eq!(shown["stored_bytes"], u64::MAX);
}

#[test]
fn a_layer_that_does_not_unpack_is_said_with_what_to_do() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), vec![Layer::default().file("a", 0o644, b"a")], json!({}));
    let blob = [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[0xff; 100]].concat();
    let digest = Digest::of(&blob);
    fs::write(scratch.path("source/blobs/sha256").join(digest.hex()), &blob).unwrap();
    edit(&scratch.path("source"), |manifest| {
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        manifest["layers"][0] = json!({ "mediaType": gzip, "digest": digest, "size": blob.len() });
    });
    let output = scratch.output(&["convert", &scratch.image("source"), &scratch.image("image")]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("next: the blob of the layer is damaged, or has"), "{}", both(&output));
}
