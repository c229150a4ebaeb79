//! Images that share packs in a real registry: a base converted once, an update that stores what is new, a tag that lies.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dimsum_format::{Digest, media};
use serde_json::{Value, json};

use crate::registry::{Registry, skopeo};
use crate::support::{Layer, Scratch, write_layout};

/// Bytes that do not repeat.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn base() -> Layer {
    let mut layer = Layer::default().dir("lib", 0o755).file("lib/large", 0o644, &noise(1_500_000, 1));
    for i in 0..30 {
        layer = layer.file(&format!("lib/{i:02}"), 0o644, &noise(4_000 + 200 * i, 10 + i as u64));
    }
    layer
}

fn app(version: u64) -> Layer {
    Layer::default().dir("app", 0o755).file("app/code", 0o644, &noise(200_000, 100 + version))
}

/// Puts an ordinary image into the registry.
fn push(scratch: &Scratch, registry: &Registry, name: &str, layers: Vec<Layer>) {
    write_layout(&scratch.path(name), layers, json!({ "Cmd": ["sh"] }));
    registry.push(&scratch.image(name), &format!("plain:{name}"));
}

/// Converts one of them.
fn convert(scratch: &Scratch, registry: &Registry, name: &str, target: &str, options: &[&str]) -> Value {
    let (source, target) = (registry.image(&format!("plain:{name}")), registry.image(target));
    let words = [&["convert", &source, &target, "--format", "json"], options].concat();
    serde_json::from_str(&scratch.ok(&words)).unwrap()
}

fn count(summary: &Value, key: &str) -> usize {
    summary[key].as_array().unwrap().len()
}

fn manifest(registry: &Registry, name: &str) -> Value {
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.image(name))]);
    serde_json::from_slice(&raw).unwrap()
}

/// One request by hand; returns the status line.
fn put_manifest(registry: &Registry, name: &str, tag: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(registry.address()).unwrap();
    let (host, kind, length) = (registry.address(), media::MANIFEST, body.len());
    let head = format!(
        "PUT /v2/{name}/manifests/{tag} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// The manifests behind the cache tags of a repository, with their tags.
fn cache(registry: &Registry, name: &str) -> Vec<(String, Value)> {
    let listed = skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}", registry.image(name))]);
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let tags = listed["Tags"].as_array().unwrap().iter().filter_map(Value::as_str);
    let tags = tags.filter(|tag| tag.starts_with("dimsum-cache-"));
    tags.map(|tag| (tag.to_owned(), manifest(registry, &format!("{name}:{tag}")))).collect()
}

#[test]
fn privileged_a_base_is_converted_once_and_a_tag_that_lies_is_refused() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    for version in 1..=3 {
        push(&scratch, &registry, &format!("app{version}"), vec![base(), app(version)]);
    }
    let first = convert(&scratch, &registry, "app1", "apps:one", &[]);
    assert_eq!((count(&first, "reused_packs"), count(&first, "refused")), (0, 0));
    let second = convert(&scratch, &registry, "app2", "apps:two", &[]);
    assert_eq!(count(&second, "reused_packs"), 1, "{second}");
    let (pack, written) =
        (first["layers"][0]["pack_bytes"].as_u64().unwrap(), second["written_bytes"].as_u64().unwrap());
    assert!(written < pack / 2, "{written} bytes written, the base has {pack}");
    let alone = convert(&scratch, &registry, "app2", "alone:two", &["--reuse", "never"]);
    assert_eq!(alone["manifest"], second["manifest"], "re-use changes no byte");
    assert!(cache(&registry, "alone").is_empty(), "`never` leaves no tags");

    // Somebody moves the tag of the base to the pack of an app.
    let tags = cache(&registry, "apps");
    let base_pack = first["layers"][0]["pack"].as_str().unwrap();
    let (base_tag, _) = tags.iter().find(|(_, manifest)| manifest["layers"][0]["digest"] == base_pack).unwrap();
    let (_, other) = tags.iter().find(|(_, manifest)| manifest["layers"][0]["digest"] != base_pack).unwrap();
    let answer = put_manifest(&registry, "apps", base_tag, other.to_string().as_bytes());
    assert!(answer.contains("201"), "{answer}");
    let third = convert(&scratch, &registry, "app3", "apps:three", &[]);
    assert_eq!((count(&third, "reused_packs"), count(&third, "refused")), (0, 1), "{third}");
    assert!(third["refused"][0]["what"].as_str().unwrap().contains(base_tag.as_str()));
    let alone = convert(&scratch, &registry, "app3", "alone:three", &["--reuse", "never"]);
    assert_eq!(alone["manifest"], third["manifest"]);
    // The conversion that refused it has put the right pack there again.
    let healed = convert(&scratch, &registry, "app3", "apps:three", &[]);
    assert_eq!((count(&healed, "reused_packs"), count(&healed, "refused")), (2, 0), "{healed}");
}

