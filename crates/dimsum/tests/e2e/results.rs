//! Where results go: to standard output or a file, whole, in lines that no image has written.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Layer, Scratch, both, write_layout};
use crate::views::noise;

fn converted(scratch: &Scratch, name: &str, layer: Layer) -> String {
    let source = format!("{name}-source");
    write_layout(&scratch.path(&source), vec![layer], json!({}));
    scratch.ok(&["convert", &scratch.image(&source), &scratch.image(name)]);
    scratch.image(name)
}

#[test]
fn a_dash_is_standard_output() {
    let scratch = Scratch::new();
    let image = converted(&scratch, "image", Layer::default().file("a", 0o644, b"content"));
    let empty = scratch.path("empty");
    fs::create_dir(&empty).unwrap();
    let stdout = |words: &[&str]| {
        let output = scratch.dimsum(words).current_dir(&empty).output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        output.stdout
    };
    let file = empty.join("file.tar").display().to_string();
    stdout(&["export", &image, &format!("tar:{file}")]);
    let tar = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    for target in ["-", "tar:-"] {
        assert_eq!(stdout(&["export", &image, target]), tar, "{target}");
    }
    let picture = String::from_utf8(stdout(&["inspect", "--chunks", &image, "--html", "-"])).unwrap();
    assert!(picture.starts_with("<!") && picture.trim_end().ends_with("</html>"), "{picture}");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_tar_gets_its_name_when_it_is_whole() {
    let scratch = Scratch::new();
    let layer = Layer::default().file("a", 0o644, &noise(1, 900_000)).file("b", 0o644, b"small");
    let image = converted(&scratch, "image", layer);
    let told: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    let pack = told["packs"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let pack = scratch.path("image/blobs/sha256").join(pack);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[600_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let out = scratch.path("out");
    fs::create_dir(&out).unwrap();
    let target = format!("tar:{}", out.join("file").display());
    let output = scratch.output(&["export", &image, &target]);
    assert_eq!(output.status.code(), Some(3), "{}", both(&output));
    assert!(both(&output).contains("next: `dimsum check IMAGE --data`"), "{}", both(&output));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_full_disk_is_said_with_what_to_do() {
    let scratch = Scratch::new();
    let image = converted(&scratch, "image", Layer::default().file("a", 0o644, &noise(1, 900_000)));
    let output = scratch.output(&["export", &image, "tar:/dev/full"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("next: make room there"), "{}", both(&output));
}

#[test]
fn names_in_images_write_no_lines_into_a_log() {
    let scratch = Scratch::new();
    let forged = "x\n+ forged | 1 B";
    let a = converted(&scratch, "a", Layer::default().file("same", 0o644, b"same"));
    let b = converted(&scratch, "b", Layer::default().file("same", 0o644, b"same").file(forged, 0o644, b"y"));
    let text = scratch.ok(&["diff", &a, &b]);
    assert!(text.starts_with("+ /x\\n+ forged | 1 B | 1 B\n"), "{text}");
    let row = scratch.ok(&["diff", &a, &b, "--format", "json"]);
    let row: Value = serde_json::from_str(row.lines().next().unwrap()).unwrap();
    assert_eq!(row["path"], forged, "a program gets it as it is");
    assert!(scratch.ok(&["diff", &a, &a]).contains("has to fetch at most 0 B for all of B, of this meta 0 B"));
}
