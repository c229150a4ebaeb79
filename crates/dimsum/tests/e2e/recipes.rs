//! Recipes of `convert --keep-original` in a layout, and what stands in their way.

use std::fs;

use dimsum_format::Digest;
use serde_json::{Value, json};

use crate::support::{Layer, Scratch, both, write_layout};

fn source(scratch: &Scratch) -> (String, Digest) {
    let layer = Layer::default().file("a", 0o644, b"content");
    let digest = write_layout(&scratch.path("source"), vec![layer], json!({}));
    (scratch.image("source"), digest)
}

#[test]
fn other_layers_than_the_originals_have_to_be_asked_for() {
    let scratch = Scratch::new();
    let (source, digest) = source(&scratch);
    let image = scratch.image("image");
    scratch.ok(&["convert", "--keep-original", &source, &image]);
    for option in [&["--compression", "zstd"][..], &["--level", "5"], &["--compression=gzip"]] {
        let output = scratch.output(&[&["export", &image, &scratch.image("refused")], option].concat());
        assert_eq!(output.status.code(), Some(2), "{}", both(&output));
        assert!(both(&output).contains("next: add --no-original"), "{}", both(&output));
    }
    assert!(!scratch.path("refused").exists());
    let export = |words: &[&str], name: &str| -> Value {
        let target = scratch.image(name);
        let words = [&["export", &image, &target, "--format", "json"], words].concat();
        serde_json::from_str(&scratch.ok(&words)).unwrap()
    };
    assert_eq!(export(&[], "original")["manifest"], digest.to_string());
    let rebuilt = export(&["--no-original", "--compression", "zstd"], "rebuilt");
    assert_eq!((&rebuilt["original"], &rebuilt["layers"][0]["reached"]), (&json!(false), &json!("rebuilt")));
    // A tar has no layers.
    let output = scratch.output(&["export", &image, "-", "--level", "5"]);
    assert_eq!(output.status.code(), Some(2), "{}", both(&output));
}

#[test]
fn a_tag_in_the_place_of_the_list_of_recipes_is_named_and_keeps_nobody_from_the_image() {
    let scratch = Scratch::new();
    let (source, _) = source(&scratch);
    let image = scratch.image("image");
    let told: Value = serde_json::from_str(&scratch.ok(&["convert", &source, &image, "--format", "json"])).unwrap();
    let manifest: Digest = told["manifest"].as_str().unwrap().parse().unwrap();
    let tag = format!("sha256-{}", manifest.hex());
    let file = scratch.path("image/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut wrong = index["manifests"][0].clone();
    wrong["annotations"]["org.opencontainers.image.ref.name"] = json!(tag);
    index["manifests"].as_array_mut().unwrap().push(wrong);
    fs::write(&file, index.to_string()).unwrap();

    let text = scratch.ok(&["export", &image, &scratch.image("back")]);
    let said = text.lines().find(|line| line.starts_with("rebuilt ")).unwrap();
    assert!(said.contains(&tag), "{text}");
    scratch.ok(&["check", &image, "--against", &scratch.image("back")]);
    for words in [&["convert", "--keep-original", &source, &image][..], &["copy", &image, &scratch.image("copy")]] {
        let output = scratch.output(words);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert!(both(&output).contains(&tag) && both(&output).contains("next: delete that tag"), "{}", both(&output));
    }
    scratch.ok(&["copy", "--referrers", "none", &image, &scratch.image("copy")]);
}
