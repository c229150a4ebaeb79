//! estimate with the real program.

use std::fs;

use serde_json::{Value, json};

use crate::registry::{Registry, skopeo};
use crate::support::{Layer, Scratch, both, busybox, privileged, write_layout};
use crate::views::noise;

fn layers() -> Vec<Layer> {
    let lower = Layer::default().file("base", 0o644, &noise(1, 300_000));
    vec![lower, Layer::default().file("top", 0o644, &noise(2, 20_000))]
}

/// Calls the program with temporary files in a directory of their own, which must be empty afterwards.
fn estimate(scratch: &Scratch, arguments: &[&str]) -> std::process::Output {
    let temporary = scratch.path("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let words = [&["estimate", "--format", "json"], arguments].concat();
    let output = scratch.dimsum(&words).env("TMPDIR", &temporary).output().unwrap();
    let left: Vec<_> = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    output
}

fn told(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{}", both(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_estimate_says_what_convert_would_make_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), layers(), json!({}));
    let (source, target) = (scratch.image("source"), scratch.image("target"));
    let before = told(&estimate(&scratch, &["--target", &target, &source]));
    assert!(!scratch.path("target").exists() && !scratch.store().exists());
    let stored = before["dimsum"]["stored_bytes"].as_u64().unwrap();
    assert!((320_000..330_000).contains(&stored), "{stored}");
    assert_eq!(before["ordinary"]["layers"], 2);
    assert_eq!((&before["target"]["present_bytes"], &before["node"]), (&json!(0), &Value::Null));
    assert!(before["target"]["push_bytes"].as_u64().unwrap() > stored);

    let converted = scratch.ok(&["convert", &source, &target, "--format", "json"]);
    let converted: Value = serde_json::from_str(&converted).unwrap();
    assert_eq!(before["dimsum"]["manifest"], converted["manifest"]);
    let after = told(&estimate(&scratch, &["--target", &target, &source]));
    assert_eq!(
        (&after["target"]["push_bytes"], &after["target"]["before"]["chunks"]["only_b"]["chunks"]),
        (&json!(0), &json!(0))
    );
    let same = told(&estimate(&scratch, &[&target]));
    assert_eq!((&same["dimsum"]["stored_bytes"], &same["ordinary"]), (&json!(stored), &Value::Null));
    // The options are those of convert.
    let other = told(&estimate(&scratch, &["--bundle-size", "32K", &source]));
    assert_ne!(other["dimsum"]["manifest"], converted["manifest"]);
}

#[test]
fn an_estimate_knows_what_a_target_and_this_node_have_of_it() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), layers(), json!({}));
    let mut more = layers();
    more.push(Layer::default().file("new", 0o644, &noise(3, 50_000)));
    write_layout(&scratch.path("more"), more, json!({}));
    let target = scratch.image("target");
    // The level of what is converted into a node's store, so that the packs are the same.
    scratch.ok(&["convert", "--level", "3", &scratch.image("source"), &target]);
    scratch.ok(&["ls", &scratch.image("source")]);
    let told = told(&estimate(&scratch, &["--level", "3", "--target", &target, &scratch.image("more")]));
    let stored = told["dimsum"]["stored_bytes"].as_u64().unwrap();
    let push = told["target"]["push_bytes"].as_u64().unwrap();
    assert!((50_000..60_000).contains(&push), "{push} of {stored}");
    let chunks = &told["target"]["before"]["chunks"];
    assert_eq!((&chunks["only_b"]["chunks"], &chunks["same_pack"]["chunks"]), (&json!(1), &json!(2)));
    assert_eq!(told["node"]["packs"], 2);
    assert!(told["node"]["present_bytes"].as_u64().unwrap() > 320_000);
}

#[test]
fn privileged_an_estimate_runs_a_command_and_counts_what_it_touches() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let never = Layer::default().file("never-read", 0o644, &noise(1, 3_000_000));
    write_layout(&scratch.path("source"), vec![busybox(), never], json!({}));
    let source = scratch.image("source");
    let links = ["--bandwidth", "1000,10", "--rtt", "20"];
    let words = [&links[..], &[&source, "sh", "-c", "echo to standard error; exit 3"]].concat();
    let output = estimate(&scratch, &words);
    let told = told(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("to standard error"), "{}", both(&output));
    let run = &told["run"];
    assert_eq!(run["exit_status"], 3);
    let (stored, fetched) = (told["dimsum"]["stored_bytes"].as_u64().unwrap(), run["fetched_bytes"].as_u64().unwrap());
    assert!(fetched > 100_000 && fetched < stored - 3_000_000, "{fetched} of {stored}");
    let requests = run["requests"].as_f64().unwrap();
    let ready = told["ready"].as_array().unwrap();
    let lazy = |link: usize| ready[link]["lazy_seconds"].as_f64().unwrap();
    assert!(lazy(0) > run["seconds"].as_f64().unwrap() + requests * 0.020, "{told}");
    let slower = lazy(1) - lazy(0);
    let must = fetched as f64 * 8.0 * (1.0 / 10e6 - 1.0 / 1000e6);
    assert!((slower - must).abs() < 1e-6, "{slower} is not {must}");
    assert!(ready[1]["pull_seconds"].as_f64().unwrap() > ready[0]["pull_seconds"].as_f64().unwrap());
    assert!(!scratch.store().exists());

    let missing = estimate(&scratch, &["--entrypoint", "/no/such", &source, "x"]);
    let seen: Value = serde_json::from_slice(&missing.stdout).unwrap_or(Value::Null);
    assert_eq!(seen["run"]["exit_status"], 127, "{}", both(&missing));
}

