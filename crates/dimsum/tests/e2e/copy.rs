//! copy with the real program: what refers to an image goes where it goes.

use dimsum_format::Digest;
use serde_json::{Value, json};

use crate::registry::{Registry, skopeo};
use crate::support::{Layer, Scratch, write_layout};
use crate::views::noise;

/// Copies and returns the summary.
fn copy(scratch: &Scratch, from: &str, to: &str, options: &[&str]) -> Value {
    let words = [&["copy", from, to, "--format", "json"], options].concat();
    serde_json::from_str(&scratch.ok(&words)).unwrap()
}

fn carried(summary: &Value) -> (usize, usize) {
    let count = |key: &str| summary[key].as_array().unwrap().len();
    (count("referrers"), count("referrers_left"))
}

#[test]
fn privileged_a_copy_keeps_its_way_back_wherever_it_goes() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    let lower = Layer::default().file("a", 0o644, &noise(1, 300_000)).file("b", 0o644, b"small");
    let layers = vec![lower, Layer::default().file("c", 0o644, &noise(2, 50_000))];
    let source = write_layout(&scratch.path("source"), layers, json!({}));
    let [first, second, third] = ["a:v1", "b:v1", "c:v1"].map(|name| registry.image(name));
    scratch.ok(&["convert", "--keep-original", &scratch.image("source"), &first]);
    let original = |name: &str, image: &str| {
        let back = scratch.image(name);
        scratch.ok(&["export", image, &back]);
        Digest::of(&skopeo(&["inspect", "--raw", &back])) == source
    };

    // From repository to repository, into a layout, and back into a registry.
    let across = copy(&scratch, &first, &second, &[]);
    assert_eq!((carried(&across), &across["bytes_moved"]), ((1, 0), &json!(0)), "{across}");
    assert_eq!(across["referrers"][0]["artifact_type"], "application/vnd.dimsum.original.v1");
    assert_eq!(across["referrers"][0]["subject"], across["digest"]);
    assert!(original("from-second", &second));
    let layout = scratch.image("layout");
    assert_eq!(carried(&copy(&scratch, &second, &layout, &[])), (1, 0));
    assert!(original("from-layout", &layout));
    let text = scratch.ok(&["copy", &layout, &third]);
    assert!(text.contains("with       1 referrer, "), "{text}");
    assert!(original("from-third", &third));

    // Not where nobody wants it, and where it cannot be kept that is said.
    let none = scratch.image("none");
    assert_eq!(carried(&copy(&scratch, &third, &none, &["--referrers", "none"])), (0, 0));
    assert!(!original("from-none", &none));
    let archive = format!("oci-archive:{}", scratch.path("archive.tar").display());
    let left = copy(&scratch, &third, &archive, &[]);
    assert_eq!(carried(&left), (0, 1), "{left}");
    // An ordinary image has no recipes, and nobody is asked for any.
    assert_eq!(carried(&copy(&scratch, &scratch.image("source"), &registry.image("plain:v1"), &[])), (0, 0));
}
