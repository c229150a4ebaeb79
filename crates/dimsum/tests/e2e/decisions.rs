//! What a conversion that shares says of it, between layouts.

use serde_json::{Value, json};

use crate::support::{Layer, Scratch, both, write_layout};
use crate::views::noise;

/// Two ordinary images with a common base.
fn sources(scratch: &Scratch) -> [String; 2] {
    ["one", "two"].map(|name| {
        let base = Layer::default().file("base", 0o644, &noise(1, 600_000));
        let own = Layer::default().file("own", 0o644, name.as_bytes());
        write_layout(&scratch.path(name), vec![base, own], json!({}));
        scratch.image(name)
    })
}

#[test]
fn verbose_tells_what_was_shared_and_why_and_the_text_what_is_new() {
    let scratch = Scratch::new();
    let [one, two] = sources(&scratch);
    let image = scratch.image("image");
    let convert = |source: &str| {
        let output = scratch.output(&["convert", "-v", "--dedup-with", "auto", source, &image]);
        assert!(output.status.success(), "{}", both(&output));
        both(&output)
    };
    let first = convert(&one);
    assert!(first.contains("stands for no Dimsum image that could be followed"), "{first}");
    assert!(first.contains("; in packs that were there already 0 B\n"), "{first}");
    let told: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    let (manifest, pack) = (told["manifest"].as_str().unwrap(), told["packs"][0]["digest"].as_str().unwrap());
    let second = convert(&two);
    for part in [
        format!("it follows {manifest}"),
        format!("shared with the packs of {manifest}"),
        format!("pack {pack} ("),
        "made, as pack sha256:".to_owned(),
        "; in packs that were there already 58".to_owned(),
    ] {
        assert!(second.contains(&part), "{part}: {second}");
    }
    // Whose the pack is can be seen afterwards too.
    for words in [&["inspect", &image][..], &["inspect", "--chunks", &image]] {
        let text = scratch.ok(words);
        assert!(text.contains(&format!("of another image, {manifest}")), "{text}");
    }

    let archive = format!("oci-archive:{}", scratch.path("image.tar").display());
    let output = scratch.output(&["convert", "--dedup-with", "auto", &one, &archive]);
    assert!(output.status.success() && both(&output).contains("auto shares nothing here"), "{}", both(&output));
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_missing_is_named() {
    let scratch = Scratch::new();
    let [one, two] = sources(&scratch);
    let image = scratch.image("image");
    scratch.ok(&["convert", &one, &image]);
    let told: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    let layout = image.trim_end_matches(":test");
    let (pinned, missing) = (format!("{layout}@{}", told["manifest"].as_str().unwrap()), format!("{layout}:missing"));
    let other = scratch.image("other");
    for (words, status, part) in [
        (&["convert", &one, &one][..], 2, "the source and the target are the same"),
        (&["export", &image, &image], 2, "the source and the target are the same"),
        (&["convert", &two, &other, "--reuse", "never", "--reuse-from", &pinned], 2, "with --reuse never"),
        (
            &["convert", &two, &other, "--dedup-with", &missing],
            1,
            &*format!("dimsum: not found: cannot convert {two}\n"),
        ),
        (&["convert", &two, &other, "--dedup-with", &missing], 1, "next: check the name"),
        (&["convert", &two, &other, "--dedup-with", &one], 2, "next: `dimsum convert` makes a Dimsum image of it"),
    ] {
        let output = scratch.output(words);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {}", both(&output));
        assert!(both(&output).contains(part), "{words:?}: {}", both(&output));
    }
}
