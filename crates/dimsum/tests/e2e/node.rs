//! What one image brought to this node is there for the next one, whatever pack it lies in.

use serde_json::{Value, json};

use crate::registry::Registry;
use crate::support::{Layer, Scratch, write_layout};
use crate::views::noise;

/// Large enough for several slices.
const SAME: usize = 1_500_000;

/// An image of one layer, so that no two have a pack in common.
fn push(scratch: &Scratch, registry: &Registry, name: &str, own: &[u8]) {
    let layer = Layer::default().file("own", 0o644, own).file("same", 0o644, &noise(1, SAME));
    write_layout(&scratch.path(name), vec![layer], json!({}));
    scratch.ok(&["convert", &scratch.image(name), &registry.image(name)]);
}

fn told(scratch: &Scratch, words: &[&str]) -> Value {
    serde_json::from_str(&scratch.ok(&[&["--format", "json"], words].concat())).unwrap()
}

#[test]
fn privileged_chunks_that_are_on_the_node_are_counted_and_not_fetched() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    let own = noise(3, 90_000);
    push(&scratch, &registry, "one", &noise(2, 90_000));
    push(&scratch, &registry, "two", &own);
    let [one, two] = ["one", "two"].map(|name| registry.image(name));
    assert_eq!(told(&scratch, &["store", "fill", &one])["shared_bytes"], 0);

    let before = &told(&scratch, &["estimate", &two])["node"];
    assert_eq!(before["packs"], 0);
    let shared = before["chunks"]["stored"].as_u64().unwrap();
    assert!((SAME as u64..SAME as u64 + 1000).contains(&shared), "{before}");
    let map = told(&scratch, &["inspect", "--chunks", &two]);
    assert_eq!((&map["packs"][0]["on_node"], &map["packs"][0]["node"]["stored"]), (&json!(false), &json!(shared)));
    let filled = told(&scratch, &["store", "fill", &two]);
    assert_eq!(filled["shared_bytes"], shared);
    assert!(filled["fetched_bytes"].as_u64().unwrap() < 100_000, "{filled}");
    let after = &told(&scratch, &["estimate", &two])["node"];
    assert_eq!((&after["packs"], &after["chunks"]["stored"]), (&json!(1), &after["all_bytes"]));
    // It needs no registry any more.
    drop(registry);
    let read = scratch.output(&["cat", &two, "own"]);
    assert!(read.stdout == own && read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(scratch.output(&["cat", &two, "same"]).stdout == noise(1, SAME));
}