#[test]
fn privileged_packs_of_another_repository_leave_tags_where_they_were_proven() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    for version in 1..=3 {
        push(&scratch, &registry, &format!("app{version}"), vec![base(), app(version)]);
    }
    let first = convert(&scratch, &registry, "app1", "first:v1", &["--reuse", "never"]);
    let from = registry.image(&format!("first@{}", first["manifest"].as_str().unwrap()));
    let second = convert(&scratch, &registry, "app2", "second:v2", &["--reuse-from", &from]);
    assert_eq!(count(&second, "reused_packs"), 1, "{second}");
    assert!(second["mounted_bytes"].as_u64().unwrap() > 1_000_000, "{second}");
    let packs = |converted: &Value| {
        let layers = converted["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["pack"].as_str().unwrap().to_owned()).collect::<HashSet<_>>()
    };
    let tagged = |name| -> HashSet<String> {
        let tags = cache(&registry, name);
        tags.iter().map(|(_, manifest)| manifest["layers"][0]["digest"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tagged("second"), packs(&second), "of the pack that was mounted too");
    // It need not be named again, and what is made of it is the same.
    let third = convert(&scratch, &registry, "app3", "second:v3", &[]);
    assert_eq!((count(&third, "reused_packs"), count(&third, "refused")), (1, 0), "{third}");
    let trusting = convert(&scratch, &registry, "app3", "third:v3", &["--reuse", "trust", "--reuse-from", &from]);
    assert_eq!((count(&trusting, "reused_packs"), &trusting["manifest"]), (1, &third["manifest"]), "{trusting}");
    assert!(tagged("third").is_empty(), "nobody has seen that the pack is right");
}

#[test]
fn privileged_a_tag_whose_pack_is_gone_from_the_registry_is_refused_and_set_right() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    push(&scratch, &registry, "app1", vec![base(), app(1)]);
    let first = convert(&scratch, &registry, "app1", "apps:one", &[]);
    let pack: Digest = first["layers"][0]["pack"].as_str().unwrap().parse().unwrap();
    let blobs = scratch.path("registry/docker/registry/v2/blobs/sha256");
    std::fs::remove_file(blobs.join(&pack.hex()[..2]).join(pack.hex()).join("data")).unwrap();
    let second = convert(&scratch, &registry, "app1", "apps:two", &[]);
    assert_eq!((count(&second, "reused_packs"), count(&second, "refused")), (1, 1), "{second}");
    assert_eq!(first["manifest"], second["manifest"]);
    let (image, source) = (registry.image("apps:two"), registry.image("plain:app1"));
    scratch.ok(&["check", &image, "--data", "--against", &source]);
    let third = convert(&scratch, &registry, "app1", "apps:three", &[]);
    assert_eq!((count(&third, "reused_packs"), count(&third, "refused")), (2, 0), "{third}");
}

#[test]
fn privileged_an_update_stores_what_is_new_and_the_image_is_complete_by_itself() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    for version in 1..=3 {
        let grown = Layer::default().file("lib/07", 0o644, &noise(4_000, 500 + version));
        push(&scratch, &registry, &format!("app{version}"), vec![base(), app(version), grown]);
    }
    let auto = ["--dedup-with", "auto"];
    let v1 = convert(&scratch, &registry, "app1", "app:latest", &auto);
    assert_eq!(count(&v1, "foreign_packs"), 0, "there was nothing");
    let v2 = convert(&scratch, &registry, "app2", "app:latest", &auto);
    assert_eq!(count(&v2, "foreign_packs"), 1, "{v2}");
    let written = v2["written_bytes"].as_u64().unwrap();
    assert!(written < 300_000, "{written} bytes for a change of 204,000");
    let described = manifest(&registry, "app:latest");
    assert_eq!(described["annotations"][media::ANNOTATION_PARENT], v1["manifest"]);
    let v3 = convert(&scratch, &registry, "app3", "app:latest", &auto);
    let with = manifest(&registry, "app:latest")["annotations"][media::ANNOTATION_DEDUP].as_str().unwrap().to_owned();
    assert_eq!(with, format!("{},{}", v2["manifest"].as_str().unwrap(), v1["manifest"].as_str().unwrap()));
    let again = convert(&scratch, &registry, "app3", "app:latest", &auto);
    assert_eq!(again["manifest"], v3["manifest"], "the same conversion done again does not follow itself");
    // The name is moved on; the digest of what it stood for still reads back whole, with programs that are not ours too.
    let check =
        scratch.ok(&["check", &registry.image("app:latest"), "--data", "--against", &registry.image("plain:app3")]);
    assert!(!check.is_empty());
    let copied = format!("oci:{}:copy", scratch.path("copied").display());
    skopeo(&["copy", "-q", "--src-tls-verify=false", &format!("docker://{}", registry.image("app:latest")), &copied]);
    scratch.ok(&["check", &copied, "--data"]);
    // The way back has the image's own layers, whoever lends chunks to them.
    let exported = format!("oci:{}:back", scratch.path("exported").display());
    scratch.ok(&["export", &registry.image("app:latest"), &exported]);
    scratch.ok(&["check", &registry.image("app:latest"), "--data", "--against", &exported]);
    let layers = skopeo(&["inspect", "--raw", &exported]);
    let layers: Value = serde_json::from_slice(&layers).unwrap();
    assert_eq!(layers["layers"].as_array().unwrap().len(), 3, "{layers}");

    // Into another repository of the same registry: packs are mounted, not moved.
    let old = registry.image(&format!("app@{}", v3["manifest"].as_str().unwrap()));
    let moved = convert(&scratch, &registry, "app3", "elsewhere:v3", &["--dedup-with", &old]);
    assert!(moved["mounted_bytes"].as_u64().unwrap() > 1_000_000, "{moved}");
    assert_eq!(moved["copied_bytes"], 0);
    scratch.ok(&["check", &registry.image("elsewhere:v3"), "--data"]);
    // Into a layout: they are copied.
    let layout = format!("oci:{}:v3", scratch.path("layout").display());
    let source = registry.image("plain:app3");
    scratch.ok(&["convert", &source, &layout, "--dedup-with", &old]);
    scratch.ok(&["check", &layout, "--data", "--against", &source]);

    let refused = scratch.output(&["convert", &source, &registry.image("x:y"), "--dedup-with", &source]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a Dimsum image"), "{refused:?}");
    let unpinned =
        scratch.output(&["convert", &source, &registry.image("x:y"), "--reuse-from", &registry.image("app:latest")]);
    assert_eq!(unpinned.status.code(), Some(2), "{unpinned:?}");
}

#[test]
fn privileged_an_image_kept_with_its_recipe_comes_back_byte_for_byte_even_if_it_shares() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    let source = write_layout(&scratch.path("kept"), vec![base(), app(1)], json!({ "Cmd": ["sh"] }));
    write_layout(&scratch.path("before"), vec![base(), app(2)], json!({ "Cmd": ["sh"] }));
    let target = registry.image("kept:latest");
    scratch.ok(&["convert", "--keep-original", &scratch.image("before"), &target]);
    scratch.ok(&["convert", "--keep-original", "--dedup-with", "auto", &scratch.image("kept"), &target]);
    let exported = |name: &str, options: &[&str]| {
        let layout = format!("oci:{}:x", scratch.path(name).display());
        scratch.ok(&[&["export"], options, &[&target, &layout]].concat());
        Digest::of(&skopeo(&["inspect", "--raw", &layout]))
    };
    assert_eq!(exported("back", &[]), source);
    assert_ne!(exported("rebuilt", &["--no-original"]), source);
}
