//! convert, inspect, ls, cat and check with the real program, unprivileged.

use std::fs;
use std::path::PathBuf;

use crate::support::{Layer, Scratch, both, write_layout};
use serde_json::{Value, json};

/// Two layers: the second deletes a file, replaces one and links to another.
fn two_layers() -> Vec<Layer> {
    let large: Vec<u8> = (0..700_000_u32).flat_map(|i| (i / 5).to_le_bytes()).collect();
    let lower = Layer::default()
        .dir("etc", 0o755)
        .file("etc/old", 0o644, b"old")
        .file("etc/replaced", 0o600, b"before")
        .file("large", 0o644, &large)
        .symlink("link", "/etc/../etc/replaced");
    let upper = Layer::default()
        .file("etc/.wh.old", 0o644, b"")
        .file("etc/replaced", 0o640, b"after\n")
        .file("etc/n\x1bw", 0o644, b"")
        .link("hard", "etc/replaced")
        .fifo("pipe");
    vec![lower, upper]
}

fn converted() -> Scratch {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), two_layers(), json!({ "Cmd": ["sh"] }));
    scratch.ok(&["convert", &scratch.image("source"), &scratch.image("out")]);
    scratch
}

#[test]
fn a_converted_image_shows_the_merged_tree() {
    let scratch = converted();
    let image = scratch.image("out");
    let listed = scratch.ok(&["ls", "-R", &image]);
    let names: Vec<&str> = listed.lines().collect();
    assert_eq!(names, ["etc", "etc/n\x1bw", "etc/replaced", "hard", "large", "link", "pipe"]);
    assert_eq!(scratch.ok(&["cat", &image, "/etc/replaced"]), "after\n");
    assert_eq!(scratch.ok(&["cat", &image, "link"]), "after\n");
    let long = scratch.ok(&["ls", "-l", &image, "hard"]);
    assert!(long.starts_with("-rw-r-----   2     0     0          6 2023-11-14 22:13:20 hard"), "{long}");
    let output = scratch.output(&["cat", &image, "/large"]);
    let expected: Vec<u8> = (0..700_000_u32).flat_map(|i| (i / 5).to_le_bytes()).collect();
    assert!(output.stdout == expected, "{:?}", output.status);
}

#[test]
fn json_holds_what_a_script_needs() {
    let scratch = converted();
    let inspected: Value =
        serde_json::from_str(&scratch.ok(&["inspect", &scratch.image("out"), "--format", "json"])).unwrap();
    assert_eq!(inspected["inodes"]["all"], 7);
    assert_eq!(inspected["inodes"]["names"], 7);
    assert!(inspected["packs"].as_array().is_some_and(|packs| !packs.is_empty()));
    assert_eq!(inspected["options"], "slice=262144,bundle=131072");
    let listed = scratch.ok(&["ls", &scratch.image("out"), "/", "--format", "json"]);
    let link: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let link = link.iter().find(|row| row["path"] == "link").unwrap();
    assert_eq!((link["type"].as_str(), link["target"].as_str()), (Some("symlink"), Some("/etc/../etc/replaced")));
}

