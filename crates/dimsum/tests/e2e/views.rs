//! diff and inspect --chunks with the real program, unprivileged.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Layer, Scratch, both, write_layout};

/// Bytes that no compression makes smaller, other ones for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(|| next().to_le_bytes()).flatten().take(length).collect()
}

/// Converts an image made of layers.
fn convert(scratch: &Scratch, name: &str, layers: Vec<Layer>) -> String {
    let source = format!("{name}-source");
    write_layout(&scratch.path(&source), layers, json!({}));
    let image = scratch.image(name);
    scratch.ok(&["convert", &scratch.image(&source), &image]);
    image
}

const SLICE: usize = 256 << 10;

/// Two images of one layer each. In the second `moved` lies in another bundle, for there is `aaa` before it.
fn pair(scratch: &Scratch) -> (String, String) {
    let (same, mut changed) = (noise(1, 3 * SLICE + 7), noise(2, 3 * SLICE));
    let layer = |changed: &[u8]| Layer::default().file("same", 0o644, &same).file("changed", 0o644, changed);
    let a = layer(&changed)
        .dir("d", 0o755)
        .file("d/gone", 0o644, &noise(3, 5000))
        .file("d/moved", 0o644, &noise(4, 6000))
        .file("d/other", 0o644, b"before")
        .file("d/mode", 0o644, b"")
        .symlink("d/link", "a")
        .dir("only", 0o755)
        .dir("only/d", 0o755)
        .file("only/d/x", 0o644, &noise(6, 4096))
        .file("only/y", 0o644, &noise(7, 1024));
    changed[2 * SLICE + 5] ^= 1;
    let b = layer(&changed)
        .dir("d", 0o755)
        .file("d/aaa", 0o644, &noise(5, 9000))
        .file("d/moved", 0o644, &noise(4, 6000))
        .file("d/other", 0o644, b"after!")
        .file("d/mode", 0o755, b"")
        .symlink("d/link", "b");
    (convert(scratch, "a", vec![a]), convert(scratch, "b", vec![b]))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn diff_tells_each_name_that_differs_and_in_what() {
    let scratch = Scratch::new();
    let (a, b) = pair(&scratch);
    let text = scratch.ok(&["diff", &a, &b]);
    let names: Vec<&str> = text.lines().take_while(|line| !line.starts_with("A ")).collect();
    let expected = [
        "M /changed | content",
        "+ /d/aaa | 8.8 KiB",
        "- /d/gone | 4.9 KiB",
        "M /d/link | target",
        "M /d/mode | mode",
        "M /d/other | content",
        "- /only | directory with 3 names, 5.0 KiB",
    ];
    assert_eq!(names, expected, "{text}");
    let told = lines(&scratch.ok(&["diff", &a, &b, "--format", "json", "--list", "2"]));
    assert_eq!(told.len(), 3);
    let (row, summary) = (&told[0], &told[2]["summary"]);
    assert_eq!((&row["path"], &row["aspects"]), (&json!("changed"), &json!(["content"])));
    let files = &summary["files"];
    let counts = ["added", "removed", "changed", "content_changed", "same"].map(|key| files[key].as_u64().unwrap());
    assert_eq!(counts, [1, 5, 4, 2, 4]);
    // `moved` and `other` are the two that the maps do not tell.
    assert_eq!((&files["files_read"], &files["unknown"], &summary["not_listed"]), (&json!(2), &json!(0), &json!(5)));
    let ignoring = scratch.ok(&["diff", &a, &b, "--ignore", "mode,target,content"]);
    assert_eq!(ignoring.lines().take_while(|line| !line.starts_with("A ")).count(), 3, "{ignoring}");
    let all = scratch.ok(&["diff", "--all", &a, &b]);
    assert!(all.contains("- /only/d/x | 4.0 KiB\n"), "{all}");
}

#[test]
fn diff_without_data_reads_none_and_does_not_guess() {
    let scratch = Scratch::new();
    let (a, b) = pair(&scratch);
    // What is not there cannot be read.
    for image in ["a", "b"] {
        let inspected = scratch.ok(&["inspect", &scratch.image(image), "--format", "json"]);
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        let digest = inspected["packs"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        fs::remove_file(scratch.path(image).join("blobs/sha256").join(digest)).unwrap();
    }
    let text = scratch.ok(&["diff", &a, &b, "--no-data"]);
    for line in ["M /changed | content\n", "? /d/moved | content unknown\n", "? /d/other | content unknown\n"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("/same"), "{text}");
    let output = scratch.output(&["diff", &a, &b]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
}

#[test]
fn diff_counts_what_a_node_with_the_first_image_has_to_fetch() {
    let scratch = Scratch::new();
    let (a, b) = pair(&scratch);
    let told = lines(&scratch.ok(&["diff", &a, &b, "--format", "json"]));
    let chunks = &told.last().unwrap()["summary"]["chunks"];
    let count = |key: &str| chunks[key]["chunks"].as_u64().unwrap();
    // Three slices of `same` (the last one joined) and two of `changed` are in both; one slice and one bundle are not.
    assert_eq!(["only_a", "only_b", "same_pack", "other_pack"].map(count), [2, 2, 0, 5]);
    let stored = chunks["other_pack"]["stored"].as_u64().unwrap();
    assert!(stored > 5 * SLICE as u64, "{stored}");
    let told = lines(&scratch.ok(&["diff", &a, &a, "--format", "json"]));
    assert_eq!(told.len(), 1);
    let chunks = &told[0]["summary"]["chunks"];
    assert_eq!((&chunks["same_pack"]["chunks"], &chunks["only_b"]["chunks"]), (&json!(7), &json!(0)));
}

/// A base with a large file that the layer above deletes and a small one that it replaces.
fn with_dead(scratch: &Scratch) -> String {
    let lower = Layer::default()
        .dir("data", 0o755)
        .file("data/deleted", 0o644, &noise(11, 2 * SLICE))
        .file("data/kept", 0o644, &noise(12, 2 * SLICE))
        .file("data/replaced", 0o644, &noise(13, 8192))
        .file("data/small", 0o644, &noise(14, 8192));
    let upper = Layer::default().file("data/.wh.deleted", 0o644, b"").file("data/replaced", 0o644, &noise(15, 4096));
    convert(scratch, "dead", vec![lower, upper])
}

#[test]
fn chunks_account_for_every_stored_byte_and_for_what_is_deleted() {
    let scratch = Scratch::new();
    let image = with_dead(&scratch);
    let map: Value = serde_json::from_str(&scratch.ok(&["inspect", "--chunks", &image, "--format", "json"])).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let parts: u64 = map["parts"].as_object().unwrap().values().map(number).sum();
    assert_eq!(parts, number(&map["stored_bytes"]));
    let base = &map["packs"][0];
    let stored: u64 = base["chunks"].as_array().unwrap().iter().map(|chunk| number(&chunk["stored"])).sum();
    assert_eq!(stored + number(&base["parts"]["layer_metas"]), number(&base["bytes"]));
    assert_eq!(["slices", "bundles"].map(|key| number(&base[key])), [4, 1]);
    assert_eq!(number(&base["dead"]["chunks"]), 2);
    assert_eq!(number(&base["dead"]["bytes"]), 2 * SLICE as u64);
    assert_eq!(number(&base["used_bytes"]), 2 * SLICE as u64 + 8192);
    // Half of the bundle: `replaced`.
    let beside = number(&base["parts"]["beside"]);
    assert!((8000..8400).contains(&beside), "{beside}");
    assert_eq!(base["on_node"], false);
    assert_eq!(map["directories"][0]["path"], "data");
}

#[test]
fn chunks_show_what_is_shared_with_which_image() {
    let scratch = Scratch::new();
    let (a, b) = pair(&scratch);
    let dead = with_dead(&scratch);
    let words = ["inspect", "--chunks", &a, "--with", &b, "--with", &dead, "--format", "json"];
    let map: Value = serde_json::from_str(&scratch.ok(&words)).unwrap();
    let chunks = |a: usize, b: usize| map["matrix"][a][b]["chunks"].as_u64().unwrap();
    assert_eq!([chunks(0, 0), chunks(0, 1), chunks(1, 0), chunks(0, 2)], [7, 5, 5, 0]);
    assert_eq!(map["packs"][0]["shared_with"][0]["chunks"], 5);
    assert!(map["parts"]["shared"].as_u64().unwrap() > 5 * SLICE as u64);
    let text = scratch.ok(&["inspect", "--chunks", &a, "--with", &b]);
    assert!(text.contains("in image 1 too: 5 chunks"), "{text}");
    // An ordinary image is converted on the way in, and then lies on this node.
    let source = scratch.image("a-source");
    let map = scratch.ok(&["inspect", "--chunks", &source, "--with", &a, "--format", "json"]);
    let map: Value = serde_json::from_str(&map).unwrap();
    assert_eq!((&map["packs"][0]["on_node"], &map["matrix"][0][1]["chunks"]), (&json!(true), &json!(7)));
    let usage = scratch.output(&["inspect", &a, "--with", &b]);
    assert_eq!(usage.status.code(), Some(2), "{}", both(&usage));
}

#[test]
fn a_page_needs_nothing_from_outside_and_names_stay_text() {
    let scratch = Scratch::new();
    let hostile = "<script>alert(1)<\x1b[31m";
    let layer = Layer::default()
        .dir(hostile, 0o755)
        .file(&format!("{hostile}/</title><img src=x onerror=y>"), 0o644, &noise(1, 9000))
        .file("\"'&", 0o644, &noise(2, SLICE));
    let image = convert(&scratch, "hostile", vec![layer]);
    let file = scratch.path("page.html").display().to_string();
    let text = scratch.ok(&["inspect", "--chunks", &image, "--html", &file]);
    assert!(text.contains("/<script>alert(1)<\\u{1b}[31m"), "{text}");
    let page = fs::read_to_string(&file).unwrap();
    for part in ["<script", "<img", "\x1b", "http://", "https://", "url(", "@import"] {
        assert!(!page.contains(part), "{part} is in the page");
    }
    for part in
        ["&lt;script&gt;alert(1)&lt;\\u{1b}[31m", "&lt;/title&gt;&lt;img src=x onerror=y&gt;", "/&quot;&#39;&amp;"]
    {
        assert!(page.contains(part), "{part} is not in the page\n{page}");
    }
    assert_eq!(page.matches("<g><title>").count(), 2);
    assert!(!text.contains('\x1b'));
}