/// Bytes of all blobs that the registry holds, each once.
fn held(scratch: &Scratch) -> u64 {
    let (mut bytes, mut directories) = (0, vec![scratch.path("registry/docker/registry/v2/blobs")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => directories.push(entry.path()),
                metadata if entry.file_name() == "data" => bytes += metadata.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// Bytes of the manifest behind a name, which nobody counts among the blobs.
fn manifest_bytes(registry: &Registry, name: &str) -> u64 {
    let image = format!("docker://{}", registry.image(name));
    skopeo(&["inspect", "--raw", "--tls-verify=false", &image]).len() as u64
}

/// Four versions of an image: a base with programs, and one file that is new in each.
fn versions(scratch: &Scratch, registry: &Registry) {
    for version in 1..=4 {
        let base = busybox().dir("lib", 0o755).file("lib/large", 0o644, &noise(7, 900_000));
        let app = Layer::default().file("app", 0o644, &noise(100 + version, 150_000));
        let name = format!("app{version}");
        write_layout(&scratch.path(&name), vec![base, app], json!({}));
        registry.push(&scratch.image(&name), &format!("plain:{name}"));
    }
}

/// Estimates, converts with the same options, and compares to the byte what the registry then holds.
fn foretell(scratch: &Scratch, registry: &Registry, version: u64, target: &str, options: &[&str]) -> (Value, Value) {
    let (source, name) = (registry.image(&format!("plain:app{version}")), registry.image(target));
    let before = held(scratch);
    let foretold = told(&estimate(scratch, &[options, &["--target", &name, &source]].concat()));
    assert_eq!(held(scratch), before, "an estimate writes nothing there");
    let words = [&["convert", &source, &name, "--format", "json"], options].concat();
    let done: Value = serde_json::from_str(&scratch.ok(&words)).unwrap();
    assert_eq!(foretold["dimsum"]["manifest"], done["manifest"], "{options:?}");
    let stored = held(scratch) - before - manifest_bytes(registry, target);
    assert_eq!(foretold["target"]["push_bytes"], stored, "{options:?}\n{foretold}\n{done}");
    for key in ["foreign_packs", "foreign_content_bytes", "reused_packs", "mounted_bytes", "copied_bytes", "refused"] {
        assert_eq!(foretold["sharing"][key], done[key], "{options:?}: {key}");
    }
    (foretold, done)
}

#[test]
fn privileged_an_estimate_with_sharing_says_to_the_byte_what_convert_then_stores() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    versions(&scratch, &registry);
    let auto = ["--dedup-with", "auto"];
    // There is nothing of this name, then there is.
    scratch.ok(&["convert", &registry.image("plain:app1"), &registry.image("app:latest")]);
    let (update, _) = foretell(&scratch, &registry, 2, "app:latest", &auto);
    assert_eq!(update["sharing"]["foreign_packs"].as_array().unwrap().len(), 1, "{update}");
    assert!(update["target"]["push_bytes"].as_u64().unwrap() < 200_000, "{update}");
    let (_, last) = foretell(&scratch, &registry, 3, "app:latest", &auto);
    // Into a repository that has nothing: mounted from the one that has.
    let named = registry.image(&format!("app@{}", last["manifest"].as_str().unwrap()));
    let (mounted, _) = foretell(&scratch, &registry, 4, "elsewhere:v4", &["--dedup-with", &named]);
    assert!(mounted["sharing"]["mounted_bytes"].as_u64().unwrap() > 900_000, "{mounted}");
    // Packs of the same layers, unseen: no tags are left, so all that is stored is counted.
    let (reused, _) = foretell(&scratch, &registry, 2, "app:other", &["--reuse", "trust"]);
    assert_eq!(reused["sharing"]["reused_packs"].as_array().unwrap().len(), 1, "{reused}");

    // Into a layout they are copied, and it is not made before.
    let layout = scratch.image("layout");
    let words = ["--dedup-with", &named, "--target", &layout, &registry.image("plain:app3")];
    let foretold = told(&estimate(&scratch, &words));
    assert!(!scratch.path("layout").exists());
    let words = ["convert", "--dedup-with", &named, &registry.image("plain:app3"), &layout, "--format", "json"];
    let done: Value = serde_json::from_str(&scratch.ok(&words)).unwrap();
    assert_eq!(foretold["dimsum"]["manifest"], done["manifest"]);
    assert_eq!(foretold["sharing"]["copied_bytes"], done["copied_bytes"]);
    assert_eq!(foretold["target"]["push_bytes"], done["stored_bytes"]);

    // What makes no sense is said.
    for words in [&["--dedup-with", "auto"][..], &["--reuse", "verify"]] {
        let refused = estimate(&scratch, &[words, &[&*registry.image("plain:app3")]].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));
    }
    let refused = estimate(&scratch, &["--dedup-with", &named, &named]);
    assert!(both(&refused).contains("Dimsum image already"), "{}", both(&refused));
}

#[test]
fn privileged_an_estimate_runs_a_command_in_an_image_that_would_share() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    versions(&scratch, &registry);
    let (source, target) = (registry.image("plain:app2"), registry.image("app:latest"));
    scratch.ok(&["convert", &registry.image("plain:app1"), &target]);
    let elsewhere = registry.image("elsewhere:v1");
    let command = [&*source, "sh", "-c", "cat /lib/large /app | wc -c"];
    for words in
        [&["--target", &target, "--dedup-with", "auto"][..], &["--target", &elsewhere, "--dedup-with", &target]]
    {
        let output = estimate(&scratch, &[words, &command].concat());
        let told = told(&output);
        assert_eq!(told["run"]["exit_status"], 0, "{}", both(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains("1050000"), "{}", both(&output));
        assert_eq!(told["sharing"]["foreign_packs"].as_array().unwrap().len(), 1);
    }
}