#[test]
fn an_ordinary_image_is_read_as_it_is_and_the_second_time_without_its_source() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), two_layers(), json!({}));
    let image = scratch.image("source");
    assert_eq!(scratch.ok(&["cat", &image, "/etc/replaced"]), "after\n");
    fs::rename(scratch.path("source"), scratch.path("moved")).unwrap();
    assert_eq!(scratch.ok(&["cat", &image, "/etc/replaced"]), "after\n");
    // Without the key the records are nobody's word.
    fs::remove_file(scratch.path("node.key")).unwrap();
    let output = scratch.output(&["cat", &image, "/etc/replaced"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn an_image_equals_its_source_and_not_another() {
    let scratch = converted();
    let (image, source) = (scratch.image("out"), scratch.image("source"));
    scratch.ok(&["check", &image, "--data", "--against", &source]);
    let other = Layer::default().dir("etc", 0o700).file("etc/replaced", 0o640, b"After\n");
    write_layout(&scratch.path("other"), vec![other], json!({}));
    let output = scratch.output(&["check", &image, "--against", &scratch.image("other")]);
    assert_eq!(output.status.code(), Some(3));
    let text = both(&output);
    for difference in ["/etc: mode: source 0700, image 0755", "/etc/replaced: content", "/large: name: source missing"]
    {
        assert!(text.contains(difference), "{difference} is not in {text}");
    }
}

#[test]
fn a_flipped_byte_or_a_cut_of_any_blob_is_found_and_named() {
    let scratch = converted();
    let image = scratch.image("out");
    scratch.ok(&["check", &image, "--data"]);
    let blobs = fs::read_dir(scratch.path("out/blobs/sha256")).unwrap();
    for blob in blobs.map(|entry| entry.unwrap().path()) {
        let whole = fs::read(&blob).unwrap();
        let half = whole.len() / 2;
        for place in [0, whole.len() / 3, half, whole.len() - 1, whole.len()] {
            let mut damaged = whole.clone();
            match damaged.get_mut(place) {
                Some(byte) => *byte ^= 1,
                None => damaged.truncate(half),
            }
            fs::write(&blob, damaged).unwrap();
            let output = scratch.output(&["check", &image, "--data"]);
            assert_eq!(output.status.code(), Some(3), "{}: byte {place}\n{}", blob.display(), both(&output));
            let name = blob.file_name().unwrap().to_string_lossy().into_owned();
            assert!(both(&output).contains(&name), "{} is not named\n{}", blob.display(), both(&output));
        }
        fs::write(&blob, whole).unwrap();
    }
    scratch.ok(&["check", &image, "--data"]);
}

#[test]
fn a_damaged_chunk_is_named_with_its_offset() {
    let scratch = converted();
    let image = scratch.image("out");
    let inspected: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    let digest = inspected["packs"][0]["digest"].as_str().unwrap().to_owned();
    let pack: PathBuf = scratch.path("out/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let mut bytes = fs::read(&pack).unwrap();
    bytes[20] ^= 0x40;
    fs::write(&pack, bytes).unwrap();
    let output = scratch.output(&["check", &image, "--data", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &report["findings"]["listed"][0];
    assert_eq!((first["object"].as_str(), first["offset"].as_u64()), (pack.to_str(), Some(0)), "{report}");
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["status"]), (&json!("integrity"), &json!(3)));
}

#[test]
fn errors_say_what_and_what_next_and_leave_standard_output_alone() {
    let scratch = converted();
    for (arguments, status, part) in [
        (vec!["cat".to_owned(), scratch.image("out"), "/nothing".to_owned()], 1, "the image has no such file"),
        (vec!["ls".to_owned(), scratch.image("missing")], 1, "not found"),
        (vec!["ls".to_owned(), "./nonsense".to_owned()], 2, "next: name an image as [HOST/]REPO"),
        (vec!["convert".to_owned(), scratch.image("out"), scratch.image("again")], 2, "Dimsum image already"),
        (vec!["ls".to_owned(), String::new()], 2, "an empty word is not an image name"),
        (vec!["convert".to_owned(), scratch.image("source"), "oci:".to_owned()], 2, "next: name an image as"),
        (vec!["ls".to_owned()], 2, "Usage"),
        (vec!["ls".to_owned(), "--format=json".to_owned()], 2, r#""kind":"invalid""#),
    ] {
        let output = scratch.output(&arguments);
        let text = both(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(part) && output.stdout.is_empty(), "{arguments:?}: {text}");
    }
}

#[test]
fn a_source_or_a_directory_that_is_wrong_is_said_with_what_to_do() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), two_layers(), json!({}));
    let convert = ["convert", &scratch.image("source"), &scratch.image("out")];
    let output = scratch.dimsum(&convert).env("TMPDIR", scratch.path("missing")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("with TMPDIR"), "{}", both(&output));

    // A flipped byte: the length is right, and not in question.
    let mut blobs = fs::read_dir(scratch.path("source/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = blobs.find(|path| fs::metadata(path).unwrap().len() > 100_000).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let output = scratch.output(&convert);
    let text = both(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("the blob has the digest ") && !text.contains("must be"), "{text}");
    assert!(text.contains("next: get the source again"), "{text}");
}
