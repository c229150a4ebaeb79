//! check --store with the real program: the store that was named, and the image that was named.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Layer, Scratch, both, write_layout};

/// A file of a store's packs.
fn pack(store: &Path) -> PathBuf {
    let mut path = store.join("packs");
    while path.is_dir() {
        path = fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

#[test]
fn the_store_that_was_named_is_the_one_that_is_proven() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), vec![Layer::default().file("a", 0o644, b"content")], json!({}));
    let (image, other) = (scratch.image("source"), scratch.path("other").display().to_string());
    scratch.ok(&["cat", &image, "/a"]);
    scratch.ok(&["cat", "--store", &other, &image, "/a"]);
    scratch.ok(&["--store", &other, "check", &image, "--store"]);
    let file = pack(Path::new(&other));
    fs::write(&file, b"damaged").unwrap();
    scratch.ok(&["check", &image, "--store"]);
    for words in [&["--store", &other, "check", &image, "--store"][..], &["check", &image, &format!("--store={other}")]]
    {
        let output = scratch.output(words);
        assert_eq!(output.status.code(), Some(3), "{words:?}: {}", both(&output));
        assert!(both(&output).contains(file.to_str().unwrap()), "{}", both(&output));
    }
}

/// Before the command, the option that all commands share is the same option: it must not turn a check of the source
/// into another one.
#[test]
fn a_check_of_the_source_is_not_silently_one_of_the_store() {
    let scratch = Scratch::new();
    let (image, store) = (scratch.image("image"), scratch.store());
    for words in [&["--data"][..], &["--against", "dir:/etc"]] {
        let before = [&["--store", store.to_str().unwrap(), "check", &image], words].concat();
        let output = scratch.output(&before);
        assert_eq!(output.status.code(), Some(2), "{}", both(&output));
        assert!(both(&output).contains("DIMSUM_STORE"), "{}", both(&output));
    }
}

#[test]
fn a_check_says_that_an_image_is_not_in_the_store_and_puts_nothing_there() {
    let scratch = Scratch::new();
    for name in ["source", "plain"] {
        let layer = Layer::default().file("a", 0o644, name.as_bytes());
        write_layout(&scratch.path(name), vec![layer], json!({}));
    }
    let image = scratch.image("image");
    scratch.ok(&["convert", &scratch.image("source"), &image]);
    let missing = |image: &str, words: &[&str]| {
        let output = scratch.output(&[&["check", image], words].concat());
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert!(both(&output).contains(" is not in the store "), "{}", both(&output));
    };
    let nowhere = scratch.path("nowhere");
    missing(&image, &[&format!("--store={}", nowhere.display())]);
    missing(&image, &["--store"]);
    assert!(!nowhere.exists() && !scratch.store().exists());
    // There is a store, with another image.
    scratch.ok(&["cat", &image, "/a"]);
    scratch.ok(&["check", &image, "--store"]);
    missing(&scratch.image("plain"), &["--store"]);
    missing(&scratch.image("plain"), &["--store"]);
}
