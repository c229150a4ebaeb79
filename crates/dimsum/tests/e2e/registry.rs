//! Images in a real registry (Debian's docker-registry on a loopback port), seen by skopeo as well.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dimsum_format::Digest;
use serde_json::{Value, json};

use crate::support::{Layer, Scratch, both, busybox, privileged, write_layout};

/// How long the registry may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry that ends with the test.
struct Registry {
    process: Child,
    config: std::path::PathBuf,
    address: String,
}

impl Registry {
    /// Starts one, or says why there is none.
    fn start(scratch: &Scratch) -> Option<Self> {
        if Command::new("docker-registry").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "CI must have docker-registry");
            println!("skipped: needs docker-registry");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = scratch.path("registry.yml");
        let blobs = scratch.path("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            blobs.display()
        );
        fs::write(&config, text).unwrap();
        let process = Self::spawn(&config, &address);
        Some(Self { process, config, address })
    }

    fn spawn(config: &Path, address: &str) -> Child {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < PATIENCE, "docker-registry does not listen");
            std::thread::yield_now();
        }
        process
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = Self::spawn(&self.config, &self.address);
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Puts the ordinary image of a layout there, with a program that is not ours.
    fn push(&self, layout: &str, name: &str) {
        skopeo(&["copy", "-q", "--dest-tls-verify=false", layout, &format!("docker://{}", self.image(name))]);
    }

    /// Returns the digest that skopeo sees.
    fn digest(&self, name: &str) -> Digest {
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", self.image(name))]);
        Digest::of(&raw)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}\n{}", both(&output));
    output.stdout
}

fn ordinary(scratch: &Scratch, name: &str) -> String {
    let process = json!({ "Cmd": ["cat", "/etc/motd"] });
    let upper = Layer::default().file("etc/motd", 0o644, b"hello from a registry\n").fifo("tmp/pipe");
    write_layout(&scratch.path(name), vec![busybox(), upper], process);
    scratch.image(name)
}

#[test]
fn privileged_an_image_is_converted_in_a_registry_and_run_from_there() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let (plain, converted) = (registry.image("app:v1"), registry.image("app:v1-dimsum"));
    let told: Value = serde_json::from_str(&scratch.ok(&["convert", &plain, &converted, "--format", "json"])).unwrap();
    let digest = told["manifest"].as_str().unwrap();
    assert_eq!(registry.digest("app:v1-dimsum").to_string(), digest);

    assert_eq!(scratch.ok(&["run", &converted]), "hello from a registry\n");
    assert_eq!(scratch.ok(&["run", "--fill", &converted]), "hello from a registry\n");
    assert_eq!(scratch.ok(&["cat", &converted, "/etc/motd"]), "hello from a registry\n");
    scratch.ok(&["check", &converted, "--data", "--against", &plain]);

    let tagged = scratch.output(&["run", "--require-digest", &converted]);
    assert_eq!(tagged.status.code(), Some(2), "{}", both(&tagged));
    let pinned = format!("{}@{digest}", registry.image("app"));
    assert_eq!(scratch.ok(&["run", "--require-digest", &pinned]), "hello from a registry\n");

    let missing = scratch.output(&["run", &registry.image("app:v2")]);
    assert_eq!(missing.status.code(), Some(1), "{}", both(&missing));
    assert!(both(&missing).contains("v2"), "{}", both(&missing));
}

#[test]
fn privileged_an_ordinary_image_of_a_registry_starts_again_without_it() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(mut registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let image = registry.image("app:v1");
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
    assert_eq!(fs::read_dir(scratch.store().join("incoming")).unwrap().count(), 0);
    registry.stop();
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
    let other = scratch.output(&["run", &registry.image("app:v9")]);
    assert_eq!(other.status.code(), Some(1), "{}", both(&other));
    assert!(both(&other).contains("next: "), "{}", both(&other));
    registry.start_again();
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
}

#[test]
fn privileged_a_filled_image_needs_its_registry_no_more() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(mut registry) = Registry::start(&scratch) else { return };
    let source = ordinary(&scratch, "source");
    let image = registry.image("app:v1-dimsum");
    scratch.ok(&["convert", &source, &image]);
    scratch.ok(&["store", "fill", &image]);
    registry.stop();
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
}

#[test]
fn a_copy_moves_only_what_is_missing_and_keeps_every_digest() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    let source = ordinary(&scratch, "source");
    let copy = |from: &str, to: &str| -> Value {
        serde_json::from_str(&scratch.ok(&["copy", from, to, "--format", "json"])).unwrap()
    };
    scratch.ok(&["convert", &source, &scratch.image("converted")]);
    let first = copy(&scratch.image("converted"), &registry.image("app:d"));
    assert_eq!(registry.digest("app:d").to_string(), first["digest"].as_str().unwrap());
    assert!(first["blobs_moved"].as_u64().unwrap() >= 3, "{first}");
    let again = copy(&scratch.image("converted"), &registry.image("app:d"));
    assert_eq!(again["blobs_moved"], 0, "{again}");
    let mounted = copy(&registry.image("app:d"), &registry.image("other:d"));
    assert_eq!((&mounted["blobs_moved"], &mounted["blobs_mounted"]), (&json!(0), &first["blobs_moved"]), "{mounted}");
    let archive = format!("oci-archive:{}:{}", scratch.path("archive.tar").display(), "test");
    assert_eq!(copy(&registry.image("other:d"), &archive)["digest"], first["digest"]);
    assert_eq!(copy(&archive, &scratch.image("back"))["digest"], first["digest"]);
    scratch.ok(&["check", &scratch.image("back"), "--data", "--against", &source]);
    // A program that is not ours reads what we wrote.
    let seen = skopeo(&["inspect", "--raw", &archive]);
    assert_eq!(Digest::of(&seen).to_string(), first["digest"].as_str().unwrap());
}

#[test]
fn an_index_keeps_its_shape_and_its_twins_are_found() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let (plain, both_of) = (registry.image("app:v1"), registry.image("app:both"));
    scratch.ok(&["convert", &plain, &both_of, "--with-original"]);
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{both_of}")]);
    let index: Value = serde_json::from_slice(&raw).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2, "{index}");
    // First the original, which other programs take; then its twin, which we take.
    assert_eq!(manifests[0]["digest"], registry.digest("app:v1").to_string());
    let twin: Value = serde_json::from_str(&scratch.ok(&["inspect", &both_of, "--format", "json"])).unwrap();
    assert_eq!(twin["manifest"], manifests[1]["digest"]);
}

#[test]
fn an_export_is_an_ordinary_image_with_the_same_tree() {
    let scratch = Scratch::new();
    let source = ordinary(&scratch, "source");
    scratch.ok(&["convert", &source, &scratch.image("converted")]);
    for (name, options) in [("layers", &[][..]), ("flat", &["--flatten"][..])] {
        let (from, to) = (scratch.image("converted"), scratch.image(name));
        scratch.ok(&[&["export", &from, &to][..], options].concat());
        scratch.ok(&["check", &from, "--against", &to]);
        let raw = skopeo(&["inspect", "--config", &to]);
        let config: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(config["config"]["Cmd"], json!(["cat", "/etc/motd"]));
    }
}
